//! Replacing neighbouring segments by one that holds what is still needed of them.
//!
//! The new file is made in bounded steps and handed out in pieces: first the frames, copied as they
//! are, then the tables. What a merge keeps in memory is 16 bytes per change it keeps, one bit per
//! change it reads, and at the end the new key table.

use bytes::{Bytes, BytesMut};

use super::ahead::Ahead;
use super::keys::KeysWriter;
use super::layout::{self, HEADER_BYTES, RowsWriter};
use super::{Damage, KeyRow, MergedKeys, Place, Segment, SegmentId};

/// How many rows of key tables count as one budget step of a [`Merge`], per KiB of budget.
const KEY_ROWS_PER_KIB: usize = 16;

/// What one step of a merge came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeStep {
    /// The next bytes of the new file, maybe none yet.
    Chunk(Bytes),
    /// The last bytes of the new file. The merge is over.
    Last(Bytes),
    /// Nothing of the sources is needed: there is no new file, and no chunk came before.
    Empty,
}

/// The making of one segment out of several that lie next to each other in the history.
#[derive(Debug)]
pub struct Merge {
    id: SegmentId,
    sources: Vec<Segment>,
    /// Which changes of each source are kept, by their number.
    kept: Vec<Vec<u64>>,
    source: usize,
    row: usize,
    ahead: Ahead,
    offset: u64,
    rows: RowsWriter,
    keys: Option<(MergedKeys, KeysWriter)>,
    stored_bytes: u64,
    out: BytesMut,
}

impl Merge {
    /// A merge of segments in the order of their places into a new one.
    ///
    /// # Panics
    ///
    /// When the sources overlap or are out of order.
    #[must_use]
    pub fn new(id: SegmentId, sources: Vec<Segment>) -> Self {
        let mut pairs = sources.iter().zip(sources.iter().skip(1));
        assert!(
            pairs.all(|(a, b)| a.last() < b.first()),
            "segments partition the revisions"
        );
        let kept = sources
            .iter()
            .map(|source| vec![0; source.changes().div_ceil(64)])
            .collect();
        let mut out = BytesMut::new();
        out.extend_from_slice(&layout::header(id));
        Merge {
            id,
            sources,
            kept,
            source: 0,
            row: 0,
            ahead: Ahead::default(),
            offset: HEADER_BYTES as u64,
            rows: RowsWriter::default(),
            keys: None,
            stored_bytes: 0,
            out,
        }
    }

    /// Number of the new segment.
    #[must_use]
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The segments that the new one takes the place of.
    #[must_use]
    pub fn sources(&self) -> &[Segment] {
        &self.sources
    }

    /// Copies about so many bytes (at least one change) of which `keep` wants the change. It is
    /// asked once for each change, in order; a change once needless stays needless, so its answers
    /// may come from different moments.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a source is damaged: the merge must be given up.
    ///
    /// # Panics
    ///
    /// When the merge is over.
    pub fn step(
        &mut self,
        budget_bytes: usize,
        mut keep: impl FnMut(Place) -> bool,
    ) -> Result<MergeStep, Damage> {
        let mut visited = 0;
        while visited < budget_bytes.max(1) && self.source < self.sources.len() {
            visited += self.copy_row(&mut keep)?;
        }
        if self.source < self.sources.len() {
            return Ok(MergeStep::Chunk(self.out.split().freeze()));
        }
        let Some(first_main) = self.rows.first_main() else {
            return Ok(MergeStep::Empty);
        };
        if self.keys.is_none() {
            for source in &self.sources {
                source.will_need(source.tables());
            }
            let merged = MergedKeys::new(&self.sources)?;
            self.keys = Some((merged, KeysWriter::new(first_main)));
        }
        let rows_max = (budget_bytes / 1024 + 1) * KEY_ROWS_PER_KIB;
        if !self.merge_keys(rows_max)? {
            return Ok(MergeStep::Chunk(self.out.split().freeze()));
        }
        self.finish()
    }

    /// Looks at the next change; returns the bytes it cost.
    fn copy_row(&mut self, keep: &mut impl FnMut(Place) -> bool) -> Result<usize, Damage> {
        let source = &self.sources[self.source];
        let row = self.row;
        let place = source.place(row);
        let mut cost = layout::ROW_BYTES;
        if keep(place) {
            self.ahead.reach(source, row);
            // The read checks the frame, which is then copied as it is.
            let change = source.at(row)?;
            let frame = source.frame(row)?;
            self.kept[self.source][row / 64] |= 1 << (row % 64);
            self.rows.push(place, self.offset, change.frees_bytes);
            self.out.extend_from_slice(frame);
            self.offset += frame.len() as u64;
            cost += frame.len();
        }
        self.row += 1;
        if self.row == source.changes() {
            self.source += 1;
            self.row = 0;
            self.ahead = Ahead::default();
        }
        Ok(cost)
    }

    /// Merges so many rows of the key tables; returns whether that were all.
    fn merge_keys(&mut self, rows_max: usize) -> Result<bool, Damage> {
        let Some((merged, keys)) = &mut self.keys else {
            return Ok(false);
        };
        for _ in 0..rows_max {
            let Some(row) = merged.advance()? else {
                return Ok(true);
            };
            if is_kept(&self.sources, &self.kept, merged.source(), &row) {
                keys.push(merged.key(), &row);
                self.stored_bytes += u64::from(row.stored_bytes);
            }
        }
        Ok(false)
    }

    fn finish(&mut self) -> Result<MergeStep, Damage> {
        // The key tables were checked when the files were opened; the copy must not hide damage
        // that came since.
        for source in &self.sources {
            source.check_tables()?;
        }
        let keys = self.keys.take().map(|(_, keys)| keys.finish());
        let keys = keys.expect("the key tables are merged before the end");
        let rows = std::mem::take(&mut self.rows);
        let footer = layout::footer(self.id, self.offset, rows, &keys, self.stored_bytes);
        let mut out = self.out.split();
        out.unsplit(footer);
        Ok(MergeStep::Last(out.freeze()))
    }
}

fn is_kept(sources: &[Segment], kept: &[Vec<u64>], source: usize, row: &KeyRow) -> bool {
    let number = sources[source].lower_bound(row.place);
    kept[source]
        .get(number / 64)
        .is_some_and(|bits| bits & (1 << (number % 64)) != 0)
}
