//! The key tables of many segments as one.

use std::cmp::Ordering;

use super::{Damage, KeyRow, Keys, Segment};

/// Walks over the key tables of several segments: keys ascending, places ascending under each key.
///
/// A tournament: each inner node of a binary tree remembers the loser of its match, so that a step
/// costs one comparison per level.
#[derive(Debug)]
pub struct MergedKeys {
    players: Vec<Keys>,
    /// The losers at the inner nodes 1 and up; the winner of all at 0.
    losers: Vec<usize>,
    begun: bool,
}

impl MergedKeys {
    /// Begins before the first row. Tables of no segment have no row.
    ///
    /// # Errors
    ///
    /// [`Damage`] when the first row of a table cannot be read.
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Result<Self, Damage> {
        let mut players: Vec<Keys> = segments.into_iter().map(Segment::keys).collect();
        for player in &mut players {
            player.advance()?;
        }
        let count = players.len();
        let mut merged = MergedKeys {
            players,
            losers: vec![0; count],
            begun: false,
        };
        // The winner of each match, leaves first: the leaf of player p is node count + p.
        let mut winners: Vec<usize> = (0..count).map(|node| node.saturating_sub(count)).collect();
        winners.extend(0..count);
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = merged.play(left, right);
            winners[node] = winner;
            merged.losers[node] = loser;
        }
        if count > 0 {
            merged.losers[0] = winners[1];
        }
        Ok(merged)
    }

    /// Steps to the next row; `None` behind the last one.
    ///
    /// # Errors
    ///
    /// [`Damage`] when a table cannot be read on.
    pub fn advance(&mut self) -> Result<Option<KeyRow>, Damage> {
        let Some(&winner) = self.losers.first() else {
            return Ok(None);
        };
        if self.begun {
            self.players[winner].advance()?;
            self.replay(winner);
        }
        self.begun = true;
        Ok(self.players[self.losers[0]].row())
    }

    /// The key of the row that the last step returned.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.losers
            .first()
            .map_or(&[], |winner| self.players[*winner].key())
    }

    /// Number of the segment, in the order they were given, whose row the last step returned.
    #[must_use]
    pub fn source(&self) -> usize {
        self.losers.first().copied().unwrap_or(0)
    }

    /// Plays the matches from a leaf up to the root again.
    fn replay(&mut self, player: usize) {
        let mut winner = player;
        let mut node = (self.players.len() + player) / 2;
        while node > 0 {
            let (better, worse) = self.play(winner, self.losers[node]);
            winner = better;
            self.losers[node] = worse;
            node /= 2;
        }
        self.losers[0] = winner;
    }

    /// Winner and loser. A table that has ended loses against all.
    fn play(&self, a: usize, b: usize) -> (usize, usize) {
        let (left, right) = (&self.players[a], &self.players[b]);
        let order = match (left.row(), right.row()) {
            (Some(l), Some(r)) => left.key().cmp(right.key()).then(l.place.cmp(&r.place)),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if order == Ordering::Greater {
            (b, a)
        } else {
            (a, b)
        }
    }
}
