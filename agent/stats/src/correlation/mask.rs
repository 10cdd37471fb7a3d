//! Which values there are, as bits.

use std::collections::BTreeMap;

use super::wide::{Kernel, dispatch};

/// Rows of a panel: as many as a mask has bits.
pub(super) const ROWS: usize = 64;

/// What is larger is no price or return, and the sums of its squares have no room in an f64.
const LARGEST: f64 = 1e100;

/// Whether a value counts.
#[inline(always)]
pub(super) fn is_there(value: f64) -> bool {
    // A NaN compares false.
    value.abs() <= LARGEST
}

/// For each series and panel of rows the bits of the rows it has a value in, the first row lowest.
pub(super) struct Masks {
    panels: usize,
    bits: Vec<u64>,
}

impl Masks {
    /// Of columns with so many rows each.
    pub(super) fn of(columns: &[&[f64]], rows: usize) -> Self {
        struct Fill<'a>(&'a [&'a [f64]], Vec<u64>);
        impl Kernel for Fill<'_> {
            type Output = Vec<u64>;

            #[inline(always)]
            fn run(mut self) -> Vec<u64> {
                for column in self.0 {
                    for panel in column.chunks(ROWS) {
                        let mut bits = 0;
                        for (row, value) in panel.iter().enumerate() {
                            bits |= u64::from(is_there(*value)) << row;
                        }
                        self.1.push(bits);
                    }
                }
                self.1
            }
        }
        let panels = rows.div_ceil(ROWS);
        let bits = dispatch(Fill(columns, Vec::with_capacity(panels * columns.len())));
        Self { panels, bits }
    }

    /// Of one series, panel by panel.
    pub(super) fn series(&self, series: usize) -> &[u64] {
        &self.bits[series * self.panels..(series + 1) * self.panels]
    }

    /// Which series have the same gaps: for each the number of its pattern, numbered as they appear, and of each
    /// pattern the first series that has it.
    pub(super) fn patterns(&self, series: usize) -> (Vec<u32>, Vec<usize>) {
        let mut known = BTreeMap::new();
        let mut firsts = Vec::new();
        let numbers = (0..series)
            .map(|series| {
                *known.entry(self.series(series)).or_insert_with(|| {
                    firsts.push(series);
                    firsts.len() as u32 - 1
                })
            })
            .collect();
        (numbers, firsts)
    }

    /// For `firsts[i]` and each that stands behind it, itself included, in how many rows both have a value; i by i.
    pub(super) fn counts(&self, firsts: &[usize]) -> Vec<u32> {
        struct Count<'a>(&'a Masks, &'a [usize], Vec<u32>);
        impl Kernel for Count<'_> {
            type Output = Vec<u32>;

            #[inline(always)]
            fn run(mut self) -> Vec<u32> {
                for (at, first) in self.1.iter().enumerate() {
                    let own = self.0.series(*first);
                    for second in &self.1[at..] {
                        let other = self.0.series(*second);
                        let both = own.iter().zip(other).map(|(a, b)| (a & b).count_ones());
                        self.2.push(both.sum());
                    }
                }
                self.2
            }
        }
        let most = firsts.len() * (firsts.len() + 1) / 2;
        dispatch(Count(self, firsts, Vec::with_capacity(most)))
    }
}

/// The first node of those that are all of 8 rows but one.
pub(super) const BUT_8: u8 = 128;
/// And of 16.
pub(super) const BUT_16: u8 = 192;

/// Calls with each node that together cover the rows of a mask, none of them twice: node 0 to 63 are the rows, the 32
/// from there on two rows each, and so on; 126 is all. [`BUT_8`] and the 63 behind it are all of a row's 8 but the row,
/// and [`BUT_16`] and the rest all of its 16.
#[inline(always)]
pub(super) fn cover(mask: u64, mut node: impl FnMut(u8)) {
    // The first node of those of 2, 4, .. rows.
    const TWO: u8 = 64;
    const FOUR: u8 = 96;
    const EIGHT: u8 = 112;
    const SIXTEEN: u8 = 120;
    const HALF: u8 = 124;
    const ALL: u8 = 126;
    if mask == u64::MAX {
        return node(ALL);
    }
    for half in 0..2 {
        let here = (mask >> (32 * half)) as u32;
        if here == u32::MAX {
            node(HALF + half);
            continue;
        }
        for at in 2 * half..2 * half + 2 {
            let gaps = !(mask >> (16 * at)) as u16;
            if gaps == 0 {
                node(SIXTEEN + at);
                continue;
            } else if gaps.is_power_of_two() {
                node(BUT_16 + 16 * at + gaps.trailing_zeros() as u8);
                continue;
            }
            for at in 2 * at..2 * at + 2 {
                let here = (mask >> (8 * at)) as u8;
                let gaps = !here;
                if gaps == 0 {
                    node(EIGHT + at);
                } else if gaps.is_power_of_two() {
                    node(BUT_8 + 8 * at + gaps.trailing_zeros() as u8);
                } else if here != 0 {
                    for at in 2 * at..2 * at + 2 {
                        let here = (mask >> (4 * at)) as u8 & 15;
                        if here == 15 {
                            node(FOUR + at);
                            continue;
                        }
                        for at in 2 * at..2 * at + 2 {
                            match (mask >> (2 * at)) as u8 & 3 {
                                0 => {}
                                3 => node(TWO + at),
                                one => node(2 * at + one - 1),
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a node.
    fn rows(node: u8) -> u64 {
        if node >= BUT_8 {
            let size = if node < BUT_16 { 8 } else { 16 };
            let row = u32::from(node % 64);
            return (((1 << size) - 1) << (row - row % size)) & !(1 << row);
        }
        let (mut node, mut level) = (u32::from(node), 0);
        while node >= 64 >> level {
            node -= 64 >> level;
            level += 1;
        }
        let size = 1 << level;
        let ones = if size == 64 { u64::MAX } else { (1 << size) - 1 };
        ones << (node * size)
    }

    #[test]
    fn nodes_cover_each_row_once() {
        let mut state = 7_u64;
        let mut masks = vec![0, 1, u64::MAX, u64::MAX - 1, u64::MAX >> 1, 1 << 63, !(1 << 32)];
        for round in 0..200 {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let other = state.rotate_left(37) ^ state >> 13;
            masks.push(if round % 2 == 0 { other } else { other | state });
        }
        for mask in masks {
            let (mut covered, mut nodes) = (0, 0);
            cover(mask, |node| {
                assert_eq!(covered & rows(node), 0, "{mask:x}");
                covered |= rows(node);
                nodes += 1;
            });
            assert_eq!(covered, mask);
            assert!(
                nodes <= mask.count_ones().min(1 + 3 * (!mask).count_ones()),
                "{mask:x} {nodes}"
            );
        }
        let mut all = Vec::new();
        cover(u64::MAX, |node| all.push(node));
        assert_eq!(all, [126]);
    }

    #[test]
    fn what_is_no_number_is_not_there() {
        let column = [1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e101, -1e100, 0.0];
        let masks = Masks::of(&[&column], 7);
        assert_eq!(masks.series(0), [0b110_0001]);
        assert_eq!(masks.counts(&[0]), [3]);
    }
}
