//! Forgetting history.
//!
//! A compaction at C takes effect at once: reads below C are refused, and a change at or below C
//! exists only if it is the newest of its key there and not a tombstone, unless the tombstone lies
//! exactly at C (`History::keeps`). Everything that looks at changes asks that question, so nothing
//! visible depends on when they are taken out of the index, and later out of the files.
//!
//! The taking out is a *pass* in bounded steps. It visits what was written since the compaction
//! before: each of these changes tells, through the index, which older change of its key dies with
//! it; beside them only the tombstones exactly at the compaction before can die. So what lies still
//! costs nothing. Before anything is removed, the hash at C is made of everything up to C. That
//! would read all files; so the hash of a segment is kept from one compaction to the next, and a
//! first walk over what was written marks the segments in which something is going to die. Passes
//! run one after the other in the order of their compactions.
//!
//! Source: etcd v3.7.1, `server/storage/mvcc/key_index.go` (`compact`) and
//! `server/storage/mvcc/kvstore_compaction.go`.

use kvorum_storage::segment::{Damage, SegmentId};

use crate::hash::Hasher;
use crate::store::Store;
use crate::{Change, CompactError, HashKv, Record, Revision, View};

/// Records that are looked at together where nobody waits for the end of a step.
const FORGET_STEP: usize = 1024;

/// The removal of what one compaction made superfluous.
#[derive(Debug)]
pub(crate) struct Pass {
    /// The compaction before; -1 for none.
    previous: i64,
    compacted: i64,
    stage: Stage,
    removed: u64,
}

#[derive(Debug)]
enum Stage {
    /// Segments in which something dies by changes below `next` have no kept hash any more.
    Mark { next: Revision },
    /// Everything below `next` is in the hash. What is hashed apart began with the first record of
    /// `section_of`, which the copier may have replaced since.
    Hash {
        hasher: Hasher,
        next: Revision,
        section_of: Option<SegmentId>,
    },
    /// What dies by changes below `next` is removed.
    Remove { hash: HashKv, next: Revision },
}

/// What a step of removal did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactStep {
    /// Records that this step removed.
    pub removed: u64,
    /// The compaction whose last record this step visited.
    pub finished: Option<CompactFinished>,
    /// Whether there is more to do.
    pub pending: bool,
}

/// A compaction of which nothing is left to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactFinished {
    /// The compacted revision.
    pub revision: i64,
    /// Records removed in all its steps.
    pub removed: u64,
    /// Hash of the history at the revision, made with the compacted revision before.
    pub hash: HashKv,
}

impl Store {
    /// Forgets what only reads below `revision` could see, at once for every reader of a later
    /// view. [`Store::compact_step`] takes it out of the index.
    ///
    /// # Errors
    ///
    /// [`CompactError::Compacted`] at or below the last compaction, [`CompactError::Future`] above
    /// the current revision, and [`CompactError::Damaged`].
    pub fn compact(&mut self, revision: i64) -> Result<(), CompactError> {
        let (compacted, current) = (self.view.compacted, self.view.current);
        if revision <= compacted {
            return Err(CompactError::Compacted {
                asked: revision,
                compacted,
            });
        }
        if revision > current {
            return Err(CompactError::Future {
                asked: revision,
                current,
            });
        }
        self.free_bytes(revision)?;
        self.view
            .hashes
            .begin(Hasher::new(revision, compacted, true));
        self.view.compacted = revision;
        tracing::debug!(revision, "compaction begins");
        self.passes.push_back(Pass {
            previous: compacted,
            compacted: revision,
            stage: Stage::Mark {
                next: Revision::start_of(compacted + 1),
            },
            removed: 0,
        });
        Ok(())
    }

    /// Visits at most `budget` records (at least one); hashes them or removes what died by them.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a file is damaged. The process must stop: the compaction cannot go on.
    pub fn compact_step(&mut self, budget: usize) -> Result<CompactStep, Damage> {
        let Some(mut pass) = self.passes.pop_front() else {
            return Ok(CompactStep::default());
        };
        let budget = budget.max(1);
        let removed_before = pass.removed;
        let (mut left, mut done) = (budget, None);
        while left > 0 && done.is_none() {
            left -= match pass.stage {
                Stage::Mark { .. } => self.mark_step(&mut pass, left)?,
                Stage::Hash { .. } => self.hash_step(&mut pass, left)?,
                Stage::Remove { .. } => self.remove_step(&mut pass, left, &mut done)?,
            };
        }
        let removed = pass.removed - removed_before;
        let finished = done.map(|hash| CompactFinished {
            revision: pass.compacted,
            removed: pass.removed,
            hash,
        });
        if finished.is_none() {
            self.passes.push_front(pass);
        }
        self.counts.compacted_records += removed;
        Ok(CompactStep {
            removed,
            finished,
            pending: !self.passes.is_empty(),
        })
    }

