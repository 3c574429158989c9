//! From a stream to files, and to a state.

use bytes::{Buf as _, Bytes, BytesMut};
use kvorum_proto::ids::LogIndex;
use kvorum_storage::checkpoint::{Listed, Manifest, StateError};
use kvorum_storage::segment::{Segment, SegmentId};
use kvorum_storage::vfs::Vfs;

use super::super::executor::Executor;
use super::super::open::{StateOfError, state_of};
use super::super::receive::{NUMBERS_PER_INDEX, ReceiveError, first_number, is_needed, numbers};
use super::{
    CHUNK_BYTES_MAX, CHUNK_HEAD_BYTES, FORM, HEAD_BYTES, Kind, MAGIC, MANIFEST_BYTES_MAX,
    StreamError, checksum,
};
use crate::apply::{Apply, Local};
use crate::disk_space;

/// Bytes that are written at once, past the page cache, and synced with the whole segment. Through the cache, the sync
/// of a segment of 64 MiB let a group of the log wait for 33 ms beside it; a sync behind each MiB lets none wait longer, and takes
/// three times as long for all of them.
const WRITE_BYTES: usize = 1 << 20;

/// Takes in a stream, as it comes, and writes its segments to files. One at a time in a directory.
///
/// After an error, and when the stream broke off, [`Receiving::give_up`] removes the files. A process that ends before
/// leaves them to its next start, which removes what no manifest lists.
#[derive(Debug)]
pub struct Receiving<V: Vfs> {
    executor: Executor<V>,
    named: LogIndex,
    /// What came of the next chunk.
    waiting: BytesMut,
    /// Of everything received so far.
    checksum: u32,
    has_begun: bool,
    has_ended: bool,
    segments: Vec<Segment>,
    /// The file of the segment behind these, once something of it is written.
    file: Option<V::File>,
    /// Bytes written to it.
    offset: u64,
    /// Bytes that come behind them.
    unwritten: BytesMut,
    manifest: BytesMut,
}

impl<V: Vfs> Receiving<V> {
    /// Of the state that was announced at the entry `named`. None when the own state is as new. Removes what an earlier
    /// one left behind. One at a time, as for [`receive`](super::super::receive()).
    ///
    /// # Errors
    ///
    /// [`ReceiveError::State`]; the process must stop.
    pub fn begin(executor: &Executor<V>, named: LogIndex) -> Result<Option<Self>, ReceiveError> {
        if !is_needed(executor, named)? {
            return Ok(None);
        }
        let receiving = Receiving {
            executor: executor.clone(),
            named,
            waiting: BytesMut::new(),
            checksum: 0,
            has_begun: false,
            has_ended: false,
            segments: Vec::new(),
            file: None,
            offset: 0,
            unwritten: BytesMut::new(),
            manifest: BytesMut::new(),
        };
        receiving.clear()?;
        Ok(Some(receiving))
    }

    /// The next bytes, in pieces of any size.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; for [`ReceiveError::State`] the process must stop, after another one this is to be given up.
    pub fn input(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.waiting.extend_from_slice(bytes);
        if !self.has_begun {
            if self.waiting.len() < HEAD_BYTES {
                return Ok(());
            }
            let head = self.waiting.split_to(HEAD_BYTES);
            self.head(&head)?;
        }
        while let Some((kind, chunk)) = self.next_chunk()? {
            self.chunk(kind, chunk)?;
        }
        Ok(())
    }

