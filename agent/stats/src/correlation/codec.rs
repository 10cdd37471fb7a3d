//! A block as bytes.
//!
//! ```text
//! version 1 | series, rows, patterns: integers | for each series its pattern
//! for each pattern: rows it has not | for each two: what the smaller has that is not in common
//! shifts, C, S, Q: floats | constants: how many, then pattern, series, value
//! ```
//!
//! Integers are LEB128 with nothing to spare, floats 8 bytes, the lowest first. A block has one form only.

use super::block::{Block, BlockError, Constant, MOST_SERIES, check_shifts};
use super::bytes::{self, Reader};
use super::triangle::{Triangle, pairs};

const VERSION: u8 = 1;

impl Block {
    /// To be stored or sent: [`Self::from_bytes`] gives the same again, to the bit.
    pub fn to_bytes(&self) -> Vec<u8> {
        let floats = self.c.items().len() + self.s.len() + self.q.len() + self.shifts.len();
        let mut out = Vec::with_capacity(8 * floats + 2 * self.both.items().len() + 64);
        out.push(VERSION);
        let sizes = [self.series() as u64, u64::from(self.rows), self.own.len() as u64];
        sizes.into_iter().for_each(|size| bytes::put(size, &mut out));
        self.patterns.iter().for_each(|pattern| bytes::put(u64::from(*pattern), &mut out));
        self.own.iter().for_each(|own| bytes::put(u64::from(self.rows - own), &mut out));
        for ((i, j), both) in self.both.iter() {
            bytes::put(u64::from(self.own[i].min(self.own[j]) - both), &mut out);
        }
        for floats in [&self.shifts[..], self.c.items(), &self.s, &self.q] {
            bytes::put_floats(floats, &mut out);
        }
        bytes::put(self.constants.len() as u64, &mut out);
        for Constant { pattern, series, value } in &self.constants {
            bytes::put(u64::from(*pattern), &mut out);
            bytes::put(u64::from(*series), &mut out);
            bytes::put_floats([value], &mut out);
        }
        out
    }

    /// What [`Self::to_bytes`] made. Of any other bytes an error: what is returned has no sums that no rows have, such
    /// as a negative sum of squares or more rows in common than in all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlockError> {
        let mut reader = Reader(bytes);
        match reader.byte() {
            Some(VERSION) => {}
            Some(version) => return Err(BlockError::Version(version)),
            None => return Err(BlockError::Malformed),
        }
        let block = read(&mut reader).filter(|_| reader.0.is_empty());
        block.filter(Self::is_sound).ok_or(BlockError::Malformed)
    }

    fn is_sound(&self) -> bool {
        // First of all, since the rest relies on it: patterns are numbered as they appear, and each of them is used.
        let mut known = 0;
        let numbered = self.patterns.iter().all(|pattern| {
            known += u32::from(*pattern == known);
            *pattern < known
        });
        if !numbered || known as usize != self.own.len() {
            return false;
        }
        let series = self.series();
        let products = self.c.items().iter().all(|number| number.is_finite());
        let sums = (0..self.own.len()).all(|pattern| {
            (0..series).all(|i| {
                let (s, q) = (self.s[pattern * series + i], self.q[pattern * series + i]);
                let rows = self.common(pattern, i) > 0 || (s == 0.0 && q == 0.0);
                rows && s.is_finite() && q.is_finite() && q >= 0.0
            })
        });
        let constants = self.constants.iter().all(|it| {
            let (pattern, i) = (it.pattern as usize, it.series as usize);
            let there = pattern < self.own.len() && i < series && self.common(pattern, i) > 0;
            there && it.value.is_finite()
        });
        let ordered =
            self.constants.is_sorted_by(|a, b| (a.pattern, a.series) < (b.pattern, b.series));
        products && sums && constants && ordered && check_shifts(&self.shifts, series).is_ok()
    }
}

fn read(reader: &mut Reader<'_>) -> Option<Block> {
    let series = usize::try_from(reader.integer()?).ok().filter(|size| *size <= MOST_SERIES)?;
    let rows = u32::try_from(reader.integer()?).ok()?;
    let kinds = usize::try_from(reader.integer()?).ok().filter(|kinds| *kinds <= series)?;
    let patterns = reader.integers(series)?;
    let lacks = |from: u32, lack: u32| from.checked_sub(lack);
    let own: Vec<u32> =
        reader.integers(kinds)?.into_iter().map(|lack| lacks(rows, lack)).collect::<Option<_>>()?;
    let mut both = Triangle::of(kinds, reader.integers(pairs(kinds))?)?;
    for i in 0..kinds {
        for (both, other) in both.row_mut(i).iter_mut().zip(&own[i + 1..]) {
            *both = lacks(own[i].min(*other), *both)?;
        }
    }
    let shifts = reader.floats(series)?;
    let c = Triangle::of(series, reader.floats(pairs(series))?)?;
    let s = reader.floats(kinds * series)?;
    let q = reader.floats(kinds * series)?;
    let count = usize::try_from(reader.integer()?).ok()?;
    let mut constants = Vec::new();
    for _ in 0..count {
        let [pattern, series] = reader.integers(2)?.try_into().ok()?;
        let [value] = reader.floats(1)?.try_into().ok()?;
        constants.push(Constant { pattern, series, value });
    }
    Some(Block { rows, shifts, patterns, own, both, s, q, c, constants })
}
