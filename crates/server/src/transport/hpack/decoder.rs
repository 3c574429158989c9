//! Reading header blocks.

use std::collections::VecDeque;

use bytes::Bytes;

use super::table::STATIC;
use super::{ENTRY_BYTES, STRING_PREFIX_BITS, TABLE_BYTES_MAX, huffman};

/// Bytes of an integer after its prefix. More would not fit the 32 bits that any length or index needs at most.
const INTEGER_BYTES_MAX: u32 = 4;

/// Name and value.
pub(in crate::transport) type Field = (Bytes, Bytes);

/// The block cannot be read, so both ends do not have the same table any more: the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::transport) struct Malformed;

/// The fields of a block, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::transport) struct Fields {
    pub(in crate::transport) list: Vec<Field>,
    /// Names and values, and [`ENTRY_BYTES`] for each field.
    pub(in crate::transport) bytes: usize,
    /// The fields are larger than allowed; `list` has only the first of them.
    pub(in crate::transport) too_large: bool,
}

/// The reading side of the compression of one connection.
///
/// Invariants: `table_bytes` is the size of `table` and at most `table_bytes_max`, which is at most
/// [`TABLE_BYTES_MAX`].
#[derive(Debug)]
pub(in crate::transport) struct Decoder {
    /// The newest entry first.
    table: VecDeque<Field>,
    table_bytes: usize,
    table_bytes_max: usize,
    /// Grows with every change of the table.
    changes: u64,
    /// Largest size of the fields of a block.
    fields_bytes_max: usize,
}

impl Decoder {
    pub(in crate::transport) fn new(fields_bytes_max: usize) -> Self {
        Self {
            table: VecDeque::new(),
            table_bytes: 0,
            table_bytes_max: TABLE_BYTES_MAX,
            changes: 0,
            fields_bytes_max,
        }
    }

    /// Names the state of the table: while it is the same, the same block has the same meaning.
    pub(in crate::transport) fn changes(&self) -> u64 {
        self.changes
    }

    /// Reads a whole block.
    ///
    /// # Errors
    /// It is malformed.
    pub(in crate::transport) fn decode(&mut self, block: &[u8]) -> Result<Fields, Malformed> {
        let mut fields = Fields::default();
        let mut reader = Reader { block, position: 0 };
        while let Some(first) = block.get(reader.position) {
            match first.leading_zeros() {
                // A reference to name and value.
                0 => {
                    let index = reader.integer(7)?;
                    let field = self.entry(index)?;
                    self.push(&mut fields, field);
                }
                // A literal that enters the table.
                1 => {
                    let field = self.literal(&mut reader, 6)?;
                    self.push(&mut fields, field.clone());
                    self.insert(field);
                }
                // A new size of the table, which stands only at the beginning.
                2 => {
                    let size = reader.integer(5)?;
                    if size > TABLE_BYTES_MAX || fields.bytes > 0 {
                        return Err(Malformed);
                    }
                    self.table_bytes_max = size;
                    self.changes += 1;
                    self.evict(0);
                }
                // One that does not, or never may.
                _ => {
                    let field = self.literal(&mut reader, 4)?;
                    self.push(&mut fields, field);
                }
            }
        }
        Ok(fields)
    }

    /// The entry of a number of 1 or more.
    fn entry(&self, index: usize) -> Result<Field, Malformed> {
        let place = index.checked_sub(1).ok_or(Malformed)?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok((
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            ));
        }
        let entry = self.table.get(place - STATIC.len());
        entry.cloned().ok_or(Malformed)
    }

    fn literal(&self, reader: &mut Reader<'_>, name_bits: u32) -> Result<Field, Malformed> {
        let name = match reader.integer(name_bits)? {
            0 => reader.string()?,
            index => self.entry(index)?.0,
        };
        Ok((name, reader.string()?))
    }

    fn push(&self, fields: &mut Fields, field: Field) {
        fields.bytes += size(&field);
        fields.too_large |= fields.bytes > self.fields_bytes_max;
        if !fields.too_large {
            fields.list.push(field);
        }
    }

    fn insert(&mut self, field: Field) {
        self.changes += 1;
        let bytes = size(&field);
        self.evict(bytes);
        // An entry larger than the table leaves it empty.
        if bytes <= self.table_bytes_max {
            self.table_bytes += bytes;
            self.table.push_front(field);
        }
    }

    /// Lets the oldest entries go until there is room for an entry of this size.
    fn evict(&mut self, room_bytes: usize) {
        while self.table_bytes + room_bytes > self.table_bytes_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.table_bytes -= size(&oldest);
        }
    }
}

fn size((name, value): &Field) -> usize {
    name.len() + value.len() + ENTRY_BYTES
}

