//! Sums about another shift.

use super::block::{Block, BlockError, check_shifts};
use super::dd::Dd;
use super::wide::{Kernel, dispatch};

/// Sum (z + d), of n values z with the sum s.
#[inline(always)]
pub(super) fn sum(s: Dd, n: f64, d: Dd) -> Dd {
    d.times(n).add(s)
}

/// Sum (z + d)^2 = q + 2 d s + n d^2.
#[inline(always)]
pub(super) fn squares(q: Dd, s: Dd, n: f64, d: Dd) -> Dd {
    d.times(n).add(s.times(2.0)).mul(d).add(q)
}

/// Sum (x + a)(y + b) = c + b sum x + a sum y + n a b.
#[inline(always)]
pub(super) fn products(c: Dd, (x, a): (Dd, Dd), (y, b): (Dd, Dd), n: f64) -> Dd {
    a.mul(y).add(b.mul(x)).add(a.mul(b).times(n)).add(c)
}

impl Block {
    /// The same sums about other shifts.
    ///
    /// Each is what the values would give, rounded once: the arithmetic has twice the digits. What the old shift has
    /// cost is gone, though; that is why a block should be made about a good one.
    pub fn rebase(&self, shifts: &[f64]) -> Result<Self, BlockError> {
        check_shifts(shifts, self.series())?;
        Ok(dispatch(Rebase { block: self, shifts }))
    }
}

struct Rebase<'a> {
    block: &'a Block,
    shifts: &'a [f64],
}

impl Kernel for Rebase<'_> {
    type Output = Block;

    #[inline(always)]
    fn run(self) -> Block {
        let Self { block, shifts } = self;
        let series = block.series();
        let moves: Vec<Dd> =
            block.shifts.iter().zip(shifts).map(|(old, new)| Dd::difference(*old, *new)).collect();
        let mut moved = Block { shifts: shifts.to_vec(), ..block.clone() };
        for pattern in 0..block.own.len() {
            for (i, d) in moves.iter().enumerate().filter(|(_, d)| !d.is_zero()) {
                let at = pattern * series + i;
                let n = f64::from(block.common(pattern, i));
                let (s, q) = (Dd::from(block.s[at]), Dd::from(block.q[at]));
                moved.s[at] = sum(s, n, *d).value();
                moved.q[at] = squares(q, s, n, *d).value().max(0.0);
            }
        }
        // Loops, since a closure would be compiled for the least of CPUs.
        for i in 0..series {
            let a = block.patterns[i] as usize;
            let (old, new) = (block.c.row(i), moved.c.row_mut(i));
            for (j, (old, new)) in (i + 1..series).zip(old.iter().zip(new)) {
                if moves[i].is_zero() && moves[j].is_zero() {
                    continue;
                }
                let b = block.patterns[j] as usize;
                let n = f64::from(block.in_both(a, b));
                let (x, y) = (block.s[b * series + i], block.s[a * series + j]);
                let (x, y) = ((Dd::from(x), moves[i]), (Dd::from(y), moves[j]));
                *new = products(Dd::from(*old), x, y, n).value();
            }
        }
        moved
    }
}
