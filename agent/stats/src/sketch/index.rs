//! Which bucket holds a value, from the bits of the float and without a logarithm.
//!
//! Everything here is integers and exact floats, so that it is the same on every machine.

/// Smaller values, in seconds, count as zero.
pub(super) const LEAST: f64 = 1e-9;
/// Larger values, in seconds, are rejected: 2^32, some 136 years.
pub(super) const MOST: f64 = 4_294_967_296.0;
/// The bucket that holds [`LEAST`], at level 0.
const FIRST: i32 = -1_913;
/// The bucket that holds [`MOST`], at level 0.
const LAST: i32 = 2_048;
/// The coarsest level: gamma is 2^16, and four buckets hold everything.
pub(super) const MAX_LEVEL: u32 = 10;

/// Bits of a float's mantissa.
pub(super) const MANTISSA: u32 = 52;
/// What is added to a float's exponent.
pub(super) const BIAS: i32 = 1_023;
/// Buckets to a doubling, at level 0.
const STEPS: i32 = 64;

/// 2^(j/64) - 1 in units of 2^-52, rounded down: the mantissa bits of the largest float in bucket j.
const BOUNDARIES: [u64; STEPS as usize] = [
    0x0_0000_0000_0000,
    0x0_2c9a_3e77_8060,
    0x0_59b0_d315_8574,
    0x0_8745_1875_9bc8,
    0x0_b558_6cf9_890f,
    0x0_e3ec_32d3_d1a2,
    0x1_1301_d012_5b50,
    0x1_429a_aea9_2ddf,
    0x1_72b8_3c7d_517a,
    0x1_a35b_eb6f_cb75,
    0x1_d487_3168_b9aa,
    0x2_063b_8862_8cd6,
    0x2_387a_6e75_6238,
    0x2_6b45_65e2_7cdd,
    0x2_9e9d_f51f_dee1,
    0x2_d285_a6e4_030b,
    0x3_06fe_0a31_b715,
    0x3_3c08_b264_16ff,
    0x3_71a7_373a_a9ca,
    0x3_a7db_34e5_9ff6,
    0x3_dea6_4c12_3422,
    0x4_160a_21f7_2e29,
    0x4_4e08_6061_892d,
    0x4_86a2_b5c1_3cd0,
    0x4_bfda_d536_2a27,
    0x4_f9b2_769d_2ca6,
    0x5_342b_569d_4f81,
    0x5_6f47_36b5_27da,
    0x5_ab07_dd48_5429,
    0x5_e76f_15ad_2148,
    0x6_247e_b03a_5584,
    0x6_6238_8255_2224,
    0x6_a09e_667f_3bcc,
    0x6_dfb2_3c65_1a2e,
    0x7_1f75_e8ec_5f73,
    0x7_5feb_5642_67c8,
    0x7_a114_73eb_0186,
    0x7_e2f3_36cf_4e62,
    0x8_2589_994c_ce12,
    0x8_68d9_9b44_92ec,
    0x8_ace5_422a_a0db,
    0x8_f1ae_9915_7736,
    0x9_3737_b0cd_c5e4,
    0x9_7d82_9fde_4e4f,
    0x9_c491_82a3_f090,
    0xa_0c66_7b5d_e564,
    0xa_5503_b23e_255c,
    0xa_9e6b_5579_fdbf,
    0xa_e89f_995a_d3ad,
    0xb_33a2_b84f_15fa,
    0xb_7f76_f2fb_5e46,
    0xb_cc1e_904b_c1d2,
    0xc_199b_dd85_529c,
    0xc_67f1_2e57_d14b,
    0xc_b720_dcef_9069,
    0xd_072d_4a07_897b,
    0xd_5818_dcfb_a487,
    0xd_a9e6_03db_3285,
    0xd_fc97_337b_9b5e,
    0xe_502e_e78b_3ff6,
    0xe_a4af_a2a4_90d9,
    0xe_fa1b_ee61_5a27,
    0xf_5076_5b6e_4540,
    0xf_a7c1_819e_90d8,
];

/// The mantissa's top bits that choose a cell. Cells are narrower than buckets, so each has one boundary at most.
const CELL_BITS: u32 = 7;
const CELL_SHIFT: u32 = MANTISSA - CELL_BITS;

/// What to add to the mantissa bits so that the sum, shifted by 52, is the number of boundaries below the value:
/// the addition is the comparison with the cell's boundary.
static CELLS: [u64; 1 << CELL_BITS] = cells();

