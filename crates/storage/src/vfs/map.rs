//! Mapping a file into memory: the only place in the workspace with `unsafe` in it.
//!
//! Whoever looks up single changes touches a page here and a page there, so the system is asked not to
//! read around them: a page that is missing costs one read of a page, where it would cost 128 KiB, most
//! of them for nothing, and memory that other pages have to leave. Whoever walks over a file says so
//! ahead of its steps ([`Mapped::will_need`]).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::{Advice, Mmap};

/// The bytes of a file that nobody writes any more. A clone shares them.
#[derive(Clone, Debug)]
pub struct Mapped {
    bytes: Bytes,
    /// None where the bytes are in memory anyway.
    map: Option<Arc<Mmap>>,
}

impl Mapped {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Asks the system to read these bytes from the disk before they are looked at, and does not wait for
    /// it. What lies beyond the end is left out. Nothing depends on it but time.
    pub fn will_need(&self, range: Range<usize>) {
        let end = range.end.min(self.bytes.len());
        if let Some(map) = &self.map
            && range.start < end
        {
            // A system that cannot reads each page when it is touched.
            let _ = map.advise_range(Advice::WillNeed, range.start, end - range.start);
        }
    }
}

impl From<Bytes> for Mapped {
    fn from(bytes: Bytes) -> Self {
        Mapped { bytes, map: None }
    }
}

/// The bytes of a file that nobody changes any more, read from the page cache on demand.
pub(super) fn map(file: &File) -> io::Result<Mapped> {
    if file.metadata()?.len() == 0 {
        // An empty mapping is an error on some systems.
        return Ok(Bytes::new().into());
    }
    // SAFETY: the bytes behind a shared slice must not change. `VfsFile::map` is for files that
    // are complete: this process writes them no more, and never cuts them; a removed file lives
    // until its last mapping is gone. Other processes are kept out by the lock of the data
    // directory, and its mode bits let nobody but the owner in. An owner who edits a file beneath
    // a running member changes data that each reader has checked by its own checksum at each
    // read; one who cuts it ends the process by a signal.
    let map = Arc::new(unsafe { Mmap::map(file) }?);
    // A system that cannot reads more than is asked for.
    let _ = map.advise(Advice::Random);
    Ok(Mapped {
        bytes: Bytes::from_owner(Whole(Arc::clone(&map))),
        map: Some(map),
    })
}

/// The bytes of a map that others share.
struct Whole(Arc<Mmap>);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
