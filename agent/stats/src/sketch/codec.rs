//! Sketches as bytes: version 1.
//!
//! A version, a byte of level and flags, the numbers as varints (seven bits a byte, the lowest first) and floats, the
//! first bucket and how many there are, then their counts as bits. A count is written as its difference from what the
//! buckets before it let expect, with as many low bits as those differences had lately: exponential Golomb codes
//! (Teuhola, Information Processing Letters 7, 1978) chosen as JPEG-LS chooses its Golomb codes (Weinberger, Seroussi
//! and Sapiro, IEEE Transactions on Image Processing 9, 2000). Where nothing is expected, the number of empty buckets
//! is written instead.
//!
//! One sketch has one encoding. Any others of it are refused, by encoding again what was read.

use super::index::{self, MAX_LEVEL};
use super::{Parts, Sketch, SketchError};

const VERSION: u8 = 1;
const LEVEL: u8 = 0x0f;
/// There is a coarser source.
const COARSE: u8 = 0x40;
/// There are values.
const VALUES: u8 = 0x80;

impl Sketch {
    /// The same bytes for the same values: some 300 for ten thousand latencies of one kind.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend([VERSION, self.level as u8]);
        put_varint(&mut bytes, self.zeros.into());
        put_varint(&mut bytes, self.rejected.into());
        if self.is_empty() {
            return bytes;
        }
        bytes[1] |= VALUES;
        put_varint(&mut bytes, self.nanos.get());
        bytes.extend(self.least.to_le_bytes());
        bytes.extend(self.most.to_le_bytes());
        if self.coarse > 0.0 {
            bytes[1] |= COARSE;
            bytes.extend(self.coarse.to_le_bytes());
        }
        let (offset, counts) = self.raw();
        // The lowest bit is the sign, so that small numbers of both kinds are short.
        put_varint(&mut bytes, ((offset << 1) ^ (offset >> 31)) as u32 as u128);
        put_varint(&mut bytes, counts.len() as u128);
        put_counts(&mut bytes, counts);
        bytes
    }

    /// The sketch that has these bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        let sketch = Self::from_own_bytes(bytes)?;
        if sketch.to_bytes() == bytes { Ok(sketch) } else { Err(SketchError::NotCanonical) }
    }

    /// The same in half the time for bytes of our own keeping: other encodings of a sketch are not noticed.
    pub fn from_own_bytes(bytes: &[u8]) -> Result<Self, SketchError> {
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(SketchError::Version(*version)),
            None => return Err(SketchError::Truncated),
        }
        let parts = Reader { bytes: &bytes[1..] }.parts().ok_or(SketchError::Truncated)?;
        Self::from_parts(parts)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_counts(bytes: &mut Vec<u8>, counts: &[u64]) {
    let mut writer = Writer { bytes, held: 0, count: 0 };
    let mut model = Model::default();
    let mut rest = counts;
    while let Some(next) = rest.first() {
        if model.expected() > 0 {
            let code = fold(*next, model.expected());
            writer.golomb(code, model.bits());
            model.learn(*next, code);
            rest = &rest[1..];
        } else {
            // The last count is not zero.
            let empty = rest.iter().take_while(|count| **count == 0).count();
            let count = rest[empty];
            writer.golomb(empty as u64, model.run_bits());
            writer.golomb(count - 1, model.bits());
            model.learn_run(empty, count);
            rest = &rest[empty + 1..];
        }
    }
    writer.end();
}

/// What the counts so far let expect of the next one.
#[derive(Default)]
struct Model {
    /// The mean of the latest counts, in units of 2^-8.
    mean: i64,
    /// The mean of the latest codes, in units of 2^-8.
    size: i64,
    /// The mean of the latest runs of empty buckets, in units of 2^-8.
    run: i64,
}

impl Model {
    fn expected(&self) -> u64 {
        ((self.mean + 128) >> 8) as u64
    }

    fn bits(&self) -> u32 {
        bits(self.size)
    }

    fn run_bits(&self) -> u32 {
        bits(self.run)
    }

    fn learn(&mut self, count: u64, code: u64) {
        approach(&mut self.mean, count, 2);
        approach(&mut self.size, code, 3);
    }

    fn learn_run(&mut self, empty: usize, count: u64) {
        approach(&mut self.run, empty as u64, 2);
        for _ in 0..empty {
            approach(&mut self.mean, 0, 2);
        }
        self.learn(count, count - 1);
    }
}

/// Moves a mean by 2^-shift of the way.
fn approach(mean: &mut i64, value: u64, shift: u32) {
    // So that nothing overflows; no count of that size is expected exactly anyway.
    let value = value.min(1 << 40) as i64;
    *mean += ((value << 8) - *mean) >> shift;
}

/// How many low bits of numbers with this mean are as good as random.
fn bits(mean: i64) -> u32 {
    // Half the mean, as most are below it.
    (mean >> 9).unsigned_abs().checked_ilog2().map_or(0, |bits| bits + 1)
}

/// A count as the distance from what is expected: 0, then one below, one above, two below and so on; there is nothing
/// below zero, so that from there on it is the count itself.
fn fold(count: u64, expected: u64) -> u64 {
    if count > 2 * expected {
        count
    } else if count >= expected {
        2 * (count - expected)
    } else {
        2 * (expected - count) - 1
    }
}

