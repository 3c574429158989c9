//! The two walks that make a file, in steps.

use std::fmt;

use bytes::buf::Writer as Buffer;
use bytes::{BufMut as _, Bytes, BytesMut};
use kvorum_storage::bolt::{Layout, Sizer, WriteError, Writer};
use kvorum_storage::segment::Damage;
use thiserror::Error;

use super::{Backend, Item, Length};

type Items<'a> = Box<dyn Iterator<Item = Result<Item, Damage>> + Send + 'a>;
type Lengths<'a> = Box<dyn Iterator<Item = Result<Length, Damage>> + Send + 'a>;

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
    items: Items<'a>,
    /// None once all is written.
    writer: Option<Writer<Buffer<BytesMut>>>,
    /// The end of the file, once all is written.
    rest: BytesMut,
}

impl<'a> Encoding<'a> {
    /// Before its first blob. `layout` is of the same backend.
    ///
    /// # Errors
    ///
    /// None while the output is memory; the type is shared with the other calls.
    pub fn new(backend: &'a Backend, layout: Layout) -> Result<Self, WriteError> {
        let writer = Writer::new(BytesMut::new().writer(), layout)?;
        Ok(Self {
            items: Box::new(backend.items()),
            writer: Some(writer),
            rest: BytesMut::new(),
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
        while let Some(writer) = &mut self.writer {
            let written = writer.output_mut().get_mut();
            if written.len() >= bytes {
                return Ok(Some(written.split_to(bytes).freeze()));
            }
            match self.items.next().transpose()? {
                Some(Item::Bucket(name)) => writer.bucket(name)?,
                Some(Item::Pair { key, value }) => writer.pair(&key, &value)?,
                None => {
                    if let Some(writer) = self.writer.take() {
                        self.rest = writer.finish()?.into_inner();
                    }
                }
            }
        }
        let last = bytes.min(self.rest.len());
        Ok((last > 0).then(|| self.rest.split_to(last).freeze()))
    }
}

impl fmt::Debug for Encoding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").finish_non_exhaustive()
    }
}
