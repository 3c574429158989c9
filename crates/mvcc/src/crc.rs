//! The checksum of two parts from the checksums of each.
//!
//! A CRC is a remainder: the bits of a message are the coefficients of a polynomial over the field
//! of two elements, and the CRC is what is left after division by a fixed one. To put n bytes behind
//! a message multiplies it by x to the power of 8n, and so its remainder; the remainder of those
//! bytes is then added. That the CRC begins and ends with inverted bits falls out of the sum.
//!
//! Numbers hold coefficients as CRC-32C does: the highest bit is that of x to the power of 0.

/// The divisor of CRC-32C, without its highest power.
const DIVISOR: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// The polynomial that one byte behind a message multiplies it by: x to the power of 8.
const BYTE: u32 = ONE >> 8;

/// The CRC-32C of a message of which the front has the CRC `front`, and the `back_bytes` bytes
/// behind it have the CRC `back`.
pub(crate) fn join(front: u32, back: u32, back_bytes: u64) -> u32 {
    product(front, power(back_bytes)) ^ back
}

/// [`BYTE`] to a power.
fn power(mut exponent: u64) -> u32 {
    let (mut result, mut square) = (ONE, BYTE);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
        exponent >>= 1;
    }
    result
}

/// The remainder of the product of two polynomials.
fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    for power in 0..u32::BITS {
        if a & (ONE >> power) != 0 {
            sum ^= b;
        }
        // Times x; what leaves the number at its lowest bit is the highest power.
        let leaves = b & 1 == 1;
        b >>= 1;
        if leaves {
            b ^= DIVISOR;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_join_to_the_checksum_of_the_whole() {
        let message: Vec<u8> = (0..3000u32).map(|n| ((n * n) >> 3) as u8).collect();
        for end in [0, 1, 2, 255, 256, 1000, 3000] {
            let whole = crc32c::crc32c(&message[..end]);
            for middle in [0, 1, 7, 255, 999, 3000] {
                let (front, back) = message[..end].split_at(middle.min(end));
                let parts = (crc32c::crc32c(front), crc32c::crc32c(back));
                assert_eq!(join(parts.0, parts.1, back.len() as u64), whole);
            }
        }
    }
}
