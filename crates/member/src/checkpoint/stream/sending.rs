//! From a state to a stream.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use kvorum_mvcc::SegmentImage;
use kvorum_storage::checkpoint::Manifest;
use kvorum_storage::segment::{Damage, MergeStep};

use super::super::body::encode_body;
use super::super::receive::first_number;
use super::{CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, FORM, HEAD_BYTES, Kind, MAGIC, checksum};
use crate::backend::Backend;

/// What one step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendStep {
    /// So many bytes of the state were read, and there is nothing to send yet.
    Read(usize),
    /// The next bytes of the stream.
    Bytes(Bytes),
    /// That was all.
    End,
}

/// Makes the stream of a state, in steps. It holds the state, which never changes: it may take its time.
#[derive(Debug)]
pub struct Sending {
    segments: VecDeque<SegmentImage>,
    manifest: Bytes,
    /// What is made and not sent, and what it is when its last chunk leaves.
    made: Bytes,
    made_ends: Option<Kind>,
    /// Of everything sent so far.
    checksum: u32,
    has_begun: bool,
    has_ended: bool,
}

impl Sending {
    /// Of this state.
    #[must_use]
    pub fn new(state: &Backend) -> Self {
        let metadata = state.metadata();
        let first = first_number(metadata.index());
        let (image, segments) = state.keys().export(first);
        let manifest = Manifest {
            index: kvorum_proto::ids::LogIndex(metadata.index()),
            term: kvorum_proto::ids::Term(metadata.term()),
            next_segment: image.next_segment,
            // The receiver makes its own list, of what it has.
            segments: Vec::new(),
            body: encode_body(state, &image),
        };
        Sending {
            segments: segments.into(),
            manifest: manifest.encode().into(),
            made: Bytes::new(),
            made_ends: None,
            checksum: 0,
            has_begun: false,
            has_ended: false,
        }
    }

    /// Goes on. After [`SendStep::End`] it stays there.
    ///
    /// # Errors
    ///
    /// [`Damage`] of a file of this member. What was sent so far is of no use to anybody.
    pub fn step(&mut self) -> Result<SendStep, Damage> {
        if !self.has_begun {
            self.has_begun = true;
            let mut head = BytesMut::with_capacity(HEAD_BYTES);
            head.put_slice(&MAGIC);
            head.put_u32_le(FORM);
            self.checksum = crc32c::crc32c(&head);
            return Ok(SendStep::Bytes(head.freeze()));
        }
        if self.made.is_empty() && self.made_ends.is_none() {
            return self.make();
        }
        let piece = self.made.split_to(self.made.len().min(CHUNK_BYTES_MAX));
        let kind = match self.made_ends {
            Some(end) if self.made.is_empty() => {
                self.made_ends = None;
                self.has_ended = end == Kind::ManifestEnd;
                end
            }
            Some(Kind::ManifestEnd) => Kind::Manifest,
            _ => Kind::Segment,
        };
        Ok(SendStep::Bytes(self.chunk(kind, &piece)))
    }

    /// Makes more of what is to be sent.
    fn make(&mut self) -> Result<SendStep, Damage> {
        if self.has_ended {
            return Ok(SendStep::End);
        }
        let Some(segment) = self.segments.front_mut() else {
            self.made = std::mem::take(&mut self.manifest);
            self.made_ends = Some(Kind::ManifestEnd);
            return Ok(SendStep::Read(self.made.len()));
        };
        match segment.step(CHUNK_BYTES_MAX)? {
            MergeStep::Chunk(bytes) => self.made = bytes,
            MergeStep::Last(bytes) => {
                self.made = bytes;
                self.made_ends = Some(Kind::SegmentEnd);
                self.segments.pop_front();
            }
            // Nothing is left out of what is sent, so no segment comes out empty.
            MergeStep::Empty => drop(self.segments.pop_front()),
        }
        Ok(SendStep::Read(CHUNK_BYTES_MAX))
    }

    fn chunk(&mut self, kind: Kind, bytes: &[u8]) -> Bytes {
        self.checksum = checksum(self.checksum, kind as u8, bytes);
        let mut chunk = BytesMut::with_capacity(CHUNK_HEAD_BYTES + bytes.len());
        chunk.put_u8(kind as u8);
        chunk.put_u32_le(bytes.len() as u32);
        chunk.put_u32_le(self.checksum);
        // Copied, so that whoever sends it never waits for a page of the file.
        chunk.put_slice(bytes);
        chunk.freeze()
    }
}
