//! Pages that are read: the header, the elements, and whether they can be believed.
//!
//! The layout is in `docs/formats/bolt.md`.

use std::fmt;

use super::KEY_BYTES_MAX;
use super::error::PageDamage;

/// Number of a page. Page n begins at n times the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageId(pub u64);

impl fmt::Display for PageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Length of a page's header, in bytes.
pub(super) const HEADER_BYTES: usize = 16;
/// Length of what a page knows of one element beside key and value, in bytes.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Length of a bucket's header, in bytes.
pub(super) const BUCKET_BYTES: usize = 16;
/// The first page that is no meta page.
pub(super) const FIRST_PAGE: PageId = PageId(2);
/// Flag of a leaf's element whose value is a bucket.
pub(super) const BUCKET_FLAG: u32 = 1;

/// What a page of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its elements are keys and the pages below.
    Branch,
    /// Its elements are keys and values.
    Leaf,
}

impl Kind {
    pub(super) fn flags(self) -> u16 {
        match self {
            Kind::Branch => 1,
            Kind::Leaf => 2,
        }
    }

    fn from_flags(flags: u16) -> Option<Self> {
        [Kind::Branch, Kind::Leaf]
            .into_iter()
            .find(|kind| kind.flags() == flags)
    }
}

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: PageId,
    pub(super) flags: u16,
    pub(super) count: u16,
    /// Number of pages that follow and belong to this one.
    pub(super) overflow: u32,
}

impl Header {
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *bytes;
        Self {
            id: PageId(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            flags: u16::from_le_bytes([i, j]),
            count: u16::from_le_bytes([k, l]),
            overflow: u32::from_le_bytes([m, n, o, p]),
        }
    }

    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.id.0.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.overflow.to_le_bytes());
    }
}

/// A page whose elements lie inside of it, one behind the other, with ascending keys.
#[derive(Debug)]
pub(super) struct Page {
    kind: Kind,
    count: usize,
    /// The whole run, header included.
    bytes: Vec<u8>,
}

/// Where the parts of one element lie in the page.
struct Element {
    /// Flags of a leaf's element; of a branch's nothing.
    flags: u32,
    key: usize,
    value: usize,
    end: usize,
}

impl Page {
    /// Checks the bytes of a page run, or of an inline bucket's page.
    ///
    /// # Errors
    ///
    /// The first thing that cannot be.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, PageDamage> {
        let header = bytes.first_chunk().map(Header::decode);
        let header = header.ok_or(PageDamage::Count(0))?;
        let kind = Kind::from_flags(header.flags).ok_or(PageDamage::Kind(header.flags))?;
        let count = usize::from(header.count);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(PageDamage::Count(header.count));
        }
        let page = Self { kind, count, bytes };
        page.check_elements()?;
        Ok(page)
    }

    fn check_elements(&self) -> Result<(), PageDamage> {
        let mut free = HEADER_BYTES + self.count * ELEMENT_BYTES;
        let mut before: &[u8] = &[];
        for index in 0..self.count {
            let place = self.place(index).ok_or(PageDamage::Element(index))?;
            if place.key < free || place.end > self.bytes.len() {
                return Err(PageDamage::Element(index));
            }
            free = place.end;
            let key = &self.bytes[place.key..place.value];
            if key <= before || key.len() > KEY_BYTES_MAX {
                return Err(PageDamage::Key(index));
            }
            before = key;
        }
        Ok(())
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Length of the run, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Key of an element. The index must be below the count, here and below.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        let place = self.checked(index);
        &self.bytes[place.key..place.value]
    }

    /// Value of a leaf's element.
    pub(super) fn value(&self, index: usize) -> &[u8] {
        let place = self.checked(index);
        &self.bytes[place.value..place.end]
    }

    /// Whether a leaf's element is a bucket.
    pub(super) fn is_bucket(&self, index: usize) -> bool {
        self.checked(index).flags & BUCKET_FLAG != 0
    }

    /// The page below a branch's element.
    pub(super) fn child(&self, index: usize) -> PageId {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let low = u64::from(self.number(at + 8));
        let high = u64::from(self.number(at + 12));
        PageId(high << 32 | low)
    }

    fn checked(&self, index: usize) -> Element {
        self.place(index)
            .expect("every element was looked at when the page was read")
    }

    /// None when the numbers of an element leave the range of numbers.
    fn place(&self, index: usize) -> Option<Element> {
        let at = HEADER_BYTES + index * ELEMENT_BYTES;
        let (flags, position, key_length, value_length) = match self.kind {
            Kind::Leaf => (
                self.number(at),
                self.number(at + 4),
                self.number(at + 8),
                self.number(at + 12),
            ),
            Kind::Branch => (0, self.number(at), self.number(at + 4), 0),
        };
        let key = at.checked_add(usize::try_from(position).ok()?)?;
        let value = key.checked_add(usize::try_from(key_length).ok()?)?;
        let end = value.checked_add(usize::try_from(value_length).ok()?)?;
        Some(Element {
            flags,
            key,
            value,
            end,
        })
    }

    /// A number in the table of elements, which was seen to fit when the page was read.
    fn number(&self, at: usize) -> u32 {
        let mut number = [0; 4];
        number.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(number)
    }
}
