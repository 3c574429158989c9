//! The streams of a connection, by their numbers.
//!
//! Numbers ascend in the order in which streams are opened, so a new one always stands behind the others, and a list
//! in that order is searched by halves. One that is over leaves its place empty: places go when they are the first or
//! the last, and all at once when more are empty than taken. So opening and removing never move many, and a connection
//! whose streams come and go takes no memory for each.
//!
//! # Invariants
//!
//! - Numbers ascend.
//! - The first and the last place are taken.
//! - `open` is the number of places that are taken.

use std::collections::VecDeque;

use super::stream::Stream;

/// So many places may be empty, and room for four times as many is never given back.
const STREAMS_KEPT: usize = 32;

/// The open streams; see the module.
#[derive(Debug)]
pub(super) struct Streams<C> {
    places: VecDeque<(u32, Option<Stream<C>>)>,
    open: usize,
}

impl<C> Streams<C> {
    /// Adds a stream.
    ///
    /// # Panics
    /// When its number is not greater than those of all open streams.
    pub(super) fn open(&mut self, number: u32, stream: Stream<C>) {
        let last = self.places.back().map(|(last, _)| *last);
        assert!(
            last.is_none_or(|last| last < number),
            "numbers of streams ascend: {number} after {last:?}"
        );
        self.places.push_back((number, Some(stream)));
        self.open += 1;
    }

    pub(super) fn get(&self, number: u32) -> Option<&Stream<C>> {
        self.places.get(self.place(number)?)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Stream<C>> {
        let place = self.place(number)?;
        self.places.get_mut(place)?.1.as_mut()
    }

    /// Takes a stream out.
    pub(super) fn remove(&mut self, number: u32) -> Option<Stream<C>> {
        let place = self.place(number)?;
        let stream = self.places.get_mut(place)?.1.take()?;
        self.open -= 1;
        self.drop_empty_places();
        Some(stream)
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// The open streams with their numbers, in the order in which they were opened.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Stream<C>)> {
        self.places
            .iter()
            .filter_map(|(number, stream)| Some((*number, stream.as_ref()?)))
    }

    /// The same, to change them.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Stream<C>)> {
        self.places
            .iter_mut()
            .filter_map(|(number, stream)| Some((*number, stream.as_mut()?)))
    }

    /// The open streams alone.
    pub(super) fn into_streams(self) -> impl Iterator<Item = Stream<C>> {
        self.places.into_iter().filter_map(|(_, stream)| stream)
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.places
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()
    }

    fn drop_empty_places(&mut self) {
        let is_empty = |place: &mut (u32, Option<Stream<C>>)| place.1.is_none();
        while self.places.pop_front_if(is_empty).is_some() {}
        while self.places.pop_back_if(is_empty).is_some() {}
        let empty = self.places.len() - self.open;
        if empty > self.open.max(STREAMS_KEPT) {
            self.places.retain(|(_, stream)| stream.is_some());
        }
        let kept = self.places.len().max(STREAMS_KEPT);
        if self.places.capacity() > 4 * kept {
            self.places.shrink_to(2 * kept);
        }
    }
}

impl<C> Default for Streams<C> {
    fn default() -> Self {
        Self {
            places: VecDeque::new(),
            open: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::window::ReceiveWindow;
    use super::*;

    fn stream(call: u32) -> Stream<u32> {
        Stream {
            call,
            send_window: 0,
            receive: ReceiveWindow::new(0),
            remote_ended: false,
            answered: false,
            waiting: None,
        }
    }

    fn check_invariants(streams: &Streams<u32>) {
        let taken = |place: Option<&(u32, Option<_>)>| place.is_none_or(|place| place.1.is_some());
        assert!(taken(streams.places.front()) && taken(streams.places.back()));
        assert!(streams.places.iter().is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(streams.open, streams.iter().count());
        let empty = streams.places.len() - streams.open;
        assert!(empty <= streams.open.max(STREAMS_KEPT));
        assert!(streams.places.capacity() <= 4 * streams.places.len().max(STREAMS_KEPT));
    }

    proptest! {
        /// Each step opens some streams and then takes one out of `span` at a time from a place on.
        #[test]
        fn streams_are_those_that_were_opened_and_not_removed(
            steps in vec((0..100_u32, 1..4_usize, 0..200_usize), 1..12),
        ) {
            let (mut streams, mut model) = (Streams::default(), BTreeMap::new());
            let mut next = 1;
            for (opened, span, from) in steps {
                for number in (next..).step_by(2).take(opened as usize) {
                    streams.open(number, stream(number));
                    model.insert(number, number);
                }
                next += 2 * opened;
                let gone: Vec<u32> = model.keys().copied().skip(from).step_by(span).collect();
                for number in gone {
                    prop_assert_eq!(streams.remove(number).map(|it| it.call), model.remove(&number));
                    prop_assert!(streams.remove(number).is_none());
                }
                check_invariants(&streams);
                prop_assert_eq!(streams.len(), model.len());
                let open: Vec<_> = streams.iter().map(|(number, it)| (number, it.call)).collect();
                prop_assert_eq!(open, model.clone().into_iter().collect::<Vec<_>>());
                for number in 0..next {
                    let found = streams.get(number).map(|it| it.call);
                    prop_assert_eq!(found, model.get(&number).copied());
                }
            }
        }
    }

    #[test]
    fn the_room_of_a_burst_goes_and_that_of_the_usual_stays() {
        let mut streams = Streams::default();
        let burst = 100 * STREAMS_KEPT as u32;
        (0..burst).for_each(|number| streams.open(number, stream(number)));
        (0..burst).for_each(|number| assert!(streams.remove(number).is_some()));
        assert!(streams.places.capacity() <= 4 * STREAMS_KEPT);
        assert!(streams.places.capacity() >= STREAMS_KEPT);
    }
}