    /// Compacts without a hash and in one go: what a database file held beside what exists.
    pub(crate) fn forget_through(&mut self, revision: i64) -> Result<(), Damage> {
        self.free_bytes(revision)?;
        self.view.compacted = revision;
        let mut next = Revision::default();
        loop {
            let visited = visited(&self.view, next, revision, FORGET_STEP)?;
            for record in &visited {
                self.remove_by(record, -1, revision);
            }
            let Some(resume) = resume_after(&visited, FORGET_STEP) else {
                return Ok(());
            };
            next = resume;
        }
    }

    /// Whether removal has work left.
    pub fn is_compacting(&self) -> bool {
        !self.passes.is_empty()
    }

    /// Whether a compaction has yet to find out in which segments something dies.
    pub(crate) fn is_marking(&self) -> bool {
        let marks = |pass: &Pass| matches!(pass.stage, Stage::Mark { .. });
        self.passes.iter().any(marks)
    }

    /// Gives back the bytes that are no longer in use.
    pub fn defragment(&mut self) {
        self.view.sizes.defragment();
    }

    /// Looks at the next changes since the compaction before; behind the last of them the hash
    /// begins. Returns how many it visited.
    fn mark_step(&mut self, pass: &mut Pass, budget: usize) -> Result<usize, Damage> {
        let Stage::Mark { next } = &mut pass.stage else {
            return Ok(0);
        };
        let visited = if self.segments.has_sections() {
            visited(&self.view, *next, pass.compacted, budget)?
        } else {
            Vec::new()
        };
        for record in &visited {
            let at = record.mod_revision();
            let before = Revision {
                sub: at.sub - 1,
                ..at
            };
            let history = self.view.index.history(record.key());
            let dies = history.and_then(|history| history.floor(before));
            let run = dies.and_then(|dies| self.view.log.segment_of(dies.mod_revision()));
            run.into_iter()
                .for_each(|id| self.segments.forget_section(id));
        }
        match resume_after(&visited, budget) {
            Some(resume) => *next = resume,
            None => {
                pass.stage = Stage::Hash {
                    hasher: Hasher::new(pass.compacted, pass.previous, true),
                    next: Revision::default(),
                    section_of: None,
                }
            }
        }
        Ok(visited.len())
    }

    /// Takes records of one run into the hash of a pass, or a whole segment whose hash is kept; after
    /// the last of all, the removal begins. Returns how many it visited, a kept hash counted as one.
    fn hash_step(&mut self, pass: &mut Pass, budget: usize) -> Result<usize, Damage> {
        let Stage::Hash {
            hasher,
            next,
            section_of,
        } = &mut pass.stage
        else {
            return Ok(0);
        };
        // Only what lies below the compaction before can be the same the next time.
        let old = Revision::end_of(hasher.compacted());
        let run = self.view.log.segment_from(*next);
        let run = run.filter(|segment| Revision::from(segment.last()) <= old);
        let Some((id, first, last)) = run.map(|s| (s.id(), s.first().into(), s.last().into()))
        else {
            return self.hash_the_rest(pass, budget);
        };
        let behind = resume_behind(last);
        if *next <= first {
            if let Some(section) = self.segments.section(id) {
                hasher.take_section(section);
                *next = behind;
                return Ok(1);
            }
            hasher.begin_section();
            *section_of = Some(id);
        }
        let records = self.view.log.from(*next);
        let inside = |record: &Result<Record, Damage>| {
            let at = record.as_ref().map(Record::mod_revision);
            at.is_ok_and(|at| at <= last) || record.is_err()
        };
        let records = records.take_while(inside).take(budget);
        let records: Vec<Record> = records.collect::<Result<_, _>>()?;
        for record in &records {
            hasher.offer(record, &self.view.index);
        }
        *next = match records.last() {
            Some(record) if record.mod_revision() < last => resume_behind(record.mod_revision()),
            _ => behind,
        };
        if *next == behind
            && let Some(section) = hasher.end_section()
            && *section_of == Some(id)
        {
            self.segments.keep_section(id, section);
        }
        self.view.hashes.advance(hasher, *next);
        Ok(records.len())
    }