/// The inverse of [`fold`].
fn unfold(code: u64, expected: u64) -> u64 {
    if code > 2 * expected {
        code
    } else if code.is_multiple_of(2) {
        expected + code / 2
    } else {
        expected - code.div_ceil(2)
    }
}

/// Bits at the end of bytes, the highest first.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    /// Those that make no byte yet are the lowest.
    held: u64,
    /// How many those are, below 8.
    count: u32,
}

impl Writer<'_> {
    /// The lowest `count` bits of a number that has no others, at most 56.
    fn bits(&mut self, number: u64, count: u32) {
        self.held = self.held << count | number;
        self.count += count;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.held >> self.count) as u8);
        }
    }

    /// The exponential Golomb code of order k: number + 2^k, with as many zeros before it as it has bits beyond k + 1.
    fn golomb(&mut self, number: u64, k: u32) {
        let number = u128::from(number) + (1 << k);
        let top = number.ilog2();
        let width = 2 * top - k + 1;
        if width <= 56 {
            return self.bits(number as u64, width);
        }
        for _ in 0..top - k {
            self.bits(0, 1);
        }
        for bit in (0..=top).rev() {
            self.bits((number >> bit) as u64 & 1, 1);
        }
    }

    /// Fills the last byte with zeros.
    fn end(self) {
        if self.count > 0 {
            self.bytes.push((self.held << (8 - self.count)) as u8);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    /// `None` if the bytes end, or can't be the beginning of any.
    fn parts(&mut self) -> Option<Parts> {
        let [flags] = self.take()?;
        let mut parts = Parts {
            level: u32::from(flags & LEVEL),
            zeros: self.varint()?.try_into().ok()?,
            rejected: self.varint()?.try_into().ok()?,
            offset: 0,
            counts: Vec::new(),
            sum_nanos: 0,
            min: None,
            max: None,
            coarse: 0.0,
        };
        if flags & VALUES != 0 {
            parts.sum_nanos = self.varint()?;
            parts.min = Some(f64::from_le_bytes(self.take()?));
            parts.max = Some(f64::from_le_bytes(self.take()?));
            if flags & COARSE != 0 {
                parts.coarse = f64::from_le_bytes(self.take()?);
            }
            let offset = u32::try_from(self.varint()?).ok()?;
            parts.offset = (offset >> 1) as i32 ^ -((offset & 1) as i32);
            // What is claimed is not believed further than what there can be.
            let (first, last) = index::range(parts.level.min(MAX_LEVEL));
            let most = (last - first + 1) as usize;
            let span = usize::try_from(self.varint()?).ok().filter(|span| *span <= most)?;
            parts.counts = Bits { bytes: self.bytes, at: 0 }.counts(span)?;
        }
        Some(parts)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*taken)
    }

    fn varint(&mut self) -> Option<u128> {
        let mut number = 0;
        for shift in (0..u128::BITS).step_by(7) {
            let [byte] = self.take()?;
            number |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

/// Bits, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// How many were read.
    at: usize,
}

impl Bits<'_> {
    fn counts(&mut self, span: usize) -> Option<Vec<u64>> {
        let mut counts = Vec::with_capacity(span);
        let mut model = Model::default();
        while counts.len() < span {
            if model.expected() > 0 {
                let code = self.golomb(model.bits())?;
                let count = unfold(code, model.expected());
                model.learn(count, code);
                counts.push(count);
            } else {
                let empty = usize::try_from(self.golomb(model.run_bits())?).ok()?;
                let count = self.golomb(model.bits())?.checked_add(1)?;
                if empty >= span - counts.len() {
                    return None;
                }
                model.learn_run(empty, count);
                counts.resize(counts.len() + empty, 0);
                counts.push(count);
            }
        }
        Some(counts)
    }

    /// The next 57 bits at least, the first one highest; behind the end there are zeros.
    #[inline]
    fn window(&self) -> u64 {
        let rest = self.bytes.get(self.at / 8..).unwrap_or_default();
        let eight = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut eight = [0; 8];
            eight.iter_mut().zip(rest).for_each(|(into, byte)| *into = *byte);
            eight
        });
        u64::from_be_bytes(eight) << (self.at % 8)
    }

    /// Passes over bits that there are.
    #[inline]
    fn pass(&mut self, count: u32) -> Option<()> {
        self.at += count as usize;
        (self.at <= 8 * self.bytes.len()).then_some(())
    }

    #[inline]
    fn golomb(&mut self, k: u32) -> Option<u64> {
        let window = self.window();
        let width = 2 * window.leading_zeros() + k + 1;
        if width > 57 {
            return self.long_golomb(k);
        }
        self.pass(width)?;
        Some((window >> (u64::BITS - width)) - (1 << k))
    }

    #[cold]
    fn long_golomb(&mut self, k: u32) -> Option<u64> {
        let mut bit = || {
            let bit = self.window() >> 63;
            self.pass(1).map(|()| u128::from(bit))
        };
        let mut top = k;
        while bit()? == 0 {
            top += 1;
            // 2^65 and more is no count.
            if top > u64::BITS {
                return None;
            }
        }
        let mut number = 1;
        for _ in 0..top {
            number = number << 1 | bit()?;
        }
        u64::try_from(number - (1 << k)).ok()
    }
}
