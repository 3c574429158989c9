mod damage;
mod layout;

use proptest::collection::{btree_map, vec};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::error::WriteError;
use super::page::{Kind, Page};
use super::{KEY_BYTES_MAX, PAGE_BYTES, PageId, ReadError, Reader, Sizer, VALUE_BYTES_MAX, Writer};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
/// Buckets by name.
type Content = Vec<(Vec<u8>, Pairs)>;

/// The file with this content.
fn write(content: &Content) -> Vec<u8> {
    let mut sizer = Sizer::new();
    for (name, pairs) in content {
        sizer.bucket(name).unwrap();
        for (key, value) in pairs {
            sizer.pair(key.len(), value.len()).unwrap();
        }
    }
    let layout = sizer.finish().unwrap();
    let mut writer = Writer::new(Vec::new(), layout).unwrap();
    for (name, pairs) in content {
        writer.bucket(name).unwrap();
        for (key, value) in pairs {
            writer.pair(key, value).unwrap();
        }
    }
    let file = writer.finish().unwrap();
    assert_eq!(
        file.len() as u64,
        layout.file_bytes(),
        "the length foretold"
    );
    file
}

/// The content of a file.
fn read(file: &[u8]) -> Result<Content, ReadError> {
    let reader = Reader::open(file)?;
    let mut content = Content::new();
    let mut buckets = reader.buckets()?;
    while let Some(bucket) = buckets.next()? {
        let mut pairs = Pairs::new();
        let mut cursor = reader.pairs(&bucket)?;
        while let Some((key, value)) = cursor.next()? {
            pairs.push((key.to_vec(), value.to_vec()));
        }
        content.push((bucket.name().to_vec(), pairs));
    }
    Ok(content)
}

/// What is written is read again, in a file whose pages obey the rules of the format.
fn check(content: &Content) {
    let file = write(content);
    assert!(read(&file).unwrap() == *content, "content differs");
    check_pages(&file);
}

/// Every page behind the meta pages is part of one tree, says the right thing about itself and is
/// filled as it should be.
fn check_pages(file: &[u8]) {
    let reader = Reader::open(file).unwrap();
    assert_eq!(reader.image_bytes(), file.len() as u64);
    assert_eq!(reader.freelist(), None);
    let pages = (file.len() / PAGE_BYTES) as u64;
    let mut children = Vec::new();
    let mut runs = Vec::new();
    let mut next = 2;
    while next < pages {
        let page = reader.page(PageId(0), PageId(next), |_| false).unwrap();
        runs.push(next);
        for index in 0..page.count() {
            match page.kind() {
                Kind::Branch => children.push(page.child(index).0),
                Kind::Leaf if page.is_bucket(index) => {
                    let root = page.value(index).first_chunk().unwrap();
                    children.push(u64::from_le_bytes(*root));
                    check_inline(page.value(index));
                }
                Kind::Leaf => {}
            }
        }
        check_fill(&page);
        next += page.length() / PAGE_BYTES as u64;
    }
    // The root tree's own root is what no page points to: it is written last.
    children.retain(|child| *child != 0);
    children.push(*runs.last().unwrap());
    children.sort_unstable();
    assert_eq!(children, runs, "each page once");
}

fn check_inline(bucket: &[u8]) {
    let (header, page) = bucket.split_at(16);
    if header[0..8] == [0; 8] {
        let page = Page::parse(page.to_vec()).unwrap();
        assert_eq!(page.kind(), Kind::Leaf);
        assert!(page.length() <= 1024, "an inline bucket is small");
    }
}

fn check_fill(page: &Page) {
    if page.kind() == Kind::Branch {
        assert!(page.count() >= 2, "a branch has two elements");
    }
    let overflows = page.length() > PAGE_BYTES as u64;
    if overflows && page.count() > 3 {
        // Only the last element may reach out of the page: it was held for another.
        let last = page.count() - 1;
        let size = 16 + page.key(last).len() + page.value(last).len();
        assert!(size > PAGE_BYTES / 10, "small pairs need no more pages");
    }
}

