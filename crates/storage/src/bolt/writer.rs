//! The writer: a whole file from sorted pairs, in two passes.

use std::io::Write;

use super::PAGE_BYTES;
use super::build::{Block, Builder, Output, Piece};
use super::error::WriteError;
use super::meta::{Meta, NO_FREELIST};
use super::page::{Kind, PageId};

/// The transaction that the file says it is from. The second meta page has the one before, as in a
/// snapshot that bbolt makes.
///
/// Source: bbolt v1.5.0, `tx.go`, `WriteTo`.
const TRANSACTION: u64 = 2;

/// Where things will lie in a file, known before its first byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pages: u64,
    root: PageId,
}

impl Layout {
    /// Exact length of the file, in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// The first pass: takes the lengths of all pairs and makes the layout.
#[derive(Debug)]
pub struct Sizer {
    builder: Builder<Nowhere>,
}

#[derive(Debug)]
struct Nowhere;

impl Output for Nowhere {
    fn run(&mut self, _id: PageId, _kind: Kind, _block: &Block) -> Result<(), WriteError> {
        Ok(())
    }
}

impl Sizer {
    /// A layout without buckets yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            builder: Builder::new(Nowhere),
        }
    }

    /// Begins a bucket; names ascend.
    ///
    /// # Errors
    ///
    /// [`WriteError::KeyLength`], [`WriteError::Order`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.builder.bucket(name)
    }

    /// Adds a pair to the bucket begun last; the lengths are in bytes.
    ///
    /// # Errors
    ///
    /// [`WriteError::KeyLength`], [`WriteError::ValueLength`], [`WriteError::NoBucket`].
    pub fn pair(&mut self, key_bytes: usize, value_bytes: usize) -> Result<(), WriteError> {
        self.builder
            .pair(Piece::sized(key_bytes), Piece::sized(value_bytes))
    }

    /// The layout of a file with these pairs.
    ///
    /// # Errors
    ///
    /// None in this pass; the type is shared with the second.
    pub fn finish(mut self) -> Result<Layout, WriteError> {
        let (pages, root) = self.builder.finish()?;
        Ok(Layout { pages, root })
    }
}

impl Default for Sizer {
    fn default() -> Self {
        Self::new()
    }
}

/// The second pass: takes the pairs themselves and writes the file from its first byte to its last.
///
/// The output may be drained in between, see [`Writer::output_mut`]; what a step adds to it is at
/// most one page run per level of a tree, in three parts each: give a file a buffer. After an error the output is no valid file.
#[derive(Debug)]
pub struct Writer<W> {
    builder: Builder<Stream<W>>,
    layout: Layout,
    /// The key before, to check the order; cleared with each bucket.
    last_key: Vec<u8>,
}

#[derive(Debug)]
struct Stream<W> {
    output: W,
    /// Number of pages that the layout has.
    pages: u64,
}

impl<W: Write> Output for Stream<W> {
    fn run(&mut self, id: PageId, kind: Kind, block: &Block) -> Result<(), WriteError> {
        let pages = block.pages();
        if id.0 + pages > self.pages {
            return Err(WriteError::Layout);
        }
        let table = block.table(id, kind, (pages - 1) as u32);
        let unused = pages * PAGE_BYTES as u64 - block.bytes();
        let zeros = &[0; PAGE_BYTES][..unused as usize];
        for part in [&table, block.data(), zeros] {
            self.output.write_all(part).map_err(WriteError::Output)?;
        }
        Ok(())
    }
}

impl<W: Write> Writer<W> {
    /// Begins a file and writes its meta pages.
    ///
    /// # Errors
    ///
    /// [`WriteError::Output`].
    pub fn new(mut output: W, layout: Layout) -> Result<Self, WriteError> {
        for (id, transaction) in [(0, TRANSACTION), (1, TRANSACTION - 1)] {
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: layout.root,
                freelist: NO_FREELIST,
                pages: layout.pages,
                transaction,
            };
            output
                .write_all(&meta.encode(PageId(id)))
                .map_err(WriteError::Output)?;
        }
        let pages = layout.pages;
        Ok(Self {
            builder: Builder::new(Stream { output, pages }),
            layout,
            last_key: Vec::new(),
        })
    }

    /// Begins a bucket; names ascend.
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.last_key.clear();
        self.builder.bucket(name)
    }

    /// Adds a pair to the bucket begun last; keys ascend.
    ///
    /// # Errors
    ///
    /// Any [`WriteError`].
    pub fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        if key <= self.last_key.as_slice() && !key.is_empty() {
            return Err(WriteError::Order);
        }
        self.builder.pair(Piece::of(key), Piece::of(value))?;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// The output, for a caller that takes away what is in it.
    pub fn output_mut(&mut self) -> &mut W {
        &mut self.builder.pages.output.output
    }

    /// Writes what is left and gives the output back. It is not flushed.
    ///
    /// # Errors
    ///
    /// [`WriteError::Layout`], [`WriteError::Output`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        let (pages, root) = self.builder.finish()?;
        if (Layout { pages, root }) != self.layout {
            return Err(WriteError::Layout);
        }
        Ok(self.builder.pages.output.output)
    }
}
