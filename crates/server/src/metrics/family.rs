//! Metrics with labels.

use std::sync::{Arc, PoisonError, RwLock};

use super::value::{Buckets, Counter, Gauge, Histogram};

/// A metric with one value per combination of labels. A combination appears with its first use.
///
/// Looking a value up takes a shared lock and a binary search, and allocates nothing after the first time.
#[derive(Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    buckets: Option<Buckets>,
    /// Ascending by label values.
    values: RwLock<Vec<Combination<T>>>,
}

/// The values of the labels, and what is counted under them.
type Combination<T> = (Box<[String]>, Arc<T>);

/// A value that a family can make.
pub trait FamilyValue {
    /// An empty value; `buckets` is given for histograms only.
    fn empty(buckets: Option<Buckets>) -> Self;
}

impl FamilyValue for Counter {
    fn empty(_: Option<Buckets>) -> Self {
        Self::default()
    }
}

impl FamilyValue for Gauge {
    fn empty(_: Option<Buckets>) -> Self {
        Self::default()
    }
}

impl FamilyValue for Histogram {
    fn empty(buckets: Option<Buckets>) -> Self {
        Self::new(buckets.unwrap_or(Buckets {
            first: 1.0,
            factor: 2.0,
            count: 0,
        }))
    }
}

impl<T: FamilyValue> Family<T> {
    /// A family without values yet. Label names are in alphabetical order, as they are printed.
    pub(super) fn new(labels: &'static [&'static str], buckets: Option<Buckets>) -> Self {
        debug_assert!(
            labels.is_sorted(),
            "labels are printed in alphabetical order"
        );
        Self {
            labels,
            buckets,
            values: RwLock::default(),
        }
    }

    /// The value for these label values, in the order of the label names.
    pub fn with(&self, label_values: &[&str]) -> Arc<T> {
        assert_eq!(label_values.len(), self.labels.len(), "one value per label");
        // What panics under this lock leaves whole combinations behind.
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(place) = find(&values, label_values) {
            return Arc::clone(&values[place].1);
        }
        drop(values);
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made it in between.
        let place = find(&values, label_values).unwrap_or_else(|place| {
            let key = label_values
                .iter()
                .map(|value| (*value).to_owned())
                .collect();
            values.insert(place, (key, Arc::new(T::empty(self.buckets))));
            place
        });
        Arc::clone(&values[place].1)
    }

    /// Forgets all combinations, for a label that carries the present state such as the cluster version.
    pub fn clear(&self) {
        self.values
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Every combination, in order, with its labels as name and value.
    pub(super) fn each(&self, mut visit: impl FnMut(&[(&str, &str)], &T)) {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in values.iter() {
            let labels: Vec<_> = self
                .labels
                .iter()
                .copied()
                .zip(key.iter().map(String::as_str))
                .collect();
            visit(&labels, value);
        }
    }
}

/// The place of a combination, or where it belongs.
fn find<T>(values: &[Combination<T>], label_values: &[&str]) -> Result<usize, usize> {
    values.binary_search_by(|(key, _)| {
        key.iter()
            .map(String::as_str)
            .cmp(label_values.iter().copied())
    })
}
