//! Mapping a file into memory: the only place in the workspace with `unsafe` in it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;
use memmap2::Mmap;

/// The bytes of a file that nobody changes any more, read from the page cache on demand.
pub(super) fn map(file: &File) -> io::Result<Bytes> {
    if file.metadata()?.len() == 0 {
        // An empty mapping is an error on some systems.
        return Ok(Bytes::new());
    }
    // SAFETY: the bytes behind a shared slice must not change. `VfsFile::map` is for files that
    // are complete: this process writes them no more, and never cuts them; a removed file lives
    // until its last mapping is gone. Other processes are kept out by the lock of the data
    // directory, and its mode bits let nobody but the owner in. An owner who edits a file beneath
    // a running member changes data that each reader has checked by its own checksum at each
    // read; one who cuts it ends the process by a signal.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}
