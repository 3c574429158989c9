//! The reader: an open file and its buckets.

use std::io;
use std::ops::Range;

use crate::vfs::VfsFile;

use super::cursor::{Cursor, Pairs};
use super::error::{MetaDamage, PageDamage, ReadError};
use super::meta::{META_PAGE_BYTES, Meta, NO_FREELIST, PAGE_SIZES};
use super::page::{BUCKET_BYTES, FIRST_PAGE, HEADER_BYTES, Header, Kind, Page, PageId};

/// Bytes that can be read at any place: a file, or a slice in memory.
pub trait Source {
    /// Length in bytes.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn length(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes; fewer only at the end, 0 beyond it.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl<F: VfsFile> Source for F {
    fn length(&self) -> io::Result<u64> {
        VfsFile::length(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        VfsFile::read_at(self, offset, buffer)
    }
}

impl Source for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).map_or(self.len(), |start| start.min(self.len()));
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }
}

/// An open file that nobody changes. Bytes behind its last page are not looked at, so a saved
/// snapshot with its SHA-256 at the end is read like the file it was made from.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    meta: Meta,
    /// The page that `meta` was read from.
    meta_page: PageId,
}

/// A bucket of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    name: Vec<u8>,
    /// The leaf of the root tree that the bucket is found in.
    page: PageId,
    root: Root,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Root {
    Page(PageId),
    /// The only page, which is stored in the root tree. It is not longer than a page.
    Inline(Vec<u8>),
}

impl Bucket {
    /// Its name, never empty.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl<S: Source> Reader<S> {
    /// Reads the meta pages and chooses the newer valid one.
    ///
    /// # Errors
    ///
    /// [`ReadError::NoMeta`], [`ReadError::CutOff`], [`ReadError::Disk`].
    pub fn open(source: S) -> Result<Self, ReadError> {
        let file_bytes = length(&source)?;
        let first = read_meta(&source, 0)?;
        let second = match first {
            Ok(meta) => read_second_meta(&source, meta.page_bytes)?,
            Err(_) => find_second_meta(&source, file_bytes)?,
        };
        let (meta, meta_page) = match (first, second) {
            (Ok(first), Ok(second)) if second.transaction > first.transaction => {
                (second, PageId(1))
            }
            (Ok(first), _) => (first, PageId(0)),
            (Err(_), Ok(second)) => (second, PageId(1)),
            (Err(first), Err(second)) => return Err(ReadError::NoMeta { first, second }),
        };
        let needed_bytes = meta.pages.saturating_mul(u64::from(meta.page_bytes));
        if needed_bytes > file_bytes {
            return Err(ReadError::CutOff {
                file_bytes,
                needed_bytes,
            });
        }
        Ok(Self {
            source,
            meta,
            meta_page,
        })
    }

    /// Size of a page, in bytes.
    #[must_use]
    pub fn page_bytes(&self) -> u32 {
        self.meta.page_bytes
    }

