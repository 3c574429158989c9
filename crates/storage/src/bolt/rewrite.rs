//! A finished file once more, with a few pairs changed.
//!
//! bbolt changes a file in place; we write it anew, which also leaves no free pages behind. The
//! pairs of the old file stream through, the changes are merged in where their keys belong.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::{ReadError, Reader, Sizer, Source, WriteError, Writer};

/// What a copy has different from its original.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Buckets whose pairs are left out; what is put into them stays.
    cleared: BTreeSet<Vec<u8>>,
    /// For each bucket the keys that differ; none: removed.
    pairs: BTreeMap<Vec<u8>, Changed>,
}

/// The pairs of one bucket that differ.
type Changed = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Why a copy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The original cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Patch {
    /// No difference.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves out the pairs of a bucket, but not the bucket.
    pub fn clear(&mut self, bucket: &[u8]) {
        self.cleared.insert(bucket.to_vec());
    }

    /// Puts a pair into a bucket, which need not exist.
    pub fn put(&mut self, bucket: &[u8], key: &[u8], value: &[u8]) {
        self.set(bucket, key, Some(value.to_vec()));
    }

    /// Leaves out a pair.
    pub fn remove(&mut self, bucket: &[u8], key: &[u8]) {
        self.set(bucket, key, None);
    }

    fn set(&mut self, bucket: &[u8], key: &[u8], value: Option<Vec<u8>>) {
        let bucket = self.pairs.entry(bucket.to_vec()).or_default();
        bucket.insert(key.to_vec(), value);
    }
}

/// One step of the walk through a copy.
enum Item<'a> {
    Bucket(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

/// Writes the copy; gives the output back, which is not flushed.
///
/// # Errors
///
/// [`RewriteError`]. What was written until then is no file.
pub fn rewrite<S: Source, W: Write>(
    file: &Reader<S>,
    patch: &Patch,
    output: W,
) -> Result<W, RewriteError> {
    let mut sizer = Sizer::new();
    walk(file, patch, &mut |item| match item {
        Item::Bucket(name) => sizer.bucket(name),
        Item::Pair(key, value) => sizer.pair(key.len(), value.len()),
    })?;
    let mut writer = Writer::new(output, sizer.finish()?)?;
    walk(file, patch, &mut |item| match item {
        Item::Bucket(name) => writer.bucket(name),
        Item::Pair(key, value) => writer.pair(key, value),
    })?;
    Ok(writer.finish()?)
}

type Take<'t> = &'t mut dyn FnMut(Item<'_>) -> Result<(), WriteError>;

fn walk<S: Source>(file: &Reader<S>, patch: &Patch, take: Take<'_>) -> Result<(), RewriteError> {
    let mut names = BTreeSet::new();
    let mut buckets = file.buckets()?;
    while let Some(bucket) = buckets.next()? {
        names.insert(bucket.name().to_vec());
    }
    names.extend(patch.pairs.keys().cloned());
    for name in names {
        take(Item::Bucket(&name))?;
        walk_bucket(file, &name, patch, take)?;
    }
    Ok(())
}

fn walk_bucket<S: Source>(
    file: &Reader<S>,
    name: &[u8],
    patch: &Patch,
    take: Take<'_>,
) -> Result<(), RewriteError> {
    let mut put = |key: &[u8], value: Option<&[u8]>| match value {
        Some(value) => take(Item::Pair(key, value)),
        None => Ok(()),
    };
    let mut changed = patch.pairs.get(name).into_iter().flatten().peekable();
    let bucket = file.bucket(name)?;
    if let Some(bucket) = bucket.filter(|_| !patch.cleared.contains(name)) {
        let mut pairs = file.pairs(&bucket)?;
        while let Some((key, value)) = pairs.next()? {
            while let Some((changed, value)) = changed.next_if(|(at, _)| at.as_slice() < key) {
                put(changed, value.as_deref())?;
            }
            match changed.next_if(|(at, _)| at.as_slice() == key) {
                Some((_, value)) => put(key, value.as_deref())?,
                None => put(key, Some(value))?,
            }
        }
    }
    for (key, value) in changed {
        put(key, value.as_deref())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Content = Vec<(String, Vec<(String, String)>)>;

    fn content(file: &[u8]) -> Content {
        let reader = Reader::open(file).unwrap();
        let mut buckets = reader.buckets().unwrap();
        let mut content = Content::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        while let Some(bucket) = buckets.next().unwrap() {
            let mut shown = Vec::new();
            let mut pairs = reader.pairs(&bucket).unwrap();
            while let Some((key, value)) = pairs.next().unwrap() {
                shown.push((text(key), text(value)));
            }
            content.push((text(bucket.name()), shown));
        }
        content
    }

    fn made(content: &Content) -> Vec<u8> {
        let mut sizer = Sizer::new();
        sizer.bucket(b"a").unwrap();
        let empty = Writer::new(Vec::new(), sizer.finish().unwrap());
        let mut empty = empty.unwrap();
        empty.bucket(b"a").unwrap();
        let empty = empty.finish().unwrap();
        let mut patch = Patch::new();
        for (bucket, pairs) in content {
            for (key, value) in pairs {
                patch.put(bucket.as_bytes(), key.as_bytes(), value.as_bytes());
            }
        }
        let reader = Reader::open(empty.as_slice()).unwrap();
        rewrite(&reader, &patch, Vec::new()).unwrap()
    }

    fn bucket(name: &str, pairs: &str) -> (String, Vec<(String, String)>) {
        let pairs = pairs.split_whitespace().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        });
        (name.to_owned(), pairs.collect())
    }

    #[test]
    fn a_copy_differs_by_the_patch_and_by_nothing_else() {
        let original = made(&vec![
            bucket("a", "b=1 d=1 f=1"),
            bucket("c", "x=1 y=1"),
            bucket("e", "z=1"),
        ]);
        let reader = Reader::open(original.as_slice()).unwrap();
        let same = rewrite(&reader, &Patch::new(), Vec::new()).unwrap();
        assert_eq!(content(&same), content(&original));
        let mut patch = Patch::new();
        for key in ["a", "c", "d", "g"] {
            patch.put(b"a", key.as_bytes(), b"2");
        }
        patch.remove(b"a", b"f");
        patch.remove(b"a", b"never");
        patch.clear(b"c");
        patch.put(b"c", b"y", b"3");
        patch.put(b"d", b"new", b"4");
        let copy = rewrite(&reader, &patch, Vec::new()).unwrap();
        let expected = vec![
            bucket("a", "a=2 b=1 c=2 d=2 g=2"),
            bucket("c", "y=3"),
            bucket("d", "new=4"),
            bucket("e", "z=1"),
        ];
        assert_eq!(content(&copy), expected);
    }
}
