//! Bits and variable-length integers, least significant first.

/// The widest value that [`Writer::push`] and [`bits`] take: with a start inside a byte it still fits one word.
pub(super) const WIDEST: u32 = 56;

/// Writes values of few bits one behind the other into a buffer that must have 8 bytes to spare.
pub(super) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
    held: u64,
    fill: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, at: 0, held: 0, fill: 0 }
    }

    /// Appends a value below 2^width, width at most [`WIDEST`].
    #[inline(always)]
    pub(super) fn push(&mut self, value: u64, width: u32) {
        // The whole word is written each time: what is beyond the fill is overwritten by the next.
        self.held |= value << self.fill;
        self.bytes[self.at..self.at + 8].copy_from_slice(&self.held.to_le_bytes());
        self.fill += width;
        self.at += (self.fill / 8) as usize;
        self.held >>= self.fill & !7;
        self.fill %= 8;
    }

    /// The bytes written, the last one filled up with zeros.
    pub(super) fn finish(self) -> &'a [u8] {
        &self.bytes[..self.at + usize::from(self.fill > 0)]
    }
}

/// The 64 bits from byte `at` on. What is beyond the end reads as zeros.
#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(word) => u64::from_le_bytes(*word),
        None => last_word(bytes.get(at..).unwrap_or_default()),
    }
}

#[cold]
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Appends an integer in groups of 7 bits (LEB128).
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes an integer off the front. `None` where the bytes end before it does or it has more than 64 bits.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return None;
        }
        value |= group << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Small numbers of either sign as small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_that_do_not_fit_are_none() {
        for bytes in [&[][..], &[0x80], &[0xff; 9], &[0xff; 11]] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:?}");
        }
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(take(&mut &most[..]), Some(u64::MAX));
        let above = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(take(&mut &above[..]), None);
    }

    #[test]
    fn signs_alternate() {
        for (value, code) in
            [(0, 0), (-1, 1), (1, 2), (-2, 3), (i64::MAX, u64::MAX - 1), (i64::MIN, u64::MAX)]
        {
            assert_eq!(zigzag(value), code);
            assert_eq!(unzigzag(code), value);
        }
    }

    proptest! {
        #[test]
        fn integers_come_back(value in any::<u64>(), shift in 0..64_u32) {
            let mut bytes = Vec::new();
            put(value >> shift, &mut bytes);
            bytes.push(7);
            let mut rest = &bytes[..];
            prop_assert_eq!(take(&mut rest), Some(value >> shift));
            prop_assert_eq!(rest, &[7]);
        }

        #[test]
        fn bits_come_back(values in proptest::collection::vec((any::<u64>(), 0..=WIDEST), 0..100)) {
            let mut buffer = vec![0xaa; values.len() * 8 + 8];
            let mut writer = Writer::new(&mut buffer);
            for (value, width) in &values {
                writer.push(value & ((1 << width) - 1), *width);
            }
            let bytes = writer.finish();
            let mut at = 0;
            for (value, width) in &values {
                let mask = (1 << width) - 1;
                prop_assert_eq!(word(bytes, at / 8) >> (at % 8) & mask, value & mask);
                at += *width as usize;
            }
            prop_assert_eq!(bytes.len(), at.div_ceil(8));
        }
    }
}
