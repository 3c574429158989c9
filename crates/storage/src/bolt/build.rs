//! Trees from the bottom up: where pages end, and which page is over which.
//!
//! Pairs come in order and fill a leaf. A full leaf is given out; its first key and its number
//! become an element of the branch above, which fills and is given out in the same way. At the end
//! the last page of each level is given out, up to the level that has only one: the root.
//!
//! The same code runs in both passes. While sizing, a [`Piece`] has a length and no bytes.

use super::error::WriteError;
use super::page::{BUCKET_BYTES, BUCKET_FLAG, ELEMENT_BYTES, FIRST_PAGE, HEADER_BYTES};
use super::page::{Header, Kind, PageId};
use super::{KEY_BYTES_MAX, PAGE_BYTES, VALUE_BYTES_MAX};

/// How full a page gets before the next is begun, in bytes: 0.9, as etcd asks for where keys only
/// grow and when it defragments.
///
/// Source: etcd v3.7.1, `server/storage/backend/batch_tx.go`, `unsafePut`.
const FILL_BYTES: u64 = PAGE_BYTES as u64 * 9 / 10;
/// Elements that a page has at least, if the tree has them.
///
/// Source: bbolt v1.5.0, `internal/common/page.go`, `MinKeysPerPage`.
const ELEMENTS_MIN: usize = 2;
/// Elements for which there is room in a new page, about as many as a leaf of short pairs has.
const ELEMENTS_USUAL: usize = 32;
/// The longest page of an inline bucket, in bytes.
///
/// Source: bbolt v1.5.0, `bucket.go`, `maxInlineBucketSize`.
const INLINE_BYTES_MAX: u64 = PAGE_BYTES as u64 / 4;
/// No value begins behind this many bytes of its page, because 32 bits tell where.
const ELEMENT_START_MAX: u64 = u32::MAX as u64 - KEY_BYTES_MAX as u64;

// A page of the shortest pairs must not have more elements than its 16-bit count can tell, and
// two of the longest pairs must be able to share one.
const _: () = assert!(PAGE_BYTES / ELEMENT_BYTES < u16::MAX as usize);
const _: () = assert!((VALUE_BYTES_MAX as u64) < ELEMENT_START_MAX);

/// A key or a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    length: usize,
    /// Empty while sizing.
    bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let length = bytes.len();
        Self { length, bytes }
    }

    pub(super) fn sized(length: usize) -> Self {
        Self { length, bytes: &[] }
    }
}

/// What an element says beside key and value.
#[derive(Clone, Copy, Debug)]
enum Tag {
    Pair,
    Bucket,
    Child(PageId),
}

/// A page that is being filled.
#[derive(Debug, Default)]
pub(super) struct Block {
    elements: Vec<Element>,
    /// Keys and values in order.
    data: Vec<u8>,
    /// Length of the page so far, without its header.
    body_bytes: u64,
}

#[derive(Debug)]
struct Element {
    tag: Tag,
    key_length: usize,
    value_length: usize,
}

impl Block {
    fn push(&mut self, tag: Tag, key: Piece<'_>, value: Piece<'_>) {
        self.body_bytes += element_bytes(key, value);
        // At once what a usual page takes: it would grow in six steps, for each page again.
        if self.data.capacity() == 0 && !key.bytes.is_empty() {
            self.data.reserve(PAGE_BYTES.max(key.length + value.length));
        }
        self.data.extend_from_slice(key.bytes);
        self.data.extend_from_slice(value.bytes);
        if self.elements.capacity() == 0 {
            self.elements.reserve(ELEMENTS_USUAL);
        }
        self.elements.push(Element {
            tag,
            key_length: key.length,
            value_length: value.length,
        });
    }

