//! The body of a manifest: the store's image, the pairs that etcd's database file holds beside the
//! keys, and what compactions have hashed of segments.
//!
//! The second part is what [`Backend`] gives and [`Imported`] takes, so whatever becomes part of a
//! snapshot is part of a checkpoint by that alone. The bytes are in `docs/formats/checkpoint.md`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kvorum_mvcc::{HashKv, KeptSection, Sizes, StoreImage};
use kvorum_storage::bolt::schema;
use kvorum_storage::checkpoint::Manifest;
use kvorum_storage::segment::SegmentId;

use crate::backend::import::{Imported, PairDamage};
use crate::backend::{Backend, Item};

/// In the place of a bucket's number: what follows is a [`KeptSection`].
const SECTION: u8 = u8::MAX;
/// The hash of a section and the number of its bytes.
const SECTION_BYTES: usize = 12;

/// Why a body cannot be read although its checksum is right.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It ends in the middle of something.
    #[error("the body of the manifest is cut short")]
    Short,
    /// A bucket that this release does not know.
    #[error("the body of the manifest has a pair in the unknown bucket number {0}")]
    Bucket(u8),
    /// A pair is not what this release writes.
    #[error("the body of the manifest has a wrong pair in bucket {bucket:?}: {damage}")]
    Pair {
        /// Name of the bucket.
        bucket: String,
        /// What is wrong.
        damage: PairDamage,
    },
}

/// The body for a state.
pub(crate) fn encode_body(backend: &Backend, image: &StoreImage) -> Bytes {
    let mut out = BytesMut::new();
    put_image(image, &mut out);
    let mut number = 0;
    for item in backend.items_without_keys() {
        match item {
            Item::Bucket(name) => {
                let found = schema::BUCKETS.iter().position(|bucket| *bucket == name);
                number = found.expect("items are in buckets of the schema") as u8;
            }
            Item::Pair { key, value } => {
                out.put_u8(number);
                put_bytes(&key, &mut out);
                put_bytes(&value, &mut out);
            }
        }
    }
    for kept in &image.sections {
        out.put_u8(SECTION);
        put_bytes(&kept.segment.0.to_le_bytes(), &mut out);
        out.put_u32_le(SECTION_BYTES as u32);
        out.put_u32_le(kept.hash);
        out.put_u64_le(kept.bytes);
    }
    out.freeze()
}

/// The store's image, and everything else.
pub(super) fn decode(manifest: &Manifest) -> Result<(StoreImage, Imported), BodyError> {
    let mut body = manifest.body.clone();
    let mut image = take_image(manifest, &mut body).ok_or(BodyError::Short)?;
    let mut imported = Imported::default();
    while body.has_remaining() {
        let number = body.get_u8();
        if number == SECTION {
            let kept = take_section(&mut body).ok_or(BodyError::Short)?;
            image.sections.push(kept);
            continue;
        }
        let bucket = schema::BUCKETS.get(usize::from(number));
        let bucket = *bucket.ok_or(BodyError::Bucket(number))?;
        let key = take_bytes(&mut body).ok_or(BodyError::Short)?;
        let value = take_bytes(&mut body).ok_or(BodyError::Short)?;
        let taken = imported.pair(bucket, &key, &value);
        taken.map_err(|damage| BodyError::Pair {
            bucket: String::from_utf8_lossy(bucket).into_owned(),
            damage,
        })?;
    }
    Ok((image, imported))
}

fn put_image(image: &StoreImage, out: &mut BytesMut) {
    out.put_i64_le(image.current_revision);
    out.put_i64_le(image.compact_revision);
    out.put_u64_le(image.sizes.total_bytes);
    out.put_u64_le(image.sizes.in_use_bytes);
    out.put_u32_le(image.hashes.len() as u32);
    for hash in &image.hashes {
        out.put_u32_le(hash.hash);
        out.put_i64_le(hash.revision);
        out.put_i64_le(hash.compact_revision);
    }
}

fn take_image(manifest: &Manifest, body: &mut Bytes) -> Option<StoreImage> {
    let current_revision = body.try_get_i64_le().ok()?;
    let compact_revision = body.try_get_i64_le().ok()?;
    let sizes = Sizes {
        total_bytes: body.try_get_u64_le().ok()?,
        in_use_bytes: body.try_get_u64_le().ok()?,
    };
    let count = body.try_get_u32_le().ok()?;
    let mut hashes = Vec::new();
    for _ in 0..count {
        hashes.push(HashKv {
            hash: body.try_get_u32_le().ok()?,
            revision: body.try_get_i64_le().ok()?,
            compact_revision: body.try_get_i64_le().ok()?,
        });
    }
    Some(StoreImage {
        current_revision,
        compact_revision,
        sizes,
        hashes,
        segments: manifest.segments.iter().map(|listed| listed.id).collect(),
        sections: Vec::new(),
        next_segment: manifest.next_segment,
    })
}

fn take_section(body: &mut Bytes) -> Option<KeptSection> {
    let mut segment = take_bytes(body)?;
    let mut section = take_bytes(body)?;
    Some(KeptSection {
        segment: SegmentId(segment.try_get_u64_le().ok()?),
        hash: section.try_get_u32_le().ok()?,
        bytes: section.try_get_u64_le().ok()?,
    })
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take_bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()? as usize;
    (length <= body.len()).then(|| body.split_to(length))
}
