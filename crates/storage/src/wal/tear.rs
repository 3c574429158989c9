//! Is the end of a log torn, or is the log damaged?
//!
//! A crash in the middle of a write leaves, sector by sector, the new bytes or the zeros that were
//! there before. That is a tear: what was written had not been reported durable, and may be cut.
//! Anything else may have been reported, and cutting it would lose what somebody relies on.
//!
//! Two questions decide:
//!
//! 1. *Can a crash have left these bytes?* The sector that holds a length field is either new, and
//!    then the field and what follows it in the sector are right, or zero to its end. And at least
//!    one further sector of the record must be zero or missing.
//! 2. *Was anything written after this record had been made durable?* Each of our groups begins
//!    with a checksum record and is written only after the one before is durable. So a checksum
//!    record behind the damage proves that the damaged bytes had been durable. Records without one
//!    belong to the same torn group: disks do not write sectors in order. In a file without such
//!    records, which an official etcd has written, any record behind the damage counts.

use crate::vfs::SECTOR_BYTES;

use super::error::Damage;
use super::frame::{self, ALIGNMENT_BYTES, Kind, LENGTH_BYTES, Next};

/// Gives the damage back when the bytes from `offset` may be cut.
///
/// # Errors
///
/// What to say when they may not.
pub(super) fn judge(
    file: &[u8],
    offset: usize,
    marked: bool,
    damage: Damage,
) -> Result<Damage, Damage> {
    if !a_crash_leaves_this(file, offset) {
        return Err(damage);
    }
    match record_behind(file, offset, marked) {
        Some(behind) => Err(Damage::Behind {
            cause: Box::new(damage),
            behind: behind as u64,
        }),
        None => Ok(damage),
    }
}

fn a_crash_leaves_this(file: &[u8], offset: usize) -> bool {
    let sector_end = file.len().min(sector_after(offset));
    let Some((field, body)) = file[offset..].split_first_chunk::<LENGTH_BYTES>() else {
        return true;
    };
    let field = u64::from_le_bytes(*field);
    if field == 0 {
        return file[offset..sector_end].iter().all(|byte| *byte == 0);
    }
    let Some(size) = frame::record_size(field) else {
        return false;
    };
    let in_sector = (sector_end - offset - LENGTH_BYTES).min(size);
    if frame::read_record(&body[..in_sector], size).is_err() {
        return false;
    }
    let record_end = offset.saturating_add(LENGTH_BYTES).saturating_add(size);
    // The file may also end within the padding behind the record.
    let frame_end = offset.saturating_add(frame::frame_bytes(size));
    frame_end > file.len() || a_sector_is_zero(file, sector_end, record_end)
}

/// Whether a sector's share of the bytes `start..end` is all zero; `start` begins a sector.
fn a_sector_is_zero(file: &[u8], start: usize, end: usize) -> bool {
    start < end
        && file[start..end]
            .chunks(SECTOR_BYTES)
            .any(|part| part.iter().all(|byte| *byte == 0))
}

fn sector_after(offset: usize) -> usize {
    (offset / SECTOR_BYTES + 1) * SECTOR_BYTES
}

/// Where a record stands that was written after the one at `offset` had been durable.
fn record_behind(file: &[u8], offset: usize, marked: bool) -> Option<usize> {
    (offset + ALIGNMENT_BYTES..file.len())
        .step_by(ALIGNMENT_BYTES)
        .find(|at| {
            let Next::Record { record, .. } = frame::read(file, *at) else {
                return false;
            };
            match record.kind {
                Kind::Crc => true,
                Kind::Metadata => !marked && frame::metadata(record.data).is_ok(),
                Kind::Entry => !marked && frame::entry(record.data).is_ok(),
                Kind::State => !marked && frame::state(record.data).is_ok(),
                Kind::Snapshot => !marked && frame::snapshot(record.data).is_ok(),
            }
        })
}