    /// Length of the page, not filled up to the end of its last page, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.body_bytes
    }

    /// Number of pages that it takes.
    pub(super) fn pages(&self) -> u64 {
        self.bytes().div_ceil(PAGE_BYTES as u64)
    }

    fn first_key(&self) -> Piece<'_> {
        let length = self.elements.first().map_or(0, |first| first.key_length);
        // While sizing there are no bytes.
        let bytes = self.data.get(..length).unwrap_or_default();
        Piece { length, bytes }
    }

    /// What stands before the keys and values: header and table of elements.
    pub(super) fn table(&self, id: PageId, kind: Kind, overflow: u32) -> Vec<u8> {
        let table_bytes = self.elements.len() * ELEMENT_BYTES;
        let mut page = Vec::with_capacity(HEADER_BYTES + table_bytes);
        let header = Header {
            id,
            flags: kind.flags(),
            count: self.elements.len() as u16,
            overflow,
        };
        header.encode(&mut page);
        // A position counts from its own element.
        let mut position = table_bytes;
        for element in &self.elements {
            let place = (position as u32).to_le_bytes();
            let key_length = (element.key_length as u32).to_le_bytes();
            let value_length = (element.value_length as u32).to_le_bytes();
            match element.tag {
                Tag::Child(id) => {
                    page.extend_from_slice(&place);
                    page.extend_from_slice(&key_length);
                    page.extend_from_slice(&id.0.to_le_bytes());
                }
                Tag::Pair | Tag::Bucket => {
                    let is_bucket = matches!(element.tag, Tag::Bucket);
                    let flags = if is_bucket { BUCKET_FLAG } else { 0 };
                    page.extend_from_slice(&flags.to_le_bytes());
                    page.extend_from_slice(&place);
                    page.extend_from_slice(&key_length);
                    page.extend_from_slice(&value_length);
                }
            }
            position += element.key_length + element.value_length;
            position -= ELEMENT_BYTES;
        }
        page
    }

    /// The keys and values, which follow the table.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }
}

fn element_bytes(key: Piece<'_>, value: Piece<'_>) -> u64 {
    (ELEMENT_BYTES + key.length + value.length) as u64
}

/// Where finished pages go.
pub(super) trait Output {
    /// Takes a page run; its number is the next that is free.
    fn run(&mut self, id: PageId, kind: Kind, block: &Block) -> Result<(), WriteError>;
}

/// Gives numbers to pages.
#[derive(Debug)]
pub(super) struct Pages<O> {
    next: u64,
    pub(super) output: O,
}

impl<O: Output> Pages<O> {
    fn run(&mut self, kind: Kind, block: &Block) -> Result<PageId, WriteError> {
        let id = PageId(self.next);
        self.next += block.pages();
        self.output.run(id, kind, block)?;
        Ok(id)
    }
}

/// One level of a tree: the page that is being filled.
#[derive(Debug, Default)]
struct Level {
    page: Block,
    /// An element that no longer fits. It begins the next page when another one follows; alone it
    /// would make a page with too few.
    held: Block,
}

impl Level {
    /// Takes an element; gives back a page that is full.
    fn push(&mut self, tag: Tag, key: Piece<'_>, value: Piece<'_>) -> Option<Block> {
        let mut full = None;
        if !self.held.elements.is_empty() {
            full = Some(std::mem::take(&mut self.page));
            std::mem::swap(&mut self.page, &mut self.held);
        }
        let bytes = self.page.bytes() + element_bytes(key, value);
        if self.page.elements.len() >= ELEMENTS_MIN && bytes > FILL_BYTES {
            self.held.push(tag, key, value);
        } else {
            self.page.push(tag, key, value);
        }
        full
    }

    /// Gives back the last page, and the one before it if the last element cannot go into it.
    fn close(mut self) -> (Option<Block>, Block) {
        if self.page.bytes() > ELEMENT_START_MAX && !self.held.elements.is_empty() {
            return (Some(self.page), self.held);
        }
        self.page.elements.append(&mut self.held.elements);
        self.page.data.append(&mut self.held.data);
        self.page.body_bytes += self.held.body_bytes;
        (None, self.page)
    }
}

/// A tree that grows at its end.
#[derive(Debug, Default)]
struct Tree {
    /// From the leaves upwards.
    levels: Vec<Level>,
}

impl Tree {
    fn push<O: Output>(
        &mut self,
        pages: &mut Pages<O>,
        tag: Tag,
        key: Piece<'_>,
        value: Piece<'_>,
    ) -> Result<(), WriteError> {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let mut full = self.levels[0].push(tag, key, value);
        let mut height = 0;
        while let Some(block) = full {
            full = self.raise(pages, height, &block)?;
            height += 1;
        }
        Ok(())
    }

