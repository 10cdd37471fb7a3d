//! Reading and writing bytes, least significant first.

/// Appends an integer in groups of 7 bits (LEB128).
pub(super) fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_floats<'a>(floats: impl IntoIterator<Item = &'a f64>, out: &mut Vec<u8>) {
    out.extend(floats.into_iter().flat_map(|float| float.to_le_bytes()));
}

/// What is left to be read. `None` from any of these where the bytes end too early.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An integer as [`put`] writes it and in no other way: without needless groups.
    pub(super) fn integer(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group || (byte == 0 && shift > 0) {
                return None;
            }
            value |= group << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// So many floats. Nothing is allocated that is not in the bytes.
    pub(super) fn floats(&mut self, count: usize) -> Option<Vec<f64>> {
        let bytes = self.take(count.checked_mul(8)?)?;
        let (floats, _) = bytes.as_chunks();
        Some(floats.iter().map(|float| f64::from_le_bytes(*float)).collect())
    }

    /// So many integers, each of a byte at least.
    pub(super) fn integers(&mut self, count: usize) -> Option<Vec<u32>> {
        if count > self.0.len() {
            return None;
        }
        (0..count).map(|_| u32::try_from(self.integer()?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_one_way_to_be_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            let mut reader = Reader(&bytes);
            assert_eq!((reader.integer(), reader.0), (Some(value), &[][..]));
            bytes.pop();
            assert_eq!(Reader(&bytes).integer(), None);
        }
        let wide = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        for bytes in [&[0x80, 0][..], &[0xff, 0x80, 0], &wide, &[0x80; 11]] {
            assert_eq!(Reader(bytes).integer(), None, "{bytes:x?}");
        }
    }

    #[test]
    fn no_more_is_taken_than_is_there() {
        assert_eq!(Reader(&[0; 15]).floats(2), None);
        assert_eq!(Reader(&[0; 16]).floats(usize::MAX), None);
        assert_eq!(Reader(&[0; 16]).floats(2), Some(vec![0.0; 2]));
        assert_eq!(Reader(&[1; 3]).integers(4), None);
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0x1f]).integers(1), None);
    }
}
