//! The two walks that make a file, in steps.

use std::fmt;

use bytes::Bytes;
use kvorum_storage::bolt::{Layout, Sizer, WriteError, Writer};
use kvorum_storage::segment::Damage;
use thiserror::Error;

use super::{Backend, Item, Length, Piece};

type Pieces<'a> = Box<dyn Iterator<Item = Result<Piece<'a>, Damage>> + Send + 'a>;
type Lengths<'a> = Box<dyn Iterator<Item = Result<Length, Damage>> + Send + 'a>;

/// Room behind a blob for the pages that its last step adds, unless their values are long.
const SPARE_BYTES: usize = 16 * 1024;

/// Why no file can be made.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The file cannot be made of this state.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A file that holds the state is damaged. The process must stop.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

/// The first walk: where everything will lie.
pub struct Sizing<'a> {
    lengths: Lengths<'a>,
    sizer: Sizer,
}

impl<'a> Sizing<'a> {
    /// Before its first step.
    pub fn new(backend: &'a Backend) -> Self {
        Self {
            lengths: Box::new(backend.lengths()),
            sizer: Sizer::new(),
        }
    }

    /// Looks at the lengths of up to `items_max` pairs. False when none is left, and the layout can be had.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when a pair does not fit the format or cannot be read.
    pub fn step(&mut self, items_max: usize) -> Result<bool, BackendError> {
        for _ in 0..items_max {
            match self.lengths.next().transpose()? {
                Some(Length::Bucket(name)) => self.sizer.bucket(name)?,
                Some(Length::Pair { key, value }) => self.sizer.pair(key, value)?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The layout, after the last step.
    ///
    /// # Errors
    ///
    /// As in [`Sizer::finish`].
    pub fn finish(self) -> Result<Layout, WriteError> {
        self.sizer.finish()
    }
}

impl fmt::Debug for Sizing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sizing").finish_non_exhaustive()
    }
}

/// The second walk: the bytes, cut into blobs.
///
/// It holds the blob that it is about to give out, and a page per level of a tree; a page is as long
/// as the longest pair in it needs.
pub struct Encoding<'a> {
    pieces: Pieces<'a>,
    /// None once all is written.
    writer: Option<Writer<Vec<u8>>>,
    /// Bytes at the front of what is written that were given out: long values are copied out of it in pieces.
    given: usize,
    /// The end of the file, once all is written.
    rest: Vec<u8>,
}

impl<'a> Encoding<'a> {
    /// Before its first blob. `layout` is of the same backend.
    ///
    /// # Errors
    ///
    /// None while the output is memory; the type is shared with the other calls.
    pub fn new(backend: &'a Backend, layout: Layout) -> Result<Self, WriteError> {
        Ok(Self {
            pieces: Box::new(backend.pieces()),
            writer: Some(Writer::new(Vec::new(), layout)?),
            given: 0,
            rest: Vec::new(),
        })
    }

    /// The next blob: `bytes` long, but for the last one, which may be shorter. None at the end of
    /// the file.
    ///
    /// # Errors
    ///
    /// [`WriteError::Layout`] when the layout is of another backend, or damage; blobs given out are
    /// no file.
    pub fn blob(&mut self, bytes: usize) -> Result<Option<Bytes>, BackendError> {
        let blob = self.blob_for(bytes, Vec::new())?;
        Ok(blob.map(Bytes::from))
    }

    /// The same, with a buffer for what comes behind the blob: memory that was used before costs less
    /// than new one.
    ///
    /// # Errors
    ///
    /// As [`Encoding::blob`].
    pub fn blob_for(
        &mut self,
        bytes: usize,
        mut buffer: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, BackendError> {
        while let Some(writer) = &mut self.writer {
            let written = writer.output_mut();
            let (start, end) = (self.given, self.given + bytes);
            if written.len() >= end {
                buffer.clear();
                if start > 0 || written.len() - end > SPARE_BYTES {
                    buffer.extend_from_slice(&written[start..end]);
                    self.given = end;
                    return Ok(Some(buffer));
                }
                buffer.reserve(bytes + SPARE_BYTES);
                buffer.extend_from_slice(&written[end..]);
                written.truncate(end);
                return Ok(Some(std::mem::replace(written, buffer)));
            }
            written.drain(..std::mem::take(&mut self.given));
            match self.pieces.next().transpose()? {
                Some(Piece::Change { key, pair }) => {
                    let (key, length) = key.encode_in_place();
                    writer.pair(&key[..length], pair)?;
                }
                Some(Piece::Item(Item::Bucket(name))) => writer.bucket(name)?,
                Some(Piece::Item(Item::Pair { key, value })) => writer.pair(&key, &value)?,
                None => {
                    if let Some(writer) = self.writer.take() {
                        self.rest = writer.finish()?;
                    }
                }
            }
        }
        let behind = self.rest.split_off(bytes.min(self.rest.len()));
        let last = std::mem::replace(&mut self.rest, behind);
        Ok((!last.is_empty()).then_some(last))
    }
}

impl fmt::Debug for Encoding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").finish_non_exhaustive()
    }
}