    /// Gives out a page of a level and enters it into the one above, which may be full then.
    fn raise<O: Output>(
        &mut self,
        pages: &mut Pages<O>,
        height: usize,
        block: &Block,
    ) -> Result<Option<Block>, WriteError> {
        let child = pages.run(kind(height), block)?;
        if self.levels.len() == height + 1 {
            self.levels.push(Level::default());
        }
        let key = block.first_key();
        let above = &mut self.levels[height + 1];
        Ok(above.push(Tag::Child(child), key, Piece::sized(0)))
    }

    /// Gives out all pages but the root, which is returned.
    fn finish<O: Output>(mut self, pages: &mut Pages<O>) -> Result<(Kind, Block), WriteError> {
        let mut height = 0;
        while let Some(level) = self.levels.get_mut(height) {
            let (before, last) = std::mem::take(level).close();
            if before.is_none() && self.levels.len() == height + 1 {
                return Ok((kind(height), last));
            }
            for block in before.iter().chain([&last]) {
                let mut full = self.raise(pages, height, block)?;
                let mut above = height + 1;
                while let Some(block) = full {
                    full = self.raise(pages, above, &block)?;
                    above += 1;
                }
            }
            height += 1;
        }
        Ok((Kind::Leaf, Block::default()))
    }
}

fn kind(height: usize) -> Kind {
    if height == 0 {
        Kind::Leaf
    } else {
        Kind::Branch
    }
}

/// All buckets of a file.
#[derive(Debug)]
pub(super) struct Builder<O> {
    pub(super) pages: Pages<O>,
    root: Tree,
    /// The bucket that is being filled, and its name.
    bucket: Option<(Vec<u8>, Tree)>,
}

impl<O: Output> Builder<O> {
    pub(super) fn new(output: O) -> Self {
        Self {
            pages: Pages {
                next: FIRST_PAGE.0,
                output,
            },
            root: Tree::default(),
            bucket: None,
        }
    }

    /// Begins a bucket and ends the one before.
    pub(super) fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        check_key_length(name.len())?;
        if let Some((before, _)) = &self.bucket
            && name <= before.as_slice()
        {
            return Err(WriteError::Order);
        }
        self.end_bucket()?;
        self.bucket = Some((name.to_vec(), Tree::default()));
        Ok(())
    }

    pub(super) fn pair(&mut self, key: Piece<'_>, value: Piece<'_>) -> Result<(), WriteError> {
        check_key_length(key.length)?;
        if value.length > VALUE_BYTES_MAX {
            return Err(WriteError::ValueLength(value.length));
        }
        let (_, tree) = self.bucket.as_mut().ok_or(WriteError::NoBucket)?;
        tree.push(&mut self.pages, Tag::Pair, key, value)
    }

    /// Ends the last bucket and the root: the number of pages, and which is the root.
    pub(super) fn finish(&mut self) -> Result<(u64, PageId), WriteError> {
        self.end_bucket()?;
        let (kind, block) = std::mem::take(&mut self.root).finish(&mut self.pages)?;
        let root = self.pages.run(kind, &block)?;
        Ok((self.pages.next, root))
    }

    fn end_bucket(&mut self) -> Result<(), WriteError> {
        let Some((name, tree)) = self.bucket.take() else {
            return Ok(());
        };
        let (kind, block) = tree.finish(&mut self.pages)?;
        // A small bucket follows its header; any other has its root page told there.
        let (root, inline) = if kind == Kind::Leaf && block.bytes() <= INLINE_BYTES_MAX {
            (PageId(0), Some(&block))
        } else {
            (self.pages.run(kind, &block)?, None)
        };
        let sequence = 0_u64;
        let mut value = [root.0.to_le_bytes(), sequence.to_le_bytes()].concat();
        let length = BUCKET_BYTES + inline.map_or(0, |block| block.bytes() as usize);
        if let Some(block) = inline {
            value.extend(block.table(PageId(0), kind, 0));
            value.extend_from_slice(block.data());
        }
        // While sizing the pairs of an inline bucket have no bytes, only its length is right.
        let bytes = &value[..];
        let value = Piece { length, bytes };
        self.root
            .push(&mut self.pages, Tag::Bucket, Piece::of(&name), value)
    }
}

fn check_key_length(length: usize) -> Result<(), WriteError> {
    if (1..=KEY_BYTES_MAX).contains(&length) {
        Ok(())
    } else {
        Err(WriteError::KeyLength(length))
    }
}
