//! A block of at most [`ROWS`] integers: the least of them, and what each has above it in few bits.
//!
//! Either all have the same width (frame of reference), or the low bits have it and what is above them is written in
//! unary: Rice, "Some Practical Universal Noiseless Coding Techniques" (JPL 79-22, 1979), which for exponential gaps is
//! within 0.05 bits of their entropy. As in Elias and Fano's lists, the low bits stand together and so do the unary
//! parts: neither has to wait for the other when they are read. A unary part that would be too long is cut and
//! patched behind the block, as in Zukowski et al., "Super-Scalar RAM-CPU Cache Compression" (ICDE 2006).
//!
//! ```text
//! reference: zigzag varint | kind: width, + 0x80 where the unary part is missing
//! low bits, width each     | unary parts: zeros, then a one | what each unary part of LIMIT lacks: varints
//! ```

use super::bits::{self, WIDEST, Writer};

/// The most integers of a block: enough that its header is nothing, few enough that it follows the data.
pub(super) const ROWS: usize = 512;
/// The least bytes of a block.
pub(super) const LEAST: usize = 2;

/// The longest unary part.
const LIMIT: u64 = 24;
/// The bit of the kind that says that there are no unary parts.
const PLAIN: u8 = 0x80;
/// The width at which values are written as they are: those between [`WIDEST`] and this would cross words.
const WHOLE: u32 = 64;

/// What the unary part of a value costs whose highest bit is the `n`th above the low bits: the mean of all such
/// values, in half bits.
const UNARY: [u32; 65] = {
    let mut costs = [0; 65];
    let mut n = 1;
    while n < 65 {
        // Of 1, of 2 and 3, of 4 to 7, of 8 to 15; beyond, the limit and a varint.
        let cut = LIMIT as u32 + 8 * (n as u32).div_ceil(7);
        costs[n] = if n < 5 { (3 << (n - 1)) - 1 } else { 2 * cut };
        n += 1;
    }
    costs
};

/// Appends one block. No more than [`ROWS`] values, and at least one.
pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let reference = values.iter().copied().min().unwrap_or_default();
    let mut above = [0; ROWS];
    let above = &mut above[..values.len()];
    let mut lengths = [0_u32; 65];
    for (above, value) in above.iter_mut().zip(values) {
        // The difference of any two i64 fits a u64.
        *above = value.wrapping_sub(reference) as u64;
        lengths[64 - above.leading_zeros() as usize] += 1;
    }
    bits::put(bits::zigzag(reference), out);
    match cheapest(&lengths, values.len() as u32) {
        (WHOLE, _) => {
            out.push(PLAIN | WHOLE as u8);
            out.extend(above.iter().flat_map(|value| value.to_le_bytes()));
        }
        (width, false) => {
            out.push(PLAIN | width as u8);
            let mut buffer = [0; ROWS * 8];
            let mut low = Writer::new(&mut buffer);
            above.iter().for_each(|value| low.push(*value, width));
            out.extend_from_slice(low.finish());
        }
        (width, true) => {
            out.push(width as u8);
            rice(above, width, out);
        }
    }
}

fn rice(above: &[u64], width: u32, out: &mut Vec<u8>) {
    let (mut low, mut unary) = ([0; ROWS * 8], [0; ROWS * (LIMIT as usize + 1) / 8 + 8]);
    let (mut low, mut unary) = (Writer::new(&mut low), Writer::new(&mut unary));
    let mask = (1 << width) - 1;
    let mut most = 0;
    for value in above {
        low.push(value & mask, width);
        let high = (value >> width).min(LIMIT);
        unary.push(1 << high, high as u32 + 1);
        most |= value >> width;
    }
    out.extend_from_slice(low.finish());
    out.extend_from_slice(unary.finish());
    if most >= LIMIT {
        let cut = above.iter().filter_map(|value| (value >> width).checked_sub(LIMIT));
        cut.for_each(|rest| bits::put(rest, out));
    }
}

