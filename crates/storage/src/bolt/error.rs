//! What can go wrong with a backend file.

use std::io;

use super::{KEY_BYTES_MAX, PageId, VALUE_BYTES_MAX};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("reading {length} bytes at offset {offset} failed")]
    Disk {
        /// Where in the file, in bytes.
        offset: u64,
        /// How much was asked for, in bytes.
        length: usize,
        /// What the disk said.
        source: io::Error,
    },
    /// Neither meta page can be used: this is no backend file, or its beginning is lost.
    #[error("no valid meta page (page 0: {first}; page 1: {second})")]
    NoMeta {
        /// What is wrong with the first.
        first: MetaDamage,
        /// What is wrong with the second.
        second: MetaDamage,
    },
    /// The file ends before its last page.
    #[error("cut off: {file_bytes} bytes are there, its pages take {needed_bytes}")]
    CutOff {
        /// Length of the file.
        file_bytes: u64,
        /// Length that the meta page tells.
        needed_bytes: u64,
    },
    /// A page cannot be what was written.
    #[error("page {page} at offset {offset}: {damage}")]
    Damaged {
        /// The page; for an inline bucket the one that it lies in.
        page: PageId,
        /// Where it begins in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        damage: PageDamage,
    },
}

/// What is wrong with a meta page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaDamage {
    /// The file ends before or in it, or nothing tells where it would be.
    #[error("not there")]
    Missing,
    /// It begins with other bytes than a meta page does.
    #[error("wrong magic number {0:#010x}")]
    Magic(u32),
    /// It has a version that nobody has written yet.
    #[error("unknown version {0}")]
    Version(u32),
    /// Its bytes are not what was written.
    #[error("wrong checksum")]
    Checksum,
    /// The size of pages is no power of two in reach, or not the one of where the meta page lies.
    #[error("impossible page size {0}")]
    PageSize(u32),
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageDamage {
    /// It points to a page that the file does not have.
    #[error("points to page {0}, which is outside of the file")]
    Pointer(PageId),
    /// It is another page than the one asked for.
    #[error("calls itself page {0}")]
    Id(PageId),
    /// It is neither a leaf nor a branch, or a branch where only a leaf may be.
    #[error("wrong kind of page, flags {0:#x}")]
    Kind(u16),
    /// It says that it runs on past the end of the file.
    #[error("runs on for {0} more pages, past the end of the file")]
    Overflow(u32),
    /// It has no element where there must be one, or more than it has room for.
    #[error("impossible count of {0} elements")]
    Count(u16),
    /// An element lies outside of the page, or in another.
    #[error("element {0} reaches outside of its place")]
    Element(usize),
    /// A key is empty, too long, not above the one before, or not where the branch says.
    #[error("key of element {0} is out of order")]
    Key(usize),
    /// A bucket among pairs, which etcd never makes, or something else among buckets.
    #[error("element {0} is of the wrong kind")]
    ElementKind(usize),
    /// An element that is a bucket without the header of one.
    #[error("element {0} is no bucket that can be read")]
    Bucket(usize),
    /// A page is its own ancestor, or part of one.
    #[error("points to page {0}, on the way to which it lies")]
    Cycle(PageId),
    /// The tree is deeper than one that was made by splitting pages can be.
    #[error("too many levels of pages")]
    Depth,
}

/// Why a file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The output refused.
    #[error("writing to the output failed")]
    Output(#[source] io::Error),
    /// A key or the name of a bucket has an impossible length.
    #[error("key of {0} bytes, it must have 1 to {KEY_BYTES_MAX}")]
    KeyLength(usize),
    /// A value is too long.
    #[error("value of {0} bytes, it must have at most {VALUE_BYTES_MAX}")]
    ValueLength(usize),
    /// A key or the name of a bucket is not above the one before.
    #[error("key or bucket name is not above the one before")]
    Order,
    /// A pair came before the first bucket.
    #[error("a pair outside of any bucket")]
    NoBucket,
    /// The pairs are not those that the layout was made from; what was written is no valid file.
    #[error("pairs differ from the ones that the layout was made from")]
    Layout,
}
