//! A file as a stream of bytes that are written once, from the first to the last.

use std::io::{self, Write};

use super::VfsFile;

/// Bytes gathered for one write to the disk.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a new file from its beginning. What was written is durable after
/// [`FileOutput::finish`], and not before.
#[derive(Debug)]
pub struct FileOutput<F> {
    file: F,
    buffer: Vec<u8>,
    /// Where the buffer belongs in the file.
    offset: u64,
}

impl<F: VfsFile> FileOutput<F> {
    /// At the beginning of an empty file.
    pub fn new(file: F) -> Self {
        Self {
            file,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: 0,
        }
    }

    /// Writes what is left and makes everything durable; gives the file back, and its length.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn finish(mut self) -> io::Result<(F, u64)> {
        self.flush()?;
        self.file.sync()?;
        Ok((self.file, self.offset))
    }
}

impl<F: VfsFile> Write for FileOutput<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let room = BUFFER_BYTES - self.buffer.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.buffer.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.offset, &self.buffer)?;
            self.offset += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