    /// Whether everything has come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.has_ended
    }

    /// The state, when everything has come: it counts after [`receive`](super::super::receive()).
    ///
    /// # Errors
    ///
    /// As for [`Receiving::input`]; then the files are gone.
    pub fn finish(mut self, local: Local) -> Result<Apply, ReceiveError> {
        let finished = self.state(local);
        if matches!(&finished, Err(error) if !error.is_of_own_disk()) {
            self.give_up()?;
        }
        finished
    }

    /// Removes the files.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::State`]; the process must stop.
    pub fn give_up(self) -> Result<(), ReceiveError> {
        Ok(self.clear()?)
    }

    fn clear(&self) -> Result<(), StateError> {
        let directory = self.executor.directory();
        directory.remove_segments(numbers(self.named))
    }

    fn head(&mut self, head: &[u8]) -> Result<(), StreamError> {
        let (magic, mut form) = head.split_at(MAGIC.len());
        let form = form.get_u32_le();
        if magic != MAGIC {
            return Err(StreamError::Magic);
        }
        if form > FORM {
            return Err(StreamError::Newer { found: form });
        }
        self.checksum = crc32c::crc32c(head);
        self.has_begun = true;
        Ok(())
    }

    fn next_chunk(&mut self) -> Result<Option<(Kind, Bytes)>, StreamError> {
        if self.has_ended && !self.waiting.is_empty() {
            return Err(StreamError::Longer);
        }
        let Some(mut head) = self.waiting.get(..CHUNK_HEAD_BYTES) else {
            return Ok(None);
        };
        let (byte, length, expected) = (head.get_u8(), head.get_u32_le(), head.get_u32_le());
        let (length, limit) = (length as usize, CHUNK_BYTES_MAX);
        if length > limit {
            return Err(StreamError::Length { length, limit });
        }
        if self.waiting.len() < CHUNK_HEAD_BYTES + length {
            return Ok(None);
        }
        self.waiting.advance(CHUNK_HEAD_BYTES);
        let bytes = self.waiting.split_to(length).freeze();
        let actual = checksum(self.checksum, byte, &bytes);
        if actual != expected {
            return Err(StreamError::Checksum { expected, actual });
        }
        self.checksum = actual;
        let kind = Kind::of(byte).ok_or(StreamError::Kind(byte))?;
        Ok(Some((kind, bytes)))
    }

    fn chunk(&mut self, kind: Kind, bytes: Bytes) -> Result<(), ReceiveError> {
        match kind {
            Kind::Segment | Kind::SegmentEnd if !self.manifest.is_empty() => {
                Err(StreamError::Kind(kind as u8).into())
            }
            Kind::Segment => self.add(&bytes),
            Kind::SegmentEnd => {
                self.add(&bytes)?;
                self.end_segment()
            }
            Kind::Manifest | Kind::ManifestEnd if self.is_in_segment() => {
                Err(StreamError::Kind(kind as u8).into())
            }
            Kind::Manifest | Kind::ManifestEnd => {
                let (length, limit) = (self.manifest.len() + bytes.len(), MANIFEST_BYTES_MAX);
                if length > limit {
                    return Err(StreamError::Length { length, limit }.into());
                }
                self.manifest.extend_from_slice(&bytes);
                self.has_ended = kind == Kind::ManifestEnd;
                Ok(())
            }
        }
    }

    /// The number of the segment that comes in.
    fn number(&self) -> Result<SegmentId, StreamError> {
        let count = self.segments.len();
        if count as u64 >= NUMBERS_PER_INDEX {
            let limit = NUMBERS_PER_INDEX as usize;
            return Err(StreamError::Length {
                length: count,
                limit,
            });
        }
        Ok(SegmentId(first_number(self.named.0).0 + count as u64))
    }

    /// Whether a segment has begun and not ended.
    fn is_in_segment(&self) -> bool {
        self.offset > 0 || !self.unwritten.is_empty()
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        self.unwritten.extend_from_slice(bytes);
        while self.unwritten.len() >= WRITE_BYTES {
            self.write(WRITE_BYTES)?;
        }
        Ok(())
    }

    /// Writes so many of the bytes that are there.
    fn write(&mut self, length: usize) -> Result<(), ReceiveError> {
        let id = self.number()?;
        let directory = self.executor.directory();
        disk_space::room(directory.space()?, length as u64)?;
        let mut file = match self.file.take() {
            Some(file) => file,
            None => directory.create_segment(id).map_err(StreamError::Write)?,
        };
        let bytes = self.unwritten.split_to(length);
        let written = directory.append_segment(id, &mut file, self.offset, &bytes);
        written.map_err(StreamError::Write)?;
        self.offset += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn end_segment(&mut self) -> Result<(), ReceiveError> {
        if !self.is_in_segment() {
            return Err(StreamError::Kind(Kind::SegmentEnd as u8).into());
        }
        if !self.unwritten.is_empty() {
            self.write(self.unwritten.len())?;
        }
        let number = self.segments.len() as u64;
        let id = self.number()?;
        self.file = None;
        self.offset = 0;
        match self.executor.directory().finish_segment(id) {
            Ok(segment) => self.segments.push(segment),
            Err(StateError::Segment { damage, .. }) => {
                return Err(StreamError::Segment { number, damage }.into());
            }
            // The file is new and given up as a whole, so it does not matter what of it the disk has.
            Err(error) if error.is_full_disk() => return Err(StreamError::Write(error).into()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn state(&mut self, local: Local) -> Result<Apply, ReceiveError> {
        if !self.has_ended {
            return Err(StreamError::Cut.into());
        }
        let manifest = Manifest::decode(&self.manifest.split().freeze());
        let mut manifest =
            manifest.map_err(|(offset, damage)| StreamError::Manifest { offset, damage })?;
        let (found, named) = (manifest.index, self.named);
        if found != named {
            return Err(ReceiveError::OtherEntry { found, named });
        }
        let count = self.segments.len() as u64;
        let first = first_number(named.0);
        let counted = manifest.next_segment.0.wrapping_sub(first.0);
        if counted != count || !manifest.segments.is_empty() {
            return Err(StreamError::Count {
                found: count,
                counted,
            }
            .into());
        }
        let segments = std::mem::take(&mut self.segments);
        manifest.segments = segments.iter().map(Listed::of).collect();
        let state = state_of(&manifest, segments, local).map_err(|error| match error {
            StateOfError::Body(error) => StreamError::Body(error),
            StateOfError::Store(error) => StreamError::History(error),
        })?;
        self.executor.directory().sync_names()?;
        Ok(state)
    }
}