/// The width that needs the fewest bits for values of these lengths, and whether with unary parts.
fn cheapest(lengths: &[u32; 65], values: u32) -> (u32, bool) {
    let longest = lengths.iter().rposition(|count| *count > 0).unwrap_or_default() as u32;
    let plain = if longest > WIDEST { WHOLE } else { longest };
    let mut best = (2 * values * plain, plain, false);
    for width in 0..longest.min(WIDEST + 1) {
        let higher = &lengths[width as usize + 1..=longest as usize];
        let unary: u32 = higher.iter().zip(&UNARY[1..]).map(|(count, cost)| count * cost).sum();
        let cost = 2 * values * (width + 1) + unary;
        if cost < best.0 {
            best = (cost, width, true);
        }
    }
    (best.1, best.2)
}

/// Takes one block off the front: the reference, and what each value has above it into `above`.
/// `None` where the bytes end before the block does, or are none of [`encode`].
pub(super) fn decode(bytes: &mut &[u8], above: &mut [u64]) -> Option<i64> {
    let reference = bits::unzigzag(bits::take(bytes)?);
    let (kind, body) = bytes.split_first()?;
    let (width, plain) = (u32::from(kind & !PLAIN), kind & PLAIN != 0);
    if width > WIDEST && (width != WHOLE || !plain) {
        return None;
    }
    let (low, mut rest) = body.split_at_checked((above.len() * width as usize).div_ceil(8))?;
    if width == WHOLE {
        let (words, _) = low.as_chunks();
        above.iter_mut().zip(words).for_each(|(value, word)| *value = u64::from_le_bytes(*word));
    } else {
        if plain {
            above.fill(0);
        } else {
            high(&mut rest, width, above)?;
        }
        let mask = (1 << width) - 1;
        let mut at = 0;
        for value in above {
            // From the body, not its low bits alone: to read on is cheaper than to stop in time, and masked.
            *value = *value << width | bits::word(body, at / 8) >> (at % 8) & mask;
            at += width as usize;
        }
    }
    *bytes = rest;
    Some(reference)
}

