use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

/// Heavy only when even, so that weights differ from entries and change with the value.
#[derive(Clone, Debug, PartialEq)]
struct Value<const IN_ORDER: bool = false>(u32);

impl<const IN_ORDER: bool> Weigh for Value<IN_ORDER> {
    const COMES_IN_ORDER: bool = IN_ORDER;

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
    /// Drops the oldest snapshot; what only it held is used again.
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..400u16;
    let step = prop_oneof![
        6 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Update(key, value)),
        4 => key.prop_map(Step::Remove),
        2 => Just(Step::Snapshot),
        2 => Just(Step::Drop),
    ];
    prop::collection::vec(step, 0..1500)
}

fn check<const IN_ORDER: bool>(
    tree: &Tree<Vec<u16>, Value<IN_ORDER>>,
    model: &BTreeMap<u16, Value<IN_ORDER>>,
) {
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

fn check_bound<const IN_ORDER: bool>(
    tree: &Tree<Vec<u16>, Value<IN_ORDER>>,
    model: &BTreeMap<u16, Value<IN_ORDER>>,
    bound: Bound<&u16>,
) {
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

fn play<const IN_ORDER: bool>(steps: &[Step]) {
    let mut tree = Tree::<Vec<u16>, Value<IN_ORDER>>::default();
    let mut model = BTreeMap::new();
    let mut snapshots = VecDeque::new();
    for step in steps {
        match step {
            Step::Insert(key, value) => {
                let value = Value(*value);
                assert_eq!(tree.insert(key, value.clone()), model.insert(*key, value));
            }
            Step::Update(key, value) => {
                let update = |held: &mut _| std::mem::replace(held, Value(*value));
                let expected = model.get_mut(key).map(update);
                assert_eq!(tree.update(key, update), expected);
            }
            Step::Remove(key) => assert_eq!(tree.remove(key), model.remove(key)),
            Step::Snapshot => snapshots.push_back((tree.clone(), model.clone())),
            Step::Drop => {
                if let Some((tree, model)) = snapshots.pop_front() {
                    check(&tree, &model);
                }
            }
        }
    }
    snapshots.push_back((tree, model));
    for (tree, model) in &snapshots {
        check(tree, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn agrees_with_an_ordered_map_and_snapshots_stay_as_they_were(steps in steps()) {
        play::<false>(&steps);
        play::<true>(&steps);
    }
}

#[test]
fn ascending_inserts_fill_the_leaves() {
    let mut tree = Tree::<Vec<u16>, Value>::default();
    for key in 0..10_000u16 {
        tree.insert(&key, Value(1));
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

thread_local! {
    static COMPARED: Cell<usize> = const { Cell::new(0) };
}

/// A key that counts how often it is compared.
#[derive(Clone, Copy, Debug)]
struct Counted(u32);

impl Ord for Counted {
    fn cmp(&self, other: &Self) -> Ordering {
        COMPARED.with(|compared| compared.set(compared.get() + 1));
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Counted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Counted {}

#[test]
fn a_range_is_found_and_counted_in_logarithmic_time() {
    for keys in [1_000, 30_000, 1_000_000u32] {
        let mut tree = Tree::<Vec<Counted>, Value>::default();
        for key in 0..keys {
            tree.insert(&Counted(key), Value(1));
        }
        let (low, high) = (Counted(keys / 7), Counted(keys / 7 * 6));
        COMPARED.set(0);
        let mut sum = tree.sum_before(Bound::Excluded(&high));
        sum -= tree.sum_before(Bound::Excluded(&low));
        assert_eq!(sum.entries, i64::from(high.0 - low.0));
        let page = tree.ascend(Bound::Included(&low)).take(500);
        assert_eq!(page.last().map(|(key, _)| key.0), Some(low.0 + 499));
        // Three ways down, and a node is searched by halving.
        let most = 3 * (keys.ilog2() as usize + 12);
        let compared = COMPARED.get();
        assert!(compared <= most, "{compared} comparisons among {keys} keys");
    }
}

/// How many nodes of `new` are not nodes of `old`.
fn fresh_nodes(old: &Tree<Vec<u16>, Value>, new: &Tree<Vec<u16>, Value>) -> usize {
    fn collect(node: &Arc<Node<Vec<u16>, Value>>, into: &mut Vec<usize>) {
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
    let mut tree = Tree::<Vec<u16>, Value>::default();
    for key in 0..5_000u16 {
        tree.insert(&key, Value(0));
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

/// A key of few or of thousands of bytes, so that leaves are divided for their bytes too.
fn byte_key() -> impl Strategy<Value = Vec<u8>> {
    let front = prop_oneof![4 => Just(0usize), 4 => Just(5), 1 => Just(3000)];
    (front, 0..6u8, 0..40u8).prop_map(|(front, a, b)| {
        let mut key = vec![b'k'; front];
        key.extend([a, b]);
        key
    })
}

fn check_bytes(tree: &Tree<Packed, Value>, model: &BTreeMap<Vec<u8>, Value>) {
    tree.check_invariants();
    let up = tree.ascend(Bound::Unbounded);
    let up: Vec<_> = up
        .map(|(key, value)| (key.to_slice().into_owned(), value))
        .collect();
    let expected: Vec<_> = model
        .iter()
        .map(|(key, value)| (key.clone(), value))
        .collect();
    assert_eq!(up, expected);
    for (place, (key, value)) in model.iter().enumerate() {
        assert_eq!(tree.get(key.as_slice()), Some(value));
        let before = tree.sum_before(Bound::Excluded(key.as_slice()));
        assert_eq!(before.entries, place as i64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn keys_of_bytes_agree_with_a_plain_map(steps in prop::collection::vec((byte_key(), 0..4u8), 0..600)) {
        let (mut tree, mut model) = (Tree::<Packed, _>::default(), BTreeMap::new());
        let mut snapshots = Vec::new();
        for (number, (key, kind)) in steps.into_iter().enumerate() {
            let value = Value(number as u32);
            match kind {
                0 => prop_assert_eq!(tree.remove(key.as_slice()), model.remove(&key)),
                _ => prop_assert_eq!(tree.insert(&key, value.clone()), model.insert(key, value)),
            }
            if number % 97 == 0 {
                snapshots.push((tree.clone(), model.clone()));
            }
        }
        let mut loader = Loader::default();
        for (key, value) in &model {
            loader.push(key.as_slice(), value.clone());
        }
        snapshots.push((loader.finish(), model.clone()));
        snapshots.push((tree, model));
        for (tree, model) in &snapshots {
            check_bytes(tree, model);
        }
    }
}

#[test]
fn keys_of_bytes_may_come_in_any_order_of_their_own() {
    const KEYS: u32 = 5_000;
    let orders: [fn(u32) -> u32; 3] = [
        |number| number,
        |number| KEYS - 1 - number,
        |number| number * 2_477 % KEYS,
    ];
    for order in orders {
        let (mut tree, mut model) = (Tree::<Packed, _>::default(), BTreeMap::new());
        for number in (0..KEYS).map(order) {
            let key = format!("/registry/pods/namespace-{:03}/{number}", number / 90).into_bytes();
            tree.insert(&key, Value(number));
            model.insert(key, Value(number));
        }
        check_bytes(&tree, &model);
    }
}
