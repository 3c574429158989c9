//! The walk over all segment files that looks for damage nobody has met.
//!
//! A disk can lose what it was given long before somebody reads it. Every read checks what it reads;
//! the scrub reads the rest, one segment after the other in the order of the history, in bounded
//! steps, and then begins again. It works on whatever view it is given: what the copier replaced
//! meanwhile is found in the next round.

use kvorum_storage::segment::{self, Damage, Place};

use crate::View;

/// Where the walk stands.
#[derive(Debug, Default)]
pub struct Scrub {
    current: Option<segment::Scrub>,
    /// Everything up to here was checked in this round.
    behind: Option<Place>,
}

/// What a step of the scrub did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes that were checked.
    pub bytes: usize,
    /// The step ended a round: every segment was checked.
    pub is_round: bool,
}

impl Scrub {
    /// Checks about so many bytes more.
    ///
    /// # Errors
    ///
    /// [`Damage`]. What it lies in must not be served, so the process has to stop.
    pub fn step(&mut self, view: &View, budget_bytes: usize) -> Result<Scrubbed, Damage> {
        let mut current = match self.current.take() {
            Some(current) => current,
            None => match self.next(view) {
                Some(next) => next,
                None => {
                    self.behind = None;
                    return Ok(Scrubbed {
                        bytes: 0,
                        is_round: true,
                    });
                }
            },
        };
        let (bytes, is_done) = current.step(budget_bytes)?;
        if is_done {
            self.behind = Some(current.segment().last());
        } else {
            self.current = Some(current);
        }
        Ok(Scrubbed {
            bytes,
            is_round: false,
        })
    }

    fn next(&self, view: &View) -> Option<segment::Scrub> {
        let mut segments = view.log.segments().filter_map(|(_, segment)| segment);
        let next = segments.find(|segment| Some(segment.first()) > self.behind);
        next.map(|segment| segment::Scrub::new(segment.clone()))
    }
}
