//! The manifest's bytes; see `docs/formats/checkpoint.md`.

use bytes::{Buf, BufMut, Bytes};
use kvorum_proto::ids::{LogIndex, Term};

use super::ManifestDamage;
use crate::segment::{Place, Segment, SegmentId};

const MAGIC: [u8; 8] = *b"KVORUMmf";
/// The format that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Magic, version, number of segments, index, term, next segment, length of the body.
const HEAD_BYTES: usize = 48;
/// Number, length, checksum, first place, last place.
const LISTED_BYTES: usize = 44;
const CHECKSUM_BYTES: usize = 4;

/// A state at one log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The last entry in it.
    pub index: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// No segment of this number or a higher one was ever made.
    pub next_segment: SegmentId,
    /// The segments that make the history, in its order. There may be none.
    pub segments: Vec<Listed>,
    /// Everything else.
    pub body: Bytes,
}

/// How a segment is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub id: SegmentId,
    /// Length of its file.
    pub file_bytes: u64,
    /// Checksum of its tables.
    pub checksum: u32,
    /// The first place in it.
    pub first: Place,
    /// The last place in it.
    pub last: Place,
}

impl Listed {
    /// The list entry of a segment.
    #[must_use]
    pub fn of(segment: &Segment) -> Self {
        Listed {
            id: segment.id(),
            file_bytes: segment.file_bytes(),
            checksum: segment.checksum(),
            first: segment.first(),
            last: segment.last(),
        }
    }
}

impl Manifest {
    /// The bytes of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let list_bytes = self.segments.len() * LISTED_BYTES;
        let length = HEAD_BYTES + list_bytes + self.body.len() + 2 * CHECKSUM_BYTES;
        let mut out = Vec::with_capacity(length);
        out.put_slice(&MAGIC);
        out.put_u32_le(VERSION);
        out.put_u32_le(self.segments.len() as u32);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.next_segment.0);
        out.put_u64_le(self.body.len() as u64);
        for listed in &self.segments {
            out.put_u64_le(listed.id.0);
            out.put_u64_le(listed.file_bytes);
            out.put_u32_le(listed.checksum);
            put_place(listed.first, &mut out);
            put_place(listed.last, &mut out);
        }
        out.put_u32_le(crc32c::crc32c(&out));
        out.put_slice(&self.body);
        out.put_u32_le(crc32c::crc32c(&self.body));
        out
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    ///
    /// Offset and damage when the bytes cannot be those of a manifest.
    pub fn decode(file: &Bytes) -> Result<Self, (u64, ManifestDamage)> {
        let length = file.len() as u64;
        let wrong_length = (length, ManifestDamage::Length { length });
        if !file.starts_with(&MAGIC) {
            let damage = if MAGIC.starts_with(file) {
                ManifestDamage::Length { length }
            } else {
                ManifestDamage::Magic
            };
            return Err((0, damage));
        }
        if file.len() < HEAD_BYTES {
            return Err(wrong_length);
        }
        let mut head = file.slice(MAGIC.len()..HEAD_BYTES);
        let (found, known) = (head.get_u32_le(), VERSION);
        if found > known {
            return Err((8, ManifestDamage::Newer { found, known }));
        }
        let count = head.get_u32_le() as usize;
        let list_end = HEAD_BYTES + count * LISTED_BYTES;
        let body_start = list_end + CHECKSUM_BYTES;
        if file.len() < body_start + CHECKSUM_BYTES {
            return Err(wrong_length);
        }
        check(&file[..list_end], &file[list_end..body_start]).map_err(|damage| (0, damage))?;
        let index = LogIndex(head.get_u64_le());
        let term = Term(head.get_u64_le());
        let next_segment = SegmentId(head.get_u64_le());
        let body_end = file.len() - CHECKSUM_BYTES;
        if head.get_u64_le() != (body_end - body_start) as u64 {
            return Err(wrong_length);
        }
        let body = file.slice(body_start..body_end);
        check(&body, &file[body_end..]).map_err(|damage| (body_start as u64, damage))?;
        let mut list = &file[HEAD_BYTES..list_end];
        let segments: Vec<Listed> = (0..count).map(|_| listed(&mut list)).collect();
        let mut pairs = segments.iter().zip(segments.iter().skip(1));
        let ordered = segments.iter().all(|listed| listed.first <= listed.last)
            && pairs.all(|(a, b)| a.last < b.first);
        if !ordered {
            return Err((HEAD_BYTES as u64, ManifestDamage::Order));
        }
        Ok(Manifest {
            index,
            term,
            next_segment,
            segments,
            body,
        })
    }
}

fn check(bytes: &[u8], mut checksum: &[u8]) -> Result<(), ManifestDamage> {
    let expected = checksum.get_u32_le();
    let actual = crc32c::crc32c(bytes);
    if actual == expected {
        Ok(())
    } else {
        Err(ManifestDamage::Checksum { expected, actual })
    }
}

fn put_place(place: Place, out: &mut Vec<u8>) {
    out.put_i64_le(place.main);
    out.put_u32_le(u32::try_from(place.sub).expect("a place in a segment has a 32-bit sub"));
}

fn place(list: &mut &[u8]) -> Place {
    Place {
        main: list.get_i64_le(),
        sub: i64::from(list.get_u32_le()),
    }
}

fn listed(list: &mut &[u8]) -> Listed {
    Listed {
        id: SegmentId(list.get_u64_le()),
        file_bytes: list.get_u64_le(),
        checksum: list.get_u32_le(),
        first: place(list),
        last: place(list),
    }
}
