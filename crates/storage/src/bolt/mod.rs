//! etcd's backend file: the format of `member/snap/db`, of a saved snapshot and of the state that a
//! leader sends to a follower. Only the border of Kvorum speaks it; no state of ours lives in it.
//!
//! # Theory
//!
//! The file is a database of etcd's library bbolt: pages of one size, and in them B+trees. A
//! *bucket* is a tree of key-value pairs with a name. One more tree, the *root*, holds the buckets
//! by name; the root is found through one of two *meta pages*. A page that holds more than fits
//! runs on into the pages behind it. A bucket of a few hundred bytes is *inline*: its only page is
//! stored in the place where the root would point to it. The bytes are in `docs/formats/bolt.md`.
//!
//! bbolt changes such a file page by page. We never do: [`Reader`] walks the trees of a finished
//! file in key order, and [`Writer`] makes a whole file from sorted pairs, every page once and in
//! the order of the file. The meta pages stand first but tell of pages behind them, so a file is
//! made in two passes: [`Sizer`] takes the lengths of all pairs and returns the [`Layout`], and the
//! writer takes the pairs themselves. The layout also knows the exact length of the file, which a
//! snapshot must announce before its first byte. [`rewrite()`] makes a file from another. [`schema`] has the names and numbers that etcd
//! puts into the buckets.
//!
//! ```
//! use kvorum_storage::bolt::{Reader, Sizer, Writer};
//!
//! let mut sizer = Sizer::new();
//! sizer.bucket(b"meta")?;
//! sizer.pair(b"term".len(), 8)?;
//! let layout = sizer.finish()?;
//!
//! let mut writer = Writer::new(Vec::new(), layout)?;
//! writer.bucket(b"meta")?;
//! writer.pair(b"term", &7_u64.to_be_bytes())?;
//! let file = writer.finish()?;
//! assert_eq!(file.len() as u64, layout.file_bytes());
//!
//! let reader = Reader::open(file.as_slice())?;
//! let meta = reader.bucket(b"meta")?.expect("written above");
//! let mut pairs = reader.pairs(&meta)?;
//! assert_eq!(pairs.next()?, Some((&b"term"[..], &7_u64.to_be_bytes()[..])));
//! assert_eq!(pairs.next()?, None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//!
//! - Reading believes nothing: every pointer, count and length is checked against the file before
//!   it is followed or allocated for. Keys come in strictly ascending order or not at all, so no
//!   page of a bucket is met twice, and a walk ends. Live memory is one page run per level of a
//!   tree, and these do not overlap: the length of the file at most, and a page or two for the next
//!   step and for an inline bucket.
//! - Writing holds one page and one pair per level of a tree. Every page behind the meta pages
//!   belongs to exactly one tree, so that the checks of official tools pass.

mod build;
mod cursor;
mod error;
mod meta;
mod page;
mod reader;
mod rewrite;
pub mod schema;
#[cfg(test)]
mod tests;
mod writer;

pub use cursor::{Pair, Pairs};
pub use error::{MetaDamage, PageDamage, ReadError, WriteError};
pub use page::PageId;
pub use reader::{Bucket, Buckets, Reader, Source};
pub use rewrite::{Patch, RewriteError, rewrite};
pub use writer::{Layout, Sizer, Writer};

/// Size of the pages that we write, in bytes. A file that is read may have others.
pub const PAGE_BYTES: usize = 4096;
/// The longest key and the longest name of a bucket, in bytes. The shortest has one byte.
///
/// Source: bbolt v1.5.0, `bucket.go`, `MaxKeySize`.
pub const KEY_BYTES_MAX: usize = 32_768;
/// The longest value, in bytes. A value may be empty.
///
/// Source: bbolt v1.5.0, `bucket.go`, `MaxValueSize`.
pub const VALUE_BYTES_MAX: usize = (1 << 31) - 2;