    /// Number of the transaction that wrote the state of the file.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.meta.transaction
    }

    /// Bytes that the file needs; it may be longer.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        self.meta.pages * u64::from(self.meta.page_bytes)
    }

    /// The page that lists the free pages, if one is stored. Reading does not need it.
    #[must_use]
    pub fn freelist(&self) -> Option<PageId> {
        (self.meta.freelist != NO_FREELIST).then_some(PageId(self.meta.freelist))
    }

    /// All buckets, ascending by name.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`], [`ReadError::Disk`].
    pub fn buckets(&self) -> Result<Buckets<'_, S>, ReadError> {
        let cursor = Cursor::new(self, self.meta_page, self.meta.root)?;
        Ok(Buckets { cursor })
    }

    /// The bucket of that name.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`], [`ReadError::Disk`].
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, ReadError> {
        let mut buckets = self.buckets()?;
        while let Some(bucket) = buckets.next()? {
            if bucket.name == name {
                return Ok(Some(bucket));
            }
        }
        Ok(None)
    }

    /// The pairs of a bucket of this file, ascending by key.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`], [`ReadError::Disk`].
    pub fn pairs(&self, bucket: &Bucket) -> Result<Pairs<'_, S>, ReadError> {
        let cursor = match &bucket.root {
            Root::Page(root) => Cursor::new(self, bucket.page, *root)?,
            Root::Inline(bytes) => {
                let page = Page::parse(bytes.clone())
                    .and_then(|page| match page.kind() {
                        Kind::Leaf => Ok(page),
                        Kind::Branch => Err(PageDamage::Kind(page.kind().flags())),
                    })
                    .map_err(|damage| self.damaged(bucket.page, damage))?;
                Cursor::inside(self, bucket.page, page)
            }
        };
        Ok(Pairs::new(cursor))
    }

    /// Reads a page run that `parent` points to, unless the numbers of its pages are refused as
    /// `on_the_way` to it. The rest of a long run is asked for only after that.
    pub(super) fn page(
        &self,
        parent: PageId,
        id: PageId,
        on_the_way: impl Fn(&Range<u64>) -> bool,
    ) -> Result<Page, ReadError> {
        if id < FIRST_PAGE || id.0 >= self.meta.pages {
            return Err(self.damaged(parent, PageDamage::Pointer(id)));
        }
        let page_bytes = self.meta.page_bytes as usize;
        let mut bytes = vec![0; page_bytes];
        self.read(self.offset(id), &mut bytes)?;
        let header = bytes.first_chunk::<HEADER_BYTES>().map(Header::decode);
        let header = header.expect("the smallest page is longer than a header");
        if header.id != id {
            return Err(self.damaged(id, PageDamage::Id(header.id)));
        }
        let run = id.0..id.0 + 1 + u64::from(header.overflow);
        let run_bytes = usize::try_from((run.end - run.start) * u64::from(self.meta.page_bytes));
        let Some(run_bytes) = run_bytes.ok().filter(|_| run.end <= self.meta.pages) else {
            return Err(self.damaged(id, PageDamage::Overflow(header.overflow)));
        };
        if on_the_way(&run) {
            return Err(self.damaged(parent, PageDamage::Cycle(id)));
        }
        if run_bytes > page_bytes {
            bytes.reserve_exact(run_bytes - page_bytes);
            bytes.resize(run_bytes, 0);
            let rest = self.offset(id) + page_bytes as u64;
            self.read(rest, &mut bytes[page_bytes..])?;
        }
        Page::parse(bytes).map_err(|damage| self.damaged(id, damage))
    }

    pub(super) fn damaged(&self, page: PageId, damage: PageDamage) -> ReadError {
        ReadError::Damaged {
            page,
            offset: self.offset(page),
            damage,
        }
    }

    /// Where a page of the file begins.
    pub(super) fn offset(&self, id: PageId) -> u64 {
        id.0 * u64::from(self.meta.page_bytes)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let read = self.source.read_at(offset, buffer);
        let complete = read.and_then(|count| {
            if count == buffer.len() {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        });
        complete.map_err(|source| ReadError::Disk {
            offset,
            length: buffer.len(),
            source,
        })
    }

    /// What an element of the root tree tells of a bucket.
    fn bucket_at(&self, page: PageId, leaf: &Page, index: usize) -> Result<Bucket, ReadError> {
        if !leaf.is_bucket(index) {
            return Err(self.damaged(page, PageDamage::ElementKind(index)));
        }
        let value = leaf.value(index);
        let unreadable = || self.damaged(page, PageDamage::Bucket(index));
        let (header, inline) = value
            .split_first_chunk::<BUCKET_BYTES>()
            .ok_or_else(unreadable)?;
        // Behind the id of the root stands a counter that etcd does not use.
        let [a, b, c, d, e, f, g, h, ..] = *header;
        let root = match u64::from_le_bytes([a, b, c, d, e, f, g, h]) {
            0 if inline.len() > self.meta.page_bytes as usize => return Err(unreadable()),
            0 => Root::Inline(inline.to_vec()),
            id => Root::Page(PageId(id)),
        };
        Ok(Bucket {
            name: leaf.key(index).to_vec(),
            page,
            root,
        })
    }
}

/// The buckets of a file in order. Not an `Iterator`, because each step may fail.
#[derive(Debug)]
pub struct Buckets<'r, S> {
    cursor: Cursor<'r, S>,
}

impl<S: Source> Buckets<'_, S> {
    /// The next bucket; none behind the last.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`], [`ReadError::Disk`]. The walk is over then.
    #[expect(
        clippy::should_implement_trait,
        reason = "each step may fail, which for loops would hide"
    )]
    pub fn next(&mut self) -> Result<Option<Bucket>, ReadError> {
        let reader = self.cursor.reader();
        match self.cursor.advance()? {
            Some((page, leaf, index)) => reader.bucket_at(page, leaf, index).map(Some),
            None => Ok(None),
        }
    }
}

fn length(source: &impl Source) -> Result<u64, ReadError> {
    source.length().map_err(|source| ReadError::Disk {
        offset: 0,
        length: 0,
        source,
    })
}

/// The meta page at an offset; the inner error when it cannot be used.
fn read_meta(source: &impl Source, offset: u64) -> Result<Result<Meta, MetaDamage>, ReadError> {
    let mut page = [0; META_PAGE_BYTES];
    let count = source
        .read_at(offset, &mut page)
        .map_err(|source| ReadError::Disk {
            offset,
            length: META_PAGE_BYTES,
            source,
        })?;
    Ok(if count == META_PAGE_BYTES {
        Meta::decode(&page)
    } else {
        Err(MetaDamage::Missing)
    })
}

/// The second meta page of a file with pages of this size.
fn read_second_meta(
    source: &impl Source,
    page_bytes: u32,
) -> Result<Result<Meta, MetaDamage>, ReadError> {
    let meta = read_meta(source, u64::from(page_bytes))?;
    Ok(meta.and_then(|meta| {
        if meta.page_bytes == page_bytes {
            Ok(meta)
        } else {
            Err(MetaDamage::PageSize(meta.page_bytes))
        }
    }))
}

/// The second meta page when the first, which would tell where it is, is lost.
fn find_second_meta(
    source: &impl Source,
    file_bytes: u64,
) -> Result<Result<Meta, MetaDamage>, ReadError> {
    let mut page_bytes = *PAGE_SIZES.start();
    while PAGE_SIZES.contains(&page_bytes) && u64::from(page_bytes) < file_bytes {
        let found = read_second_meta(source, page_bytes)?;
        if found.is_ok() {
            return Ok(found);
        }
        page_bytes *= 2;
    }
    Ok(Err(MetaDamage::Missing))
}
