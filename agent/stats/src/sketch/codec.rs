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
        let mut bytes = vec![VERSION, self.level as u8];
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
        match bytes.first() {
            Some(&VERSION) => {}
            Some(version) => return Err(SketchError::Version(*version)),
            None => return Err(SketchError::Truncated),
        }
        let parts = Reader { bytes: &bytes[1..], used: 0 }.parts().ok_or(SketchError::Truncated)?;
        let sketch = Self::from_parts(parts)?;
        if sketch.to_bytes() == bytes { Ok(sketch) } else { Err(SketchError::NotCanonical) }
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
    let mut writer = Writer { bytes, free: 0 };
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
    /// Bits of the last byte that are not used.
    free: u32,
}

impl Writer<'_> {
    /// The lowest `count` bits of a number.
    fn bits(&mut self, number: u128, mut count: u32) {
        while count > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let now = count.min(self.free);
            count -= now;
            self.free -= now;
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((number >> count) as u8 & low_bits(now)) << self.free;
            }
        }
    }

    /// The exponential Golomb code of order k: number + 2^k, with as many zeros before it as it has bits beyond k + 1.
    fn golomb(&mut self, number: u64, k: u32) {
        let number = u128::from(number) + (1 << k);
        let top = number.ilog2();
        self.bits(0, top - k);
        self.bits(number, top + 1);
    }
}

/// As many ones, up to 8.
fn low_bits(count: u32) -> u8 {
    (0xff_u16 >> (8 - count)) as u8
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// Bits of the first byte that were read.
    used: u32,
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
            parts.counts = self.counts(span)?;
        }
        Some(parts)
    }

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

    fn bits(&mut self, mut count: u32) -> Option<u128> {
        let mut number = 0;
        while count > 0 {
            let now = count.min(8 - self.used);
            let byte = self.bytes.first()? >> (8 - self.used - now) & low_bits(now);
            number = number << now | u128::from(byte);
            count -= now;
            self.used += now;
            if self.used == 8 {
                self.bytes = &self.bytes[1..];
                self.used = 0;
            }
        }
        Some(number)
    }

    fn golomb(&mut self, k: u32) -> Option<u64> {
        let mut top = k;
        while self.bits(1)? == 0 {
            top += 1;
            // 2^65 and more is no count.
            if top > u64::BITS {
                return None;
            }
        }
        let number = 1 << top | self.bits(top)?;
        u64::try_from(number - (1 << k)).ok()
    }
}