const fn cells() -> [u64; 1 << CELL_BITS] {
    let mut cells = [0; 1 << CELL_BITS];
    let mut below = 0;
    let mut cell = 0;
    while cell < cells.len() {
        let end = (cell as u64 + 1) << CELL_SHIFT;
        if below < BOUNDARIES.len() && BOUNDARIES[below] < end {
            cells[cell] = ((below as u64 + 1) << MANTISSA) - BOUNDARIES[below] - 1;
            below += 1;
        } else {
            cells[cell] = (below as u64) << MANTISSA;
        }
        assert!(below == BOUNDARIES.len() || BOUNDARIES[below] >= end, "two in a cell");
        cell += 1;
    }
    cells
}

/// ceil(index / 2^by): the bucket after so many collapses.
#[inline]
pub(super) const fn coarser(index: i32, by: u32) -> i32 {
    // The shift rounds down.
    -(-index >> by)
}

/// Whether a value has a bucket for sure, by its exponent alone: from 2^-29, some 2 ns, to below 2^32.
#[inline]
pub(super) fn is_common(seconds: f64) -> bool {
    // A sign would be in it too.
    ((seconds.to_bits() >> MANTISSA) as i32 - (BIAS - 29)) as u32 <= 29 + 31
}

/// The bucket that holds a value from [`LEAST`] to [`MOST`].
#[inline]
pub(super) fn of(seconds: f64, level: u32) -> i32 {
    let bits = seconds.to_bits();
    // There is no sign, so that 11 bits are left. The exponent is in the sum too, once instead of 64 times.
    let exponent = (bits >> MANTISSA) as i32;
    let cell = (bits >> CELL_SHIFT) as usize % CELLS.len();
    let sum = ((bits + CELLS[cell]) >> MANTISSA) as i32;
    coarser(exponent * (STEPS - 1) + sum - BIAS * STEPS, level)
}

/// The largest value, in seconds, that a bucket holds. For the buckets of [`range`] and their neighbours.
pub(super) fn upper(index: i32, level: u32) -> f64 {
    let index = index << level;
    let exponent = (index.div_euclid(STEPS) + BIAS) as u64;
    f64::from_bits(exponent << MANTISSA | BOUNDARIES[index.rem_euclid(STEPS) as usize])
}

/// The buckets that can be populated at a level: the first and the last.
pub(super) const fn range(level: u32) -> (i32, i32) {
    (coarser(FIRST, level), coarser(LAST, level))
}

/// The ratio of a bucket's bounds.
pub(super) fn gamma(level: u32) -> f64 {
    upper(1, level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of two numbers, as digits to base 2^32 with the lowest first.
    fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
        let mut found = vec![0; a.len() + b.len()];
        for (i, x) in a.iter().enumerate() {
            let mut carry = 0;
            for (j, y) in b.iter().enumerate() {
                let sum = found[i + j] + x * y + carry;
                found[i + j] = sum & 0xffff_ffff;
                carry = sum >> 32;
            }
            found[i + b.len()] = carry;
        }
        found
    }

    /// Whether m^64 < 2^power.
    fn below(m: u64, power: usize) -> bool {
        let mut number = vec![m & 0xffff_ffff, m >> 32];
        for _ in 0..6 {
            number = product(&number, &number);
        }
        let top = number.iter().rposition(|digit| *digit != 0).unwrap();
        top * 32 + (number[top].ilog2() as usize) < power
    }

    #[test]
    fn boundaries_are_exact() {
        for (j, boundary) in BOUNDARIES.iter().enumerate() {
            let m = (1 << MANTISSA) | boundary;
            let power = j + 64 * MANTISSA as usize;
            // At a power of two the root is a float itself, and belongs to the bucket.
            assert_eq!(below(m, power), j != 0, "{j} is not above 2^({j}/64)");
            assert!(!below(m + 1, power), "{j} is the largest float");
        }
    }

    #[test]
    fn a_bucket_ends_with_its_boundary() {
        for level in 0..=MAX_LEVEL {
            let (first, last) = range(level);
            for index in first..last {
                let boundary = upper(index, level);
                assert_eq!(of(boundary.next_down(), level), index, "below {boundary:e}");
                assert_eq!(of(boundary, level), index, "{boundary:e}");
                assert_eq!(of(boundary.next_up(), level), index + 1, "above {boundary:e}");
            }
            assert_eq!((of(LEAST, level), of(MOST, level)), (first, last));
            assert!(upper(last, level) >= MOST && upper(first - 1, level) < LEAST);
            let exact = 2.0_f64.powf(2.0_f64.powi(level as i32) / 64.0);
            assert!((gamma(level) / exact - 1.0).abs() < 1e-15, "level {level}");
        }
        for power in -29..=32 {
            assert_eq!(of(2.0_f64.powi(power), 0), power * 64);
        }
    }

    #[test]
    fn collapses_add_up() {
        for index in FIRST..=LAST {
            let mut halved = index;
            for by in 0..=MAX_LEVEL {
                assert_eq!(coarser(index, by), halved, "{index} by {by}");
                halved = (f64::from(halved) / 2.0).ceil() as i32;
            }
        }
    }
}