fn pairs(sizes: impl IntoIterator<Item = (usize, usize)>) -> Pairs {
    let pair = |(number, (key, value)): (usize, (usize, usize))| {
        let mut bytes = (number as u64).to_be_bytes().to_vec();
        bytes.resize(key.max(8), b'k');
        (bytes, vec![number as u8; value])
    };
    sizes.into_iter().enumerate().map(pair).collect()
}

fn bucket(sizes: impl IntoIterator<Item = (usize, usize)>) -> Content {
    vec![(b"bucket".to_vec(), pairs(sizes))]
}

#[test]
fn a_file_may_be_empty() {
    check(&Vec::new());
    check(&bucket([]));
    assert_eq!(write(&Vec::new()).len(), 3 * PAGE_BYTES);
}

#[test]
fn a_bucket_is_inline_up_to_a_quarter_of_a_page() {
    let pages = |value| {
        let content = bucket([(8, value)]);
        check(&content);
        write(&content).len() / PAGE_BYTES
    };
    assert_eq!(pages(1024 - 16 - 16 - 8), 3);
    assert_eq!(pages(1024 - 16 - 16 - 8 + 1), 4);
}

#[test]
fn many_small_pairs_make_a_tree() {
    check(&bucket((0..100_000).map(|number| (17, number % 60))));
}

#[test]
fn one_value_may_take_many_pages() {
    check(&bucket([(17, 10_000_000)]));
    check(&bucket([
        (17, 1),
        (17, 3_000_000),
        (17, 1),
        (17, 2_000_000),
    ]));
}

#[test]
fn every_size_around_the_end_of_a_page_works() {
    for pages in 1..=2 {
        for size in pages * PAGE_BYTES - 60..=pages * PAGE_BYTES + 10 {
            check(&bucket([(8, size)]));
            check(&bucket([(8, 1), (8, size), (8, 1), (8, 1)]));
            check(&bucket(vec![(8, size); 7]));
        }
    }
}

#[test]
fn long_keys_make_wide_branches() {
    check(&bucket(vec![(KEY_BYTES_MAX, 3); 50]));
    check(&bucket((0..300).map(|number| (8 + number * 20, 0))));
}

#[test]
fn many_buckets_make_a_tree() {
    let one = |number: u32| {
        let name = format!("{number:08}").into_bytes();
        (name, pairs(vec![(8, 50); number as usize % 40]))
    };
    check(&(0..2_000).map(one).collect());
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..80_usize,
        3 => 900..1100_usize,
        2 => 3500..4200_usize,
        1 => 0..40_000_usize,
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let key = vec(any::<u8>(), 1..40);
    let value = (length(), any::<u8>())
        .prop_map(|(length, byte)| vec![byte; length])
        .boxed();
    let few = btree_map(key.clone(), value.clone(), 0..5);
    let many = btree_map(key.clone(), value, 0..400);
    let bucket = prop_oneof![few, many].prop_map(|pairs| pairs.into_iter().collect());
    btree_map(key, bucket, 0..12).prop_map(|buckets| buckets.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 60, ..Default::default() })]
    #[test]
    fn what_is_written_is_read(content in content()) {
        check(&content);
    }
}

#[test]
fn output_can_be_drained_between_pairs() {
    let content = bucket(vec![(17, 500); 1_000]);
    let whole = write(&content);
    let mut sizer = Sizer::new();
    sizer.bucket(b"bucket").unwrap();
    for (key, value) in &content[0].1 {
        sizer.pair(key.len(), value.len()).unwrap();
    }
    let mut writer = Writer::new(Vec::new(), sizer.finish().unwrap()).unwrap();
    writer.bucket(b"bucket").unwrap();
    let mut drained = Vec::new();
    for (key, value) in &content[0].1 {
        writer.pair(key, value).unwrap();
        let part = std::mem::take(writer.output_mut());
        assert!(part.len() <= 3 * PAGE_BYTES, "a step gives out few pages");
        drained.extend(part);
    }
    drained.extend(writer.finish().unwrap());
    assert!(drained == whole);
}

