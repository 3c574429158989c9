//! Writing the headers of answers.
//!
//! All that the server ever repeats are three fields: the content type and the two trailers of a call that went
//! well. They enter the client's table with their first use and are single bytes from then on. Everything else is
//! written out and enters no table, so nothing is ever evicted and the places are known by counting.

use super::{ENTRY_BYTES, TABLE_BYTES_MAX, write_integer, write_string};

/// Places in the static table.
const STATUS_200: usize = 8;
const STATUS: usize = 8;
const CONTENT_TYPE: usize = 31;
/// The place of the newest entry of the dynamic table.
const NEWEST: usize = 62;

/// The fields that enter the table: the place of the name in the static table or 0, name, value.
const REPEATED: [(usize, &str, &str); 3] = [
    (CONTENT_TYPE, "content-type", "application/grpc"),
    (0, "grpc-status", "0"),
    (0, "grpc-message", ""),
];

/// What all of [`REPEATED`] need in the table.
const TABLE_BYTES_NEEDED: usize = {
    let mut bytes = 0;
    let mut place = 0;
    while place < REPEATED.len() {
        bytes += REPEATED[place].1.len() + REPEATED[place].2.len() + ENTRY_BYTES;
        place += 1;
    }
    bytes
};
const _: () = assert!(TABLE_BYTES_NEEDED <= TABLE_BYTES_MAX);

/// The writing side of the compression of one connection.
#[derive(Debug, Default)]
pub(in crate::transport) struct Encoder {
    /// How many fields were in the table when each of [`REPEATED`] entered it.
    entered: [Option<usize>; REPEATED.len()],
    count: usize,
    /// The client has a table too small for this.
    no_table: bool,
    /// The next block begins with a new size of the table, 0.
    tells_size: bool,
}

impl Encoder {
    /// The client said how large its table may be.
    pub(in crate::transport) fn limit_table(&mut self, bytes: usize) {
        if bytes < TABLE_BYTES_NEEDED && !self.no_table {
            *self = Self {
                no_table: true,
                tells_size: true,
                ..Self::default()
            };
        }
    }

    /// The headers before the first message of an answer.
    pub(in crate::transport) fn answer(&mut self, block: &mut Vec<u8>) {
        self.begin(block);
        write_integer(0x80, 7, STATUS_200, block);
        self.repeated(0, block);
    }

    /// The trailers of a call that went well.
    pub(in crate::transport) fn ok(&mut self, block: &mut Vec<u8>) {
        self.begin(block);
        self.repeated(1, block);
        self.repeated(2, block);
    }

    /// The trailers of a call that failed; `message` is percent-encoded.
    pub(in crate::transport) fn failed(&mut self, code: u8, message: &str, block: &mut Vec<u8>) {
        self.begin(block);
        self.status(code, message, block);
    }

    /// Headers and trailers in one, for a call that failed before its first message.
    pub(in crate::transport) fn failure(
        &mut self,
        http_status: u16,
        code: u8,
        message: &str,
        block: &mut Vec<u8>,
    ) {
        self.begin(block);
        self.http_status(http_status, block);
        self.repeated(0, block);
        self.status(code, message, block);
    }

    /// The headers of an answer that is a number alone.
    pub(in crate::transport) fn bare(&mut self, http_status: u16, block: &mut Vec<u8>) {
        self.begin(block);
        self.http_status(http_status, block);
    }

    fn begin(&mut self, block: &mut Vec<u8>) {
        if std::mem::take(&mut self.tells_size) {
            write_integer(0x20, 5, 0, block);
        }
    }

    fn http_status(&mut self, http_status: u16, block: &mut Vec<u8>) {
        if http_status == 200 {
            return write_integer(0x80, 7, STATUS_200, block);
        }
        write_integer(0, 4, STATUS, block);
        write_string(http_status.to_string().as_bytes(), block);
    }

    fn status(&mut self, code: u8, message: &str, block: &mut Vec<u8>) {
        for (name, value) in [
            ("grpc-status", code.to_string().as_str()),
            ("grpc-message", message),
        ] {
            write_integer(0, 4, 0, block);
            write_string(name.as_bytes(), block);
            write_string(value.as_bytes(), block);
        }
    }

    fn repeated(&mut self, place: usize, block: &mut Vec<u8>) {
        if let Some(entered) = self.entered[place] {
            return write_integer(0x80, 7, NEWEST + self.count - 1 - entered, block);
        }
        let (index, name, value) = REPEATED[place];
        let (mark, bits) = if self.no_table { (0, 4) } else { (0x40, 6) };
        write_integer(mark, bits, index, block);
        if index == 0 {
            write_string(name.as_bytes(), block);
        }
        write_string(value.as_bytes(), block);
        if !self.no_table {
            self.entered[place] = Some(self.count);
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::Encoder;

    fn read(decoder: &mut Decoder, block: &[u8]) -> String {
        let fields = decoder.decode(block).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = fields
            .list
            .iter()
            .map(|(name, value)| format!("{}={}", text(name), text(value)));
        lines.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn blocks_are_read_back_in_any_order_and_repeat_in_few_bytes() {
        type Write = fn(&mut Encoder, &mut Vec<u8>);
        let kinds: [(Write, &str); 5] = [
            (
                |encoder, block| encoder.answer(block),
                ":status=200 content-type=application/grpc",
            ),
            (
                |encoder, block| encoder.ok(block),
                "grpc-status=0 grpc-message=",
            ),
            (
                |encoder, block| encoder.failed(14, "gone", block),
                "grpc-status=14 grpc-message=gone",
            ),
            (
                |encoder, block| encoder.failure(415, 3, "bad", block),
                ":status=415 content-type=application/grpc grpc-status=3 grpc-message=bad",
            ),
            (|encoder, block| encoder.bare(431, block), ":status=431"),
        ];
        for order in 0..3125_usize {
            for limit in [None, Some(100), Some(65536)] {
                let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(1000));
                for step in 0..5_u32 {
                    if let (2, Some(limit)) = (step, limit) {
                        encoder.limit_table(limit);
                    }
                    let (write, expected) = kinds[order / 5_usize.pow(step) % 5];
                    let mut block = Vec::new();
                    write(&mut encoder, &mut block);
                    assert_eq!(read(&mut decoder, &block), expected);
                }
            }
        }
        let mut encoder = Encoder::default();
        for _ in 0..2 {
            encoder.answer(&mut Vec::new());
            encoder.ok(&mut Vec::new());
        }
        let mut block = Vec::new();
        encoder.answer(&mut block);
        encoder.ok(&mut block);
        assert_eq!(block, [0x88, 0xc0, 0xbf, 0xbe]);
    }
}
