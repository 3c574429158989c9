use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Heavy only when even, so that weights differ from entries and change with the value.
#[derive(Clone, Debug, PartialEq)]
struct Value(u32);

impl Weigh for Value {
    fn weight(&self) -> i64 {
        i64::from(self.0.is_multiple_of(2))
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    Update(u16, u32),
    Remove(u16),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..400u16;
    let step = prop_oneof![
        6 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Update(key, value)),
        4 => key.prop_map(Step::Remove),
        1 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 0..1500)
}

fn check(tree: &Tree<u16, Value>, model: &BTreeMap<u16, Value>) {
    tree.check_invariants();
    assert_eq!(tree.is_empty(), model.is_empty());
    assert_eq!(tree.last(), model.iter().next_back());
    for bound in (0..=410u16).step_by(23) {
        for bound in [
            Bound::Included(&bound),
            Bound::Excluded(&bound),
            Bound::Unbounded,
        ] {
            check_bound(tree, model, bound);
        }
        assert_eq!(tree.get(&bound), model.get(&bound));
        assert_eq!(tree.floor(&bound), model.range(..=bound).next_back());
    }
}

fn check_bound(tree: &Tree<u16, Value>, model: &BTreeMap<u16, Value>, bound: Bound<&u16>) {
    let up: Vec<_> = tree.ascend(bound).collect();
    assert_eq!(
        up,
        model
            .range((bound.cloned(), Bound::Unbounded))
            .collect::<Vec<_>>()
    );
    let down: Vec<_> = tree.descend(bound).collect();
    let below: Vec<_> = model
        .range((Bound::Unbounded, bound.cloned()))
        .rev()
        .collect();
    assert_eq!(down, below);
    let weight = below.iter().map(|(_, value)| value.weight()).sum();
    assert_eq!(
        tree.sum_before(bound),
        Sum {
            entries: below.len() as i64,
            weight
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn agrees_with_an_ordered_map_and_snapshots_stay_as_they_were(steps in steps()) {
        let mut tree = Tree::default();
        let mut model = BTreeMap::new();
        let mut snapshots = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    let value = Value(value);
                    prop_assert_eq!(tree.insert(key, value.clone()), model.insert(key, value));
                }
                Step::Update(key, value) => {
                    let old = tree.update(&key, |held| std::mem::replace(held, Value(value)));
                    let expected = model.get_mut(&key).map(|held| std::mem::replace(held, Value(value)));
                    prop_assert_eq!(old, expected);
                }
                Step::Remove(key) => prop_assert_eq!(tree.remove(&key), model.remove(&key)),
                Step::Snapshot => snapshots.push((tree.clone(), model.clone())),
            }
        }
        snapshots.push((tree, model));
        for (tree, model) in &snapshots {
            check(tree, model);
        }
    }
}

#[test]
fn ascending_inserts_fill_the_leaves() {
    let mut tree = Tree::default();
    for key in 0..10_000u16 {
        tree.insert(key, Value(1));
    }
    tree.check_invariants();
    assert_eq!(
        tree.sum(),
        Sum {
            entries: 10_000,
            weight: 0
        }
    );
    for key in 0..10_000u16 {
        assert_eq!(tree.remove(&key), Some(Value(1)));
        if key % 500 == 0 {
            tree.check_invariants();
        }
    }
    assert!(tree.is_empty());
}

/// How many nodes of `new` are not nodes of `old`.
fn fresh_nodes(old: &Tree<u16, Value>, new: &Tree<u16, Value>) -> usize {
    fn collect(node: &Arc<Node<u16, Value>>, into: &mut Vec<usize>) {
        into.push(Arc::as_ptr(node) as usize);
        if let Node::Inner(inner) = node.as_ref() {
            inner
                .children
                .iter()
                .for_each(|child| collect(&child.node, into));
        }
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    old.root.iter().for_each(|root| collect(root, &mut before));
    new.root.iter().for_each(|root| collect(root, &mut after));
    after.iter().filter(|node| !before.contains(node)).count()
}

#[test]
fn a_batch_copies_a_node_once() {
    let mut tree = Tree::default();
    for key in 0..5_000u16 {
        tree.insert(key, Value(0));
    }
    let snapshot = tree.clone();
    for round in 0..100 {
        tree.update(&7, |value| value.0 = round);
    }
    // The tree has three levels, and all hundred updates go down the same path.
    assert_eq!(fresh_nodes(&snapshot, &tree), 3);
    tree.remove(&9_999);
    assert_eq!(fresh_nodes(&snapshot, &tree), 3);
}