#[test]
fn the_longest_values_share_a_page_only_where_32_bits_reach() {
    let pages = |count: usize| {
        let mut sizer = Sizer::new();
        sizer.bucket(b"bucket").unwrap();
        for _ in 0..count {
            sizer.pair(KEY_BYTES_MAX, VALUE_BYTES_MAX).unwrap();
        }
        sizer.finish().unwrap().file_bytes() / PAGE_BYTES as u64
    };
    let run = |count: u64| {
        let pair = 16 + KEY_BYTES_MAX as u64 + VALUE_BYTES_MAX as u64;
        (16 + count * pair).div_ceil(PAGE_BYTES as u64)
    };
    // Meta pages, the leaf of the root, and the leaves; behind two leaves a branch of two keys.
    assert_eq!(pages(1), 3 + run(1));
    assert_eq!(pages(2), 3 + run(2));
    assert_eq!(pages(3), 3 + run(2) + run(1) + 17);
}

type Attempt<'a> = &'a dyn Fn(&mut Writer<Vec<u8>>) -> Result<(), WriteError>;

#[test]
fn pairs_that_cannot_be_written_are_refused() {
    let layout = {
        let mut sizer = Sizer::new();
        sizer.bucket(b"b").unwrap();
        sizer.pair(1, 1).unwrap();
        sizer.finish().unwrap()
    };
    let check = |write: Attempt<'_>, expected: &str| {
        let mut writer = Writer::new(Vec::new(), layout).unwrap();
        let done = write(&mut writer).and_then(|()| writer.finish().map(drop));
        let text = done.map_or_else(|error| error.to_string(), |()| "written".to_owned());
        assert_eq!(text, expected);
    };
    check(
        &|w| w.bucket(b"b").and_then(|()| w.pair(b"k", b"v")),
        "written",
    );
    let order = "key or bucket name is not above the one before";
    check(&|w| w.bucket(b"b").and_then(|()| w.bucket(b"b")), order);
    let twice = |w: &mut Writer<_>| {
        w.bucket(b"b")?;
        w.pair(b"k", b"v")?;
        w.pair(b"k", b"v")
    };
    check(&twice, order);
    let key = "key of 0 bytes, it must have 1 to 32768";
    check(&|w| w.bucket(b""), key);
    check(&|w| w.bucket(b"b").and_then(|()| w.pair(b"", b"v")), key);
    let key = "key of 32769 bytes, it must have 1 to 32768";
    let long = vec![0; KEY_BYTES_MAX + 1];
    check(&|w| w.bucket(b"b").and_then(|()| w.pair(&long, b"")), key);
    check(&|w| w.pair(b"k", b"v"), "a pair outside of any bucket");
    let layout_differs = "pairs differ from the ones that the layout was made from";
    let much = |w: &mut Writer<_>| w.bucket(b"b").and_then(|()| w.pair(b"k", &[0; 5_000]));
    check(&much, layout_differs);
    let mut writer = Writer::new(Vec::new(), layout).unwrap();
    writer.bucket(b"b").unwrap();
    let more = (0..100_u8).try_for_each(|key| writer.pair(&[key], &[0; 5_000]));
    assert!(
        matches!(more, Err(WriteError::Layout)),
        "noticed on the way"
    );
    assert!(writer.output_mut().len() as u64 <= layout.file_bytes());
    let mut sizer = Sizer::new();
    sizer.bucket(b"b").unwrap();
    let refused = sizer.pair(1, VALUE_BYTES_MAX + 1);
    assert!(matches!(refused, Err(WriteError::ValueLength(_))));
}

#[test]
fn a_layout_with_too_many_pages_is_noticed_at_the_end() {
    let mut sizer = Sizer::new();
    sizer.bucket(b"b").unwrap();
    sizer.pair(1, 5_000).unwrap();
    let mut writer = Writer::new(Vec::new(), sizer.finish().unwrap()).unwrap();
    writer.bucket(b"b").unwrap();
    writer.pair(b"k", b"short").unwrap();
    assert!(matches!(writer.finish(), Err(WriteError::Layout)));
}
