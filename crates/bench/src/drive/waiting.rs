//! Which answer belongs to which request.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::workload::Step;

/// A request without an answer.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) since: Instant,
    /// What its answer meant for the operation, once that came.
    pub(super) step: Option<Step>,
}

/// The requests of a connection that have no answer yet.
///
/// Streams of calls are numbered 1, 3, 5, …: a queue with holes finds each without searching. On one stream, answers
/// come in order.
pub(super) struct Waiting {
    requests: VecDeque<Option<Request>>,
    /// Stream of the first of them; `None` if they are answered in order.
    first: Option<u32>,
    open: usize,
}

impl Waiting {
    pub(super) fn by_stream() -> Self {
        Self {
            requests: VecDeque::new(),
            first: Some(1),
            open: 0,
        }
    }

    pub(super) fn in_order() -> Self {
        Self {
            first: None,
            ..Self::by_stream()
        }
    }

    pub(super) fn is_in_order(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn len(&self) -> usize {
        self.open
    }

    pub(super) fn add(&mut self, stream: u32, number: u64, since: Instant) {
        let next = self
            .first
            .map(|first| first + 2 * self.requests.len() as u32);
        debug_assert!(
            next.is_none_or(|next| next == stream),
            "streams are numbered in order"
        );
        self.requests.push_back(Some(Request {
            number,
            since,
            step: None,
        }));
        self.open += 1;
    }

    pub(super) fn place(&self, stream: u32) -> usize {
        match self.first {
            None => 0,
            Some(first) => (stream.wrapping_sub(first) / 2) as usize,
        }
    }

    /// The request that this stream answers.
    pub(super) fn front_or(&mut self, stream: u32) -> Result<&mut Request> {
        let place = self.place(stream);
        let request = self.requests.get_mut(place).and_then(Option::as_mut);
        request.context("an answer that nobody asked for")
    }

    /// Forgets it.
    pub(super) fn take(&mut self, stream: u32) -> Result<Request> {
        let place = self.place(stream);
        let request = self.requests.get_mut(place).and_then(Option::take);
        self.open -= usize::from(request.is_some());
        while let Some(None) = self.requests.front() {
            self.requests.pop_front();
            self.first = self.first.map(|first| first + 2);
        }
        request.context("an answer that nobody asked for")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Waiting;

    #[test]
    fn calls_are_found_in_any_order() {
        let now = Instant::now();
        let mut waiting = Waiting::by_stream();
        for (stream, number) in [(1, 10), (3, 30), (5, 50)] {
            waiting.add(stream, number, now);
        }
        assert_eq!(waiting.take(3).unwrap().number, 30);
        assert!(waiting.take(3).is_err());
        assert_eq!(waiting.take(1).unwrap().number, 10);
        waiting.add(7, 70, now);
        assert_eq!(waiting.front_or(5).unwrap().number, 50);
        assert_eq!(waiting.take(7).unwrap().number, 70);
        assert!(waiting.take(1).is_err());
        assert_eq!(waiting.len(), 1);
    }
}
