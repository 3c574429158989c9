//! Large writes past the page cache.
//!
//! What is large is copied into the page cache page by page, written from there, and then stands in memory that nobody
//! reads: the log is read at the next start only, of a state that came from elsewhere a value when a client asks for it. Written directly, 1 MiB costs a fifth of the CPU. The disk takes such
//! writes in whole blocks from aligned memory, so the ragged ends go the ordinary way, and one sync makes all of it
//! durable.
//!
//! Invariant: nobody else writes the blocks of the aligned middle while it is written.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;

/// Writes shorter than this are not worth the two further calls.
pub(super) const DIRECT_BYTES_MIN: usize = 128 << 10;

/// Place, length and memory of a direct write are multiples of this: no disk has larger blocks.
const BLOCK_BYTES: usize = 4096;

/// Bytes copied into aligned memory and written at once.
const PIECE_BYTES: usize = 1 << 20;

/// Writes a file directly, until the system says that it cannot.
#[derive(Debug, Default)]
pub(super) struct Direct {
    refused: bool,
    /// One piece and what is needed to align it; empty until the first direct write.
    memory: Vec<u8>,
}

impl Direct {
    /// Writes all bytes, which are not durable yet; false when this file takes no such writes and none was made.
    pub(super) fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        if self.refused || bytes.len() < DIRECT_BYTES_MIN {
            return Ok(false);
        }
        let flags = rustix::fs::fcntl_getfl(file)?;
        if rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_err() {
            self.refused = true;
            return Ok(false);
        }
        let middle = aligned(offset, bytes.len());
        let written = self.write_pieces(file, offset, &bytes[middle.clone()], middle.start);
        rustix::fs::fcntl_setfl(file, flags)?;
        match written {
            Ok(()) => {}
            // Some file systems refuse only the write. What it made of the range is written over.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused = true;
                self.memory = Vec::new();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        file.write_all_at(&bytes[..middle.start], offset)?;
        file.write_all_at(&bytes[middle.end..], offset + middle.end as u64)?;
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn is_in_use(&self) -> bool {
        !self.memory.is_empty()
    }

    #[cfg(test)]
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    fn write_pieces(
        &mut self,
        file: &File,
        offset: u64,
        middle: &[u8],
        start: usize,
    ) -> io::Result<()> {
        self.memory.resize(PIECE_BYTES + BLOCK_BYTES, 0);
        let from = self.memory.as_ptr().align_offset(BLOCK_BYTES);
        let Some(room) = self.memory.get_mut(from..from.saturating_add(PIECE_BYTES)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut at = offset + start as u64;
        for piece in middle.chunks(PIECE_BYTES) {
            let room = &mut room[..piece.len()];
            room.copy_from_slice(piece);
            file.write_all_at(room, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// The part of so many bytes at a place in a file that is whole blocks of it.
fn aligned(offset: u64, length: usize) -> Range<usize> {
    let block = BLOCK_BYTES as u64;
    // Less than a block each, so they fit.
    let before = (offset.wrapping_neg() % block) as usize;
    let behind = ((offset + length as u64) % block) as usize;
    if before + behind >= length {
        return length..length;
    }
    before..length - behind
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, aligned};

    #[test]
    fn the_middle_is_whole_blocks_and_leaves_less_than_one_at_each_end() {
        let block = BLOCK_BYTES as u64;
        for offset in [0, 8, 4088, 4096, 4104, 63_999_992] {
            for length in [0, 8, 4088, 4096, 8192, 70_000, 1 << 20] {
                let middle = aligned(offset, length);
                assert!(middle.end <= length);
                if middle.is_empty() {
                    assert!(length < 2 * BLOCK_BYTES, "{offset} {length}");
                    continue;
                }
                assert!((offset + middle.start as u64).is_multiple_of(block));
                assert!((offset + middle.end as u64).is_multiple_of(block));
                assert!(middle.start < BLOCK_BYTES && length - middle.end < BLOCK_BYTES);
            }
        }
    }
}
