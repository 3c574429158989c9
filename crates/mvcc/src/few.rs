//! A list that has one item nearly always.
//!
//! A put makes one event, a get one pair, a transaction one answer; a list in memory of its own would be an allocation
//! for each of them.

use std::fmt;
use std::ops::Deref;

/// Some items in order. One alone lies in the list itself.
#[derive(Clone)]
pub struct Few<T>(Held<T>);

#[derive(Clone)]
enum Held<T> {
    One(T),
    /// None, or more than one, or one that is left over.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds an item behind all others.
    pub fn push(&mut self, item: T) {
        match &mut self.0 {
            Held::Many(items) if items.capacity() == 0 => self.0 = Held::One(item),
            Held::Many(items) => items.push(item),
            Held::One(_) => {
                if let Held::One(first) = std::mem::take(self).0 {
                    self.0 = Held::Many(vec![first, item]);
                }
            }
        }
    }

    /// The items as a list of their own.
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Held::One(item) => vec![item],
            Held::Many(items) => items,
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Held::Many(Vec::new()))
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Held::One(item) => std::slice::from_ref(item),
            Held::Many(items) => items,
        }
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        match (items.next(), items.next()) {
            (None, _) => Self::default(),
            (Some(one), None) => Self(Held::One(one)),
            (Some(first), Some(second)) => {
                let rest = items;
                let mut all = Vec::with_capacity(rest.size_hint().0.saturating_add(2));
                all.extend([first, second]);
                all.extend(rest);
                Self(Held::Many(all))
            }
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Held::Many(items))
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Few<T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for Few<T> {}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn a_list_holds_its_items_in_order_however_many_they_are() {
        for count in 0..5 {
            let expected: Vec<i32> = (0..count).collect();
            let mut pushed = Few::default();
            expected.iter().for_each(|item| pushed.push(*item));
            let collected: Few<i32> = expected.iter().copied().collect();
            assert_eq!(&pushed[..], &expected[..]);
            assert_eq!(pushed, collected);
            assert_eq!(pushed.into_vec(), expected);
            assert_eq!(collected, Few::from(expected));
        }
    }
}
