//! Values for tests, and what brute force makes of them.

use genesis_stats::correlation::{Block, Estimate};

/// SplitMix64, as in tests/fixtures/correlation.py.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Nearly normal, with additions alone.
    pub(crate) fn bell(&mut self) -> f64 {
        let sum: f64 = (0..12).map(|_| self.next()).sum();
        sum - 6.0
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f64) as usize
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

pub(crate) type Columns = Vec<Vec<f64>>;

/// Three factors and noise of their own in each series; a share of the values is missing.
pub(crate) fn factors(seed: u64, rows: usize, series: usize, missing: f64) -> Columns {
    let mut random = Random(seed);
    let loads: Vec<[f64; 3]> =
        (0..series).map(|_| [0; 3].map(|_| 2.0 * random.next() - 1.0)).collect();
    let mut columns = vec![Vec::with_capacity(rows); series];
    for _ in 0..rows {
        let factors = [0; 3].map(|_| random.bell());
        for (column, load) in columns.iter_mut().zip(&loads) {
            let mut value = random.bell() * 0.5;
            for (load, factor) in load.iter().zip(factors) {
                value += load * factor;
            }
            let gone = random.next() < missing;
            column.push(if gone { f64::NAN } else { value });
        }
    }
    columns
}

pub(crate) fn slices(columns: &Columns) -> Vec<&[f64]> {
    columns.iter().map(Vec::as_slice).collect()
}

/// About the means.
pub(crate) fn block(columns: &Columns) -> Block {
    let columns = slices(columns);
    Block::of(&columns, &Block::centres(&columns)).unwrap()
}

pub(crate) fn estimate(columns: &Columns) -> Estimate {
    Estimate::of(&block(columns))
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("S{i:03}")).collect()
}

/// What two passes over the rows in common give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Brute {
    pub(crate) points: u32,
    /// NaN where a variance is zero.
    pub(crate) r: f64,
    pub(crate) constant: [bool; 2],
    /// How many times the variance the squares about the shifts have, the larger of the two.
    pub(crate) condition: f64,
}

pub(crate) fn brute(x: &[f64], y: &[f64], shifts: [f64; 2]) -> Brute {
    let both = |(x, y): &(f64, f64)| x.abs() <= 1e100 && y.abs() <= 1e100;
    let common: Vec<(f64, f64)> = x.iter().copied().zip(y.iter().copied()).filter(both).collect();
    let points = common.len() as u32;
    let n = f64::from(points);
    let centred = |values: Vec<f64>, shift: f64| {
        let first = values.first().copied().unwrap_or(0.0);
        let mean = values.iter().map(|value| value - first).sum::<f64>() / n;
        let centred: Vec<f64> = values.iter().map(|value| (value - first) - mean).collect();
        let squares = centred.iter().map(|value| value * value).sum::<f64>();
        let about: f64 = values.iter().map(|value| (value - shift) * (value - shift)).sum();
        let constant = values.iter().all(|value| *value == first);
        (centred, squares, about / squares, constant)
    };
    let (a, va, ca, constant_x) = centred(common.iter().map(|it| it.0).collect(), shifts[0]);
    let (b, vb, cb, constant_y) = centred(common.iter().map(|it| it.1).collect(), shifts[1]);
    let products: f64 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
    let r = if constant_x || constant_y { f64::NAN } else { products / va.sqrt() / vb.sqrt() };
    Brute { points, r, constant: [constant_x, constant_y], condition: ca.max(cb) }
}