    /// Takes records that lie in no old segment into the hash of a pass.
    fn hash_the_rest(&mut self, pass: &mut Pass, budget: usize) -> Result<usize, Damage> {
        let Stage::Hash { hasher, next, .. } = &mut pass.stage else {
            return Ok(0);
        };
        let visited = visited(&self.view, *next, pass.compacted, budget)?;
        for record in &visited {
            hasher.offer(record, &self.view.index);
        }
        if let Some(resume) = resume_after(&visited, budget) {
            *next = resume;
            self.view.hashes.advance(hasher, resume);
            return Ok(visited.len());
        }
        let hash = hasher.clone().finish();
        self.view.hashes.finish(hash);
        pass.stage = Stage::Remove {
            hash,
            next: Revision::start_of(pass.previous.max(0)),
        };
        Ok(visited.len())
    }

    /// Removes what dies by the next records of a pass; `done` becomes its hash when it is through.
    /// Returns how many it visited.
    fn remove_step(
        &mut self,
        pass: &mut Pass,
        budget: usize,
        done: &mut Option<HashKv>,
    ) -> Result<usize, Damage> {
        let Stage::Remove { hash, next } = &mut pass.stage else {
            return Ok(0);
        };
        let visited = visited(&self.view, *next, pass.compacted, budget)?;
        for record in &visited {
            pass.removed += self.remove_by(record, pass.previous, pass.compacted);
        }
        match resume_after(&visited, budget) {
            Some(resume) => *next = resume,
            None => *done = Some(*hash),
        }
        Ok(visited.len())
    }

    /// Forgets the changes that die by a record when `compacted` follows `previous`: those before
    /// it, and itself when it is a tombstone that no read can meet.
    fn remove_by(&mut self, record: &Record, previous: i64, compacted: i64) -> u64 {
        let at = record.mod_revision();
        if at.main == previous && !record.is_tombstone() {
            return 0;
        }
        let itself = record.is_tombstone() && at.main < compacted;
        let mut dead: Vec<Change> = Vec::new();
        self.view
            .index
            .forget(record.key(), at, itself, |change| dead.push(*change));
        dead.iter().for_each(|change| self.note_dead(change));
        dead.len() as u64
    }

    /// Lowers the bytes in use by what a compaction at `revision` makes superfluous.
    ///
    /// A put dies when the compaction reaches the change after it, a tombstone when it passes the
    /// tombstone itself; the log sums both by the revision that brings them about. Tombstones
    /// exactly at `revision` live on until the next compaction.
    fn free_bytes(&mut self, revision: i64) -> Result<(), Damage> {
        let view = &mut self.view;
        let passed = view.log.frees_bytes(view.compacted + 1..=revision)?;
        let lingering = lingering_tombstone_bytes(view, revision)?;
        view.sizes
            .shrink(passed + self.lingering_tombstone_bytes - lingering);
        self.lingering_tombstone_bytes = lingering;
        Ok(())
    }
}

/// At most `budget` records from a place up to a store revision.
fn visited(
    view: &View,
    next: Revision,
    through: i64,
    budget: usize,
) -> Result<Vec<Record>, Damage> {
    let end = Revision::end_of(through);
    let inside = |record: &Result<Record, Damage>| {
        let at = record.as_ref().map(Record::mod_revision);
        at.is_ok_and(|at| at <= end) || record.is_err()
    };
    view.log
        .from(next)
        .take_while(inside)
        .take(budget)
        .collect()
}

/// Where to go on after a step; `None` when it was not full, so that nothing is behind it. A full
/// step may have nothing behind it either; the next one finds out.
fn resume_after(visited: &[Record], budget: usize) -> Option<Revision> {
    let last = visited.last().filter(|_| visited.len() == budget)?;
    Some(resume_behind(last.mod_revision()))
}

/// The place behind a record.
fn resume_behind(at: Revision) -> Revision {
    Revision {
        sub: at.sub + 1,
        ..at
    }
}

/// Bytes of the tombstones that a compaction at exactly their revision keeps.
fn lingering_tombstone_bytes(view: &View, revision: i64) -> Result<u64, Damage> {
    let mut bytes = 0;
    for record in view.log.from(Revision::start_of(revision)) {
        let record = record?;
        if record.mod_revision().main != revision {
            break;
        }
        if record.is_tombstone() && view.index.keeps(&record, revision) {
            bytes += Change::of(&record).counted_bytes();
        }
    }
    Ok(bytes)
}
