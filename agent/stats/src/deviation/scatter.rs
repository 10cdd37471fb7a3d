//! How much healthy windows scatter.

/// One in so many calibration windows at either end may be an accident, see [`phi`].
const ACCIDENTS: usize = 40;
/// Sums of so many windows in a row tell how windows cling together. It is about as long as a sum of the CUSUM takes to
/// trip on what it just tells apart; longer ones are too few to learn from.
const RUN: usize = 8;
/// Windows follow each other if they began at most so many windows apart: an hour, for which a quantile waits for calls
/// enough at the longest.
const NEAR: u64 = 12;

/// How much more than binomially healthy windows scatter, given the number of each in time and its z: the variance of
/// their sums over eight windows in a row, for each window, at least that of single windows, and at least 1. For fewer
/// than two it is 1, since nothing says more.
///
/// A slow window that follows a slow one is no news, and a CUSUM adds both up: with the variance of single windows it
/// trips on a level that merely drifts. That of sums is what it has to be measured by (Johnson and Bagshaw, Technometrics
/// 16, 1974); it is estimated with triangular weights over the lags (Newey and West, Econometrica 55, 1987). An
/// autoregression of order one, (1 + r) / (1 - r), says too little where calls are few and their chance hides r, and too
/// much where they are many: `tests/clustered.rs` has the figures. Products are divided by the number of windows, not by
/// that of pairs: where few follow each other, nearly nothing is added.
///
/// One in 40 windows at either end counts as no farther out than the next one. In a plain variance a single bad window
/// that nobody excluded (of z = 100, say, from before there was a reference to notice it by) would make phi 65 and hide
/// most shifts in that hour for a month; what comes back every week is in more of them, and counts.
///
/// The order in which they are given does not matter. Those that hold no number are left out.
pub fn phi(past: &[(i64, f32)]) -> f64 {
    let known = past.iter().filter(|(_, z)| z.is_finite());
    let known = known.map(|(window, z)| (*window, f64::from(*z)));
    // With room for all: to grow on the way costs more than the sums.
    let mut past: Vec<(i64, f64)> = Vec::with_capacity(past.len());
    past.extend(known);
    let (count, ends) = (past.len(), past.len() / ACCIDENTS);
    if count < 2 {
        return 1.0;
    }
    // Mostly they are in order already, and what is above the ends needs none.
    let in_order = |a: &(i64, f64), b: &(i64, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    if !past.is_sorted_by(|a, b| in_order(a, b).is_le()) {
        past.sort_by(in_order);
    }
    let mut ranked: Vec<f64> = past.iter().map(|(_, z)| *z).collect();
    let (_, low, above) = ranked.select_nth_unstable_by(ends, f64::total_cmp);
    let low = *low;
    let high = match above.len().checked_sub(ends + 1) {
        Some(at) => *above.select_nth_unstable_by(at, f64::total_cmp).1,
        None => low,
    };
    past.iter_mut().for_each(|(_, z)| *z = z.clamp(low, high));
    let mean = past.iter().map(|(_, z)| z).sum::<f64>() / count as f64;
    past.iter_mut().for_each(|(_, z)| *z -= mean);
    let alone = past.iter().map(|(_, z)| z * z).sum::<f64>();
    let together: f64 = (1..count).map(|i| 2.0 * past[i].1 * before(&past[..=i])).sum();
    ((alone + together.max(0.0)) / (count - 1) as f64).max(1.0)
}

/// The weighted sum of the windows in a row before the last one.
fn before(past: &[(i64, f64)]) -> f64 {
    let lags = past.windows(2).rev().take(RUN - 1);
    let in_a_row = lags.take_while(|two| two[0].0.abs_diff(two[1].0) <= NEAR);
    in_a_row.zip(1..RUN).map(|(two, lag)| (1.0 - lag as f64 / RUN as f64) * two[0].1).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_windows() {
        let of = |zs: &[f32]| {
            let past: Vec<_> = zs.iter().enumerate().map(|(at, z)| (at as i64, *z)).collect();
            phi(&past)
        };
        assert_eq!([of(&[]), of(&[9.0]), of(&[1.0, 1.0]), of(&[f32::NAN, 9.0])], [1.0; 4]);
        // 1, 3, 5: a variance of 4.
        assert_eq!(of(&[1.0, 5.0, 3.0, f32::NAN]), 4.0);
        // 160 of -3 and 3: three at 100 change little, and every twelfth at 20 much.
        let mut zs: Vec<f32> = (0..160).map(|i| if i % 2 == 0 { -3.0 } else { 3.0 }).collect();
        assert!((of(&zs) - 9.0566).abs() < 0.0001);
        zs[..3].fill(100.0);
        assert!((of(&zs) - 9.0566).abs() < 0.1, "{}", of(&zs));
        zs.iter_mut().step_by(12).for_each(|z| *z = 20.0);
        assert!(of(&zs) > 30.0);
    }

    #[test]
    fn windows_that_cling_together() {
        // Deviations of -3, -3, 3, 3: 36 alone; 9, -9, 9 at lag 1 by 7/8, -9 and -9 by 6/8, -9 by 5/8.
        let of = |windows: [i64; 4]| {
            phi(&[-3.0, -3.0, 3.0, 3.0]
                .map(|z| z + 7.0_f32)
                .into_iter()
                .zip(windows)
                .map(|(z, at)| (at, z))
                .collect::<Vec<_>>())
        };
        assert_eq!(of([0, 1, 2, 3]), 12.0);
        // Two and two: 9 and 9 at lag 1, by 7/8.
        let two = (36.0 + 2.0 * 0.875 * 18.0) / 3.0;
        assert_eq!(of([0, 1, 2_016, 2_017]), two);
        // Three in a row, of which a quantile waited for calls in between: 9 - 9 at lag 1, -9 at lag 2.
        assert_eq!(of([0, 12, 24, 37]), 12.0);
        assert_eq!(of([0, 12, 25, 37]), two);
        assert_eq!(of([0, 13, 26, 39]), 12.0);
        assert_eq!(of([i64::MIN, i64::MAX, 0, 1]), (36.0 + 2.0 * 0.875 * 9.0) / 3.0);
        // The order does not matter, but what comes after what.
        let mut zs = [(0, -3.0), (2_017, 3.0), (1, -3.0), (2_016, 3.0), (5, f32::NAN)];
        assert_eq!(phi(&zs), two);
        zs.reverse();
        assert_eq!(phi(&zs), two);
    }

    proptest! {
        /// Against another form: what sums over eight windows in a row have on average, those at the ends being shorter.
        #[test]
        fn it_is_the_variance_of_sums(zs in proptest::collection::vec(-9.0..9.0_f32, 2..39)) {
            let past: Vec<_> = zs.iter().enumerate().map(|(at, z)| (at as i64, *z)).collect();
            let (n, mean) = (zs.len(), zs.iter().map(|z| f64::from(*z)).sum::<f64>() / zs.len() as f64);
            let at = |i: usize| zs.get(i.wrapping_sub(8)).map_or(0.0, |z| f64::from(*z) - mean);
            let square = |from: usize, long: usize| (from..from + long).map(at).sum::<f64>().powi(2);
            let sums = (0..n + 8).map(|from| square(from, 8)).sum::<f64>() / 8.0;
            let alone = (0..n + 8).map(|from| square(from, 1)).sum::<f64>();
            let expected = (sums.max(alone) / (n - 1) as f64).max(1.0);
            prop_assert!((phi(&past) - expected).abs() < 1e-6 * expected, "{} {expected}", phi(&past));
        }
    }
}