struct Reader<'a> {
    block: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.block.get(self.position).ok_or(Malformed)?;
        self.position += 1;
        Ok(byte)
    }

    /// Reads an integer that begins in the last `prefix_bits` of the next byte.
    fn integer(&mut self, prefix_bits: u32) -> Result<usize, Malformed> {
        let prefix_max = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & prefix_max;
        if value < prefix_max {
            return Ok(value);
        }
        for place in 0..INTEGER_BYTES_MAX {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Bytes, Malformed> {
        let first = self.block.get(self.position).ok_or(Malformed)?;
        let coded = first & 1 << STRING_PREFIX_BITS != 0;
        let length = self.integer(STRING_PREFIX_BITS)?;
        let rest = self.block.get(self.position..).ok_or(Malformed)?;
        let bytes = rest.get(..length).ok_or(Malformed)?;
        self.position += length;
        if coded {
            huffman::decode(bytes).map(Bytes::from).ok_or(Malformed)
        } else {
            Ok(Bytes::copy_from_slice(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::super::{write_huffman, write_string};
    use super::{Decoder, Malformed, Reader};

    fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Malformed> {
        let fields = decoder.decode(block)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = |(name, value): &super::Field| format!("{}={}", text(name), text(value));
        Ok(fields.list.iter().map(line).collect())
    }

    /// Blocks of one connection, each with its fields.
    fn check(blocks: &[(&[u8], &[&str])]) -> Decoder {
        let mut decoder = Decoder::new(1000);
        for (block, expected) in blocks {
            let fields = read(&mut decoder, block).unwrap();
            assert_eq!(fields, *expected, "{}", block.escape_ascii());
        }
        decoder
    }

    #[test]
    fn requests_of_the_standard() {
        // Source: RFC 7541, appendix C.3 and C.4.
        let expected: [&[&str]; 3] = [
            &[
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com",
            ],
            &[
                ":method=GET",
                ":scheme=http",
                ":path=/",
                ":authority=www.example.com",
                "cache-control=no-cache",
            ],
            &[
                ":method=GET",
                ":scheme=https",
                ":path=/index.html",
                ":authority=www.example.com",
                "custom-key=custom-value",
            ],
        ];
        let plain: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x0fwww.example.com",
            b"\x82\x86\x84\xbe\x58\x08no-cache",
            b"\x82\x87\x85\xbf\x40\x0acustom-key\x0ccustom-value",
        ];
        let coded: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        for blocks in [plain, coded] {
            let cases: Vec<_> = blocks.into_iter().zip(expected).collect();
            let decoder = check(&cases);
            assert_eq!((decoder.table.len(), decoder.table_bytes), (3, 164));
        }
    }

    #[test]
    fn the_table_forgets_its_oldest_entries() {
        let decoder = check(&[
            // Room for one entry of two letters, then two of them.
            (
                b"\x3f\x03\x40\x01a\x01b\x40\x01c\x01d\xbe",
                &["a=b", "c=d", "c=d"],
            ),
            // A literal that does not enter, by the name of one that did.
            (b"\x0f\x2f\x01e\x1f\x2f\x01f\xbe", &["c=e", "c=f", "c=d"]),
            // An entry larger than the table empties it.
            (b"\x40\x02gg\x02hh", &["gg=hh"]),
        ]);
        assert_eq!((decoder.table.len(), decoder.table_bytes), (0, 0));
        assert_eq!(read(&mut { decoder }, b"\xbe"), Err(Malformed));
    }

    #[test]
    fn only_what_changes_the_table_changes_what_a_block_means() {
        let mut decoder = Decoder::new(1000);
        let mut changes = Vec::new();
        for block in [
            &b"\x82"[..],
            b"\x01\x01a",
            b"\x11\x01a",
            b"\x41\x01a",
            b"\x20",
        ] {
            read(&mut decoder, block).unwrap();
            changes.push(decoder.changes());
        }
        assert_eq!(changes, [0, 0, 0, 1, 2]);
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let cases: &[&[u8]] = &[
            // No such entry, the entry 0, a size behind a field or above what was offered.
            b"\xbe",
            b"\x80",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            // Cut short, a length without an end, a value with wrong padding.
            b"\x41",
            b"\x41\x03a:",
            b"\x41\x7f\xff\xff\xff\xff\xff\xff",
            b"\xff\xff\xff\xff\xff\xff\xff",
            b"\x41\x81\xff",
        ];
        for block in cases {
            let refused = Decoder::new(1000).decode(block);
            assert_eq!(refused, Err(Malformed), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn a_large_list_is_read_to_its_end_and_not_kept() {
        let mut decoder = Decoder::new(1000);
        let mut block = b"\x40\x01a".to_vec();
        write_string(&[b'x'; 500], &mut block);
        block.extend_from_slice(&[0xbe; 10_000]);
        block.extend_from_slice(b"\x40\x01b\x01c");
        let fields = decoder.decode(&block).unwrap();
        assert!(fields.too_large && fields.list.len() < 3);
        assert_eq!(read(&mut decoder, b"\xbe").unwrap(), ["b=c"]);
    }

    proptest! {
        #[test]
        fn strings_are_read_as_written(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut block = Vec::new();
            write_string(&text, &mut block);
            write_huffman(&text, &mut block);
            let mut reader = Reader { block: &block, position: 0 };
            for _ in 0..2 {
                assert_eq!(reader.string().unwrap(), text);
            }
            assert_eq!(reader.position, block.len());
        }

        #[test]
        fn rubbish_is_read_without_a_panic(
            blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5)
        ) {
            let mut decoder = Decoder::new(1000);
            for block in blocks {
                let _ = decoder.decode(&block);
                assert!(decoder.table_bytes <= decoder.table_bytes_max);
            }
        }
    }
}
