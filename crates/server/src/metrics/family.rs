//! Metrics with labels.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::value::{Buckets, Counter, Gauge, Histogram};

/// A metric with one value per combination of labels. A combination appears with its first use.
///
/// Looking a value up takes a lock; who counts often keeps the value.
#[derive(Debug)]
pub struct Family<T> {
    labels: &'static [&'static str],
    buckets: Option<Buckets>,
    values: Mutex<BTreeMap<Vec<String>, Arc<T>>>,
}

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
            values: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<String>, Arc<T>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value for these label values, in the order of the label names.
    pub fn with(&self, label_values: &[&str]) -> Arc<T> {
        assert_eq!(label_values.len(), self.labels.len(), "one value per label");
        let key = label_values
            .iter()
            .map(|value| (*value).to_owned())
            .collect();
        let mut values = self.lock();
        let value = values
            .entry(key)
            .or_insert_with(|| Arc::new(T::empty(self.buckets)));
        Arc::clone(value)
    }

    /// Forgets all combinations, for a label that carries the present state such as the cluster version.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Every combination, in order, with its labels as name and value.
    pub(super) fn each(&self, mut visit: impl FnMut(&[(&str, &str)], &T)) {
        let values: Vec<_> = self
            .lock()
            .iter()
            .map(|(key, value)| (key.clone(), Arc::clone(value)))
            .collect();
        for (key, value) in values {
            let labels: Vec<_> = self
                .labels
                .iter()
                .copied()
                .zip(key.iter().map(String::as_str))
                .collect();
            visit(&labels, &value);
        }
    }
}