/// Takes the unary parts off the front, and what the longest of them lack.
fn high(bytes: &mut &[u8], width: u32, parts: &mut [u64]) -> Option<()> {
    let (mut at, mut word) = (0, bits::word(bytes, 0));
    let (mut start, mut longest) = (0, 0);
    for part in parts.iter_mut() {
        while word == 0 {
            at += 8;
            if at >= bytes.len() {
                return None;
            }
            word = bits::word(bytes, at);
        }
        let one = at as u64 * 8 + u64::from(word.trailing_zeros());
        word &= word - 1;
        *part = one - start;
        longest = longest.max(*part);
        start = one + 1;
    }
    // The last one was found in the bytes, so they reach this far.
    *bytes = bytes.get(start.div_ceil(8) as usize..)?;
    if longest < LIMIT {
        return Some(());
    }
    for part in parts.iter_mut().filter(|part| **part >= LIMIT) {
        let whole = part.checked_add(bits::take(bytes)?)?;
        if longest > LIMIT || whole << width >> width != whole {
            return None;
        }
        *part = whole;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[i64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(values, &mut bytes);
        bytes
    }

    fn decoded(bytes: &mut &[u8], values: usize) -> Option<Vec<i64>> {
        let mut above = vec![0xaa; values];
        let reference = decode(bytes, &mut above)?;
        Some(above.iter().map(|above| reference.wrapping_add_unsigned(*above)).collect())
    }

    #[test]
    fn known_bytes() {
        for (values, bytes) in [
            // All the same: no bits at all.
            (&[-3; ROWS][..], &[5, 0x80][..]),
            // 0, 2 and 1 above 5, two bits each.
            (&[5, 7, 6], &[10, 0x82, 0b01_10_00]),
            // Mostly nothing: in unary, 1 1 1 1 01 1 1 0001.
            (&[0, 0, 0, 0, 1, 0, 0, 3], &[0, 0, 0b1110_1111, 0b1000]),
            // One cut off at 24, and the other 976 behind.
            (&[0, 0, 0, 0, 1, 0, 0, 1_000], &[0, 0, 0b1110_1111, 0, 0, 0, 1, 0xd0, 7]),
            // One low bit each, then the half in unary: 01 01 01 01 1 1 01 001.
            (&[2, 3, 2, 3, 0, 1, 2, 5], &[0, 1, 0b1010_1010, 0b1010_1010, 0b0100_1011]),
            // So wide that they stay as they are.
            (
                &[0, i64::MAX, i64::MAX],
                &[
                    0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127, 255,
                    255, 255, 255, 255, 255, 255, 127,
                ],
            ),
        ] {
            assert_eq!(encoded(values), bytes, "{values:?}");
            assert_eq!(decoded(&mut &bytes[..], values.len()).as_deref(), Some(values));
        }
    }

    #[test]
    fn what_contradicts_itself_is_none() {
        for (values, bytes) in [
            (1, &[][..]),
            (1, &[0]),
            // A width that is none, and 64 with unary parts.
            (1, &[0, 0x80 | 57, 0, 0, 0, 0, 0, 0, 0, 0]),
            (1, &[0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            // Low bits, and unary parts, that end too early.
            (3, &[0, 0x80 | 3, 0]),
            (3, &[0, 0, 0b11]),
            (3, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            // A unary part above the limit, with and without what would follow.
            (1, &[0, 0, 0, 0, 0, 0b10]),
            (1, &[0, 0, 0, 0, 0, 0b10, 0]),
            // One at the limit that lacks what follows, and one that has more than a u64 holds.
            (1, &[0, 0, 0, 0, 0, 1]),
            (1, &[0, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 232, 1]),
            (1, &[0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            assert_eq!(decoded(&mut &bytes[..], values), None, "{bytes:?}");
        }
        let most = [0, 56, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 231, 1];
        assert_eq!(decoded(&mut &most[..], 1), Some(vec![(0xff_u64 << 56) as i64]));
    }

    #[test]
    fn a_few_that_stand_out_cost_only_themselves() {
        let mut values: Vec<i64> = (0..ROWS as i64).map(|i| i * 37 % 128).collect();
        let without = encoded(&values).len();
        assert_eq!(without, 2 + ROWS * 7 / 8);
        for i in [0, 100, ROWS - 1] {
            values[i] = 1 << 60;
        }
        let with = encoded(&values).len();
        assert!(with < without + ROWS / 8 + 3 * 14, "{with} {without}");
    }

    fn values() -> impl Strategy<Value = Vec<i64>> {
        let value = (any::<i64>(), 0..64_u32).prop_map(|(value, shift)| value >> shift);
        let any_lengths = proptest::collection::vec(value, 1..=ROWS);
        let of_a_length = (0..64_u32).prop_flat_map(|shift| {
            proptest::collection::vec(any::<i64>().prop_map(move |value| value >> shift), 1..=ROWS)
        });
        prop_oneof![any_lengths, of_a_length]
    }

    proptest! {
        #[test]
        fn values_come_back(values in values(), more in any::<[u8; 3]>(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = encoded(&values);
            prop_assert!(bytes.len() >= LEAST);
            let length = bytes.len();
            bytes.extend(more);
            let mut rest = &bytes[..];
            prop_assert_eq!(decoded(&mut rest, values.len()), Some(values.clone()));
            prop_assert_eq!(rest, more);
            let end = cut.index(length);
            prop_assert_eq!(decoded(&mut &bytes[..end], values.len()), None, "{}", end);
        }

        /// Never more than the plain width of the widest would cost.
        #[test]
        fn the_cheapest_is_no_dearer_than_plain(values in values()) {
            let (min, max) = (values.iter().min().unwrap(), values.iter().max().unwrap());
            let bits = 64 - max.abs_diff(*min).leading_zeros() as usize;
            let bits = if bits > 56 { 64 } else { bits };
            // The cost of values between two powers of two is estimated, so there is some play.
            let most = 12 + (values.len() * bits).div_ceil(8) + values.len() / 8;
            prop_assert!(encoded(&values).len() <= most, "{} > {most}", encoded(&values).len());
        }
    }
}
