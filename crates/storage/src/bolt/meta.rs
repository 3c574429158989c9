//! Meta pages: where the root is, how many pages there are, in which state of the file.
//!
//! Source: bbolt v1.5.0, `internal/common/meta.go` and `db.go` (`getPageSize`, `meta`).

use super::error::MetaDamage;
use super::page::{HEADER_BYTES, Header, PageId};

/// Length of what a meta page holds behind its header, in bytes.
const META_BYTES: usize = 64;
/// Bytes of a meta page that mean something.
pub(super) const META_PAGE_BYTES: usize = HEADER_BYTES + META_BYTES;
/// Page id that says that no list of free pages is stored.
pub(super) const NO_FREELIST: u64 = u64::MAX;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_FLAGS: u16 = 4;
/// FNV-1a of no bytes.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
/// Sizes at which the second meta page is looked for when the first is lost, as bbolt does.
pub(super) const PAGE_SIZES: std::ops::RangeInclusive<u32> = 1 << 10..=1 << 24;

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// Size of a page in bytes: a power of two in [`PAGE_SIZES`].
    pub(super) page_bytes: u32,
    /// Root page of the tree of buckets.
    pub(super) root: PageId,
    /// Page that lists the free pages; [`NO_FREELIST`] when none does.
    pub(super) freelist: u64,
    /// Number of pages in use, free ones among them included: ids are below it.
    pub(super) pages: u64,
    /// Number of the transaction that wrote the state.
    pub(super) transaction: u64,
}

impl Meta {
    /// Reads the first bytes of a page.
    pub(super) fn decode(page: &[u8; META_PAGE_BYTES]) -> Result<Self, MetaDamage> {
        let short = |at: usize| -> u32 {
            let mut number = [0; 4];
            number.copy_from_slice(&page[HEADER_BYTES + at..HEADER_BYTES + at + 4]);
            u32::from_le_bytes(number)
        };
        let long = |at: usize| u64::from(short(at + 4)) << 32 | u64::from(short(at));
        if short(0) != MAGIC {
            return Err(MetaDamage::Magic(short(0)));
        }
        if short(4) != VERSION {
            return Err(MetaDamage::Version(short(4)));
        }
        if long(56) != fnv(&page[HEADER_BYTES..META_PAGE_BYTES - 8]) {
            return Err(MetaDamage::Checksum);
        }
        let page_bytes = short(8);
        if !PAGE_SIZES.contains(&page_bytes) || !page_bytes.is_power_of_two() {
            return Err(MetaDamage::PageSize(page_bytes));
        }
        Ok(Self {
            page_bytes,
            root: PageId(long(16)),
            freelist: long(32),
            pages: long(40),
            transaction: long(48),
        })
    }

    /// A whole page that says this.
    pub(super) fn encode(&self, id: PageId) -> Vec<u8> {
        let mut page = Vec::with_capacity(self.page_bytes as usize);
        let header = Header {
            id,
            flags: META_FLAGS,
            count: 0,
            overflow: 0,
        };
        header.encode(&mut page);
        let (flags, sequence) = (0_u32, 0_u64);
        for number in [MAGIC, VERSION, self.page_bytes, flags] {
            page.extend_from_slice(&number.to_le_bytes());
        }
        let numbers = [
            self.root.0,
            sequence,
            self.freelist,
            self.pages,
            self.transaction,
        ];
        for number in numbers {
            page.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv(&page[HEADER_BYTES..]);
        page.extend_from_slice(&checksum.to_le_bytes());
        page.resize(self.page_bytes as usize, 0);
        page
    }
}

/// FNV-1a of 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}
