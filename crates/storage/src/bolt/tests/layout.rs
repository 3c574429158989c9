//! Bytes as the format says them, see `docs/formats/bolt.md`.

use kvorum_proto::ids::{LeaseId, MemberId};

use super::{PAGE_BYTES, Reader, write};
use crate::bolt::PageId;
use crate::bolt::meta::{Meta, NO_FREELIST};
use crate::bolt::page::{Header, Kind};
use crate::bolt::schema::{
    BUCKETS, RevisionKey, SchemaError, decode_lease_key, decode_member_key, decode_number,
    lease_key, member_key, number,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn worked_example() {
    let pair = |key: &str, value: &[u8]| (key.as_bytes().to_vec(), value.to_vec());
    let file = write(&vec![
        (b"key".to_vec(), vec![]),
        (
            b"meta".to_vec(),
            vec![pair("term", &[0, 0, 0, 0, 0, 0, 0, 7])],
        ),
    ]);
    let meta = |page: &str, transaction: &str, checksum: &str| {
        [
            page,
            "0400000000000000", // flags: meta page
            "edda0ced",         // magic
            "02000000",         // version
            "00100000",         // page size
            "00000000",         // flags
            "0200000000000000", // root: page 2
            "0000000000000000", // sequence
            "ffffffffffffffff", // no list of free pages
            "0300000000000000", // three pages
            transaction,
            checksum,
        ]
        .concat()
    };
    let first = meta("0000000000000000", "0200000000000000", "4067af04a0b168e3");
    assert_eq!(hex(&file[..80]), first);
    let second = meta("0100000000000000", "0100000000000000", "a3457d25bb065940");
    assert_eq!(hex(&file[4096..4176]), second);
    let leaf = [
        "0200000000000000",                 // page 2
        "0200020000000000",                 // leaf, two elements, no further pages
        "01000000200000000300000020000000", // bucket, key at 16 + 32, 3 and 32 bytes
        "0100000033000000040000003c000000", // bucket, key at 32 + 51, 4 and 60 bytes
        "6b6579",                           // "key"
        "0000000000000000",                 // inline
        "0000000000000000",                 // sequence
        "0000000000000000",                 // page 0
        "0200000000000000",                 // leaf, no elements
        "6d657461",                         // "meta"
        "0000000000000000",
        "0000000000000000",
        "0000000000000000",
        "0200010000000000",                 // leaf, one element
        "00000000100000000400000008000000", // pair, key at 16 + 16, 4 and 8 bytes
        "7465726d",                         // "term"
        "0000000000000007",
    ]
    .concat();
    assert_eq!(hex(&file[8192..8192 + leaf.len() / 2]), leaf);
    assert!(file[8192 + leaf.len() / 2..].iter().all(|byte| *byte == 0));
    assert_eq!(file.len(), 3 * PAGE_BYTES);
}

/// A file without buckets that has pages of this size and says this about its list of free pages.
fn empty_file(page_bytes: u32, freelist: u64) -> Vec<u8> {
    let meta = |transaction| Meta {
        page_bytes,
        root: PageId(3),
        freelist,
        pages: 4,
        transaction,
    };
    let page = |id, flags| {
        let mut page = Vec::new();
        let header = Header {
            id: PageId(id),
            flags,
            count: 0,
            overflow: 0,
        };
        header.encode(&mut page);
        page.resize(page_bytes as usize, 0);
        page
    };
    [
        meta(8).encode(PageId(0)),
        meta(9).encode(PageId(1)),
        page(2, 0x10),
        page(3, Kind::Leaf.flags()),
    ]
    .concat()
}

#[test]
fn pages_may_have_another_size_and_a_list_of_free_ones() {
    for page_bytes in [1 << 10, 1 << 12, 1 << 14, 1 << 16] {
        let mut file = empty_file(page_bytes, 2);
        let check = |file: &[u8], transaction: u64| {
            let reader = Reader::open(file).unwrap();
            assert_eq!(reader.page_bytes(), page_bytes);
            assert_eq!(reader.transaction(), transaction, "the newer meta page");
            assert_eq!(reader.freelist(), Some(PageId(2)));
            assert_eq!(reader.buckets().unwrap().next().unwrap(), None);
        };
        check(&file, 9);
        // Bytes behind the last page, such as a SHA-256, are nobody's business.
        file.extend([7; 32]);
        check(&file, 9);
        let (first, second) = (16, page_bytes as usize + 16);
        file[first] ^= 1;
        check(&file, 9);
        file[second] ^= 1;
        assert!(Reader::open(&file[..]).is_err());
        file[first] ^= 1;
        check(&file, 8);
    }
    assert_eq!(
        Reader::open(&empty_file(4096, NO_FREELIST)[..])
            .unwrap()
            .freelist(),
        None
    );
}

#[test]
fn revisions_are_keys() {
    let check = |main, sub, tombstone, expected: &str| {
        let key = RevisionKey {
            main,
            sub,
            tombstone,
        };
        assert_eq!(hex(&key.encode()), expected);
        assert_eq!(key.encode().len(), key.encoded_bytes());
        assert_eq!(RevisionKey::decode(&key.encode()), Ok(key));
    };
    check(13, 0, false, "000000000000000d5f0000000000000000");
    check(3, 0, true, "00000000000000035f000000000000000074");
    check(i64::MAX, 258, false, "7fffffffffffffff5f0000000000000102");
    let good = RevisionKey {
        main: 1,
        sub: 2,
        tombstone: true,
    };
    let good = good.encode();
    for (index, byte) in [(0, 0x80), (8, b'-'), (9, 0x80), (17, b'x')] {
        let mut bad = good.clone();
        bad[index] = byte;
        assert_eq!(RevisionKey::decode(&bad), Err(SchemaError::Revision));
    }
    for length in (0..17).chain([19]) {
        let mut bad = good.clone();
        bad.resize(length, b't');
        assert_eq!(RevisionKey::decode(&bad), Err(SchemaError::Revision));
    }
}

#[test]
fn numbers_leases_and_members_are_keys() {
    assert_eq!(hex(&number(0x26)), "0000000000000026");
    assert_eq!(decode_number(&number(u64::MAX)), Ok(u64::MAX));
    assert_eq!(decode_number(b"123"), Err(SchemaError::Number(3)));
    let lease = LeaseId(0x0568_a1fb_6884_c187);
    assert_eq!(hex(&lease_key(lease)), "0568a1fb6884c187");
    for lease in [lease, LeaseId(-1)] {
        assert_eq!(decode_lease_key(&lease_key(lease)), Ok(lease));
    }
    let member = MemberId(0x00dd_d5c5_0000_0001);
    assert_eq!(member_key(member), "ddd5c500000001");
    assert_eq!(decode_member_key(b"ddd5c500000001"), Ok(member));
    for bad in [
        "",
        "00dd",
        "DD",
        "+dd",
        "xyz",
        "11111111111111111",
        "\u{fc}",
    ] {
        let decoded = decode_member_key(bad.as_bytes());
        assert_eq!(decoded, Err(SchemaError::Member), "{bad}");
    }
}

#[test]
fn buckets_are_named_in_order() {
    assert!(BUCKETS.is_sorted());
}
