//! Correlations against pandas and brute force, and on data on which common libraries are wrong.

use genesis_stats::correlation::{Block, Candidate, Correlation, Estimate, MatrixError, Why};

use crate::data::{Columns, Random, block, brute, estimate, factors, names, slices};

/// pandas.DataFrame.corr(min_periods=100), by tests/fixtures/correlation.py.
#[test]
fn as_pandas_has_it() {
    let fixture = include_str!("../fixtures/correlation.tsv");
    let mut cases = 0;
    for line in fixture.lines().filter(|line| line.starts_with("pandas\t")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [seed, rows, series] = [1, 2, 3].map(|at| fields[at].parse::<usize>().unwrap());
        let missing: f64 = fields[4].parse().unwrap();
        let columns = factors(seed as u64, rows, series, missing);
        let estimate = estimate(&columns);
        let candidate = Candidate::of(&estimate, names(series), 100, None).unwrap();
        let mut known = fields[5].split(' ');
        for i in 0..series {
            for j in i + 1..series {
                let known: f64 = known.next().unwrap().parse().unwrap();
                let own = candidate.get(i, j).unwrap();
                let same = own.is_nan() && known.is_nan() || (own - known).abs() <= 1e-13;
                assert!(same, "{seed} {missing}: {i} {j} {own} {known}");
            }
        }
        assert_eq!(known.next(), None);
        cases += 1;
    }
    assert_eq!(cases, 7);
}

fn r(x: &[f64], y: &[f64]) -> Result<f64, Why> {
    let columns = vec![x.to_vec(), y.to_vec()];
    // The mean, and the first value, which is what others take.
    let centred = block(&columns);
    let columns = slices(&columns);
    let first = |column: &[f64]| column.iter().copied().find(|value| value.is_finite());
    let firsts = [first(x).unwrap(), first(y).unwrap()];
    let found = [centred, Block::of(&columns, &firsts).unwrap()].map(|block| {
        let estimate = Estimate::of(&block);
        match estimate.get(0, 1) {
            Some(r) => Ok(r),
            None => Err(estimate.undefined()[0].why),
        }
    });
    assert_eq!(found[0].is_ok(), found[1].is_ok(), "{found:?}");
    found[0]
}

/// pandas has 1.1547 (issue 61120).
#[test]
fn a_tiny_variance_is_one() {
    let r = r(&[0.0, 1.0], &[1.35951, 1.3595100000000007]).unwrap();
    assert!((r - 1.0).abs() <= 1e-15, "{r}");
}

/// pandas has -1.414 (issue 59652).
#[test]
fn a_tiny_variance_with_a_gap_between() {
    let (mut x, mut y) = (vec![30.0], vec![116.80000305175781]);
    x.extend([f64::NAN; 14]);
    y.extend([f64::NAN; 14]);
    x.push(30.100000381469727);
    y.push(116.8000030517578);
    let r = r(&x, &y).unwrap();
    assert!((r + 1.0).abs() <= 1e-15, "{r}");
}

/// numpy has 1 (issue 32446), pandas whatever rounding leaves (37448).
#[test]
fn what_is_constant_has_no_correlation() {
    for (x, y, times) in [(1.810, 0.576, &[1_448][..]), (0.42, 0.1, &[2, 3, 5, 10, 20])] {
        for n in times {
            let (x, y) = (vec![x; *n], vec![y; *n]);
            assert_eq!(r(&x, &y), Err(Why::Constant { series: 0 }));
            let other: Vec<f64> = (0..*n).map(|i| i as f64).collect();
            assert_eq!(r(&other, &y), Err(Why::Constant { series: 1 }));
            // About a shift that leaves rounding behind.
            let columns = [&x[..], &other[..]];
            for shift in [0.0, 0.3, 1.7, 1e3] {
                let estimate = Estimate::of(&Block::of(&columns, &[shift, 0.0]).unwrap());
                let why = Why::Constant { series: 0 };
                assert_eq!(estimate.undefined()[0].why, why, "{n} {shift}");
                assert_eq!(estimate.undefined()[0].points, *n as u32);
            }
        }
    }
}

#[test]
fn what_is_constant_where_both_are_there_has_none_either() {
    // y is there where x is 1.81.
    let x: Vec<f64> = (0..300).map(|i| if i % 3 == 0 { 1.81 } else { f64::from(i) }).collect();
    let y: Vec<f64> =
        (0..300).map(|i| if i % 3 == 0 { f64::from(i).sqrt() } else { f64::NAN }).collect();
    assert_eq!(r(&x, &y), Err(Why::Constant { series: 0 }));
    assert_eq!(r(&y, &x), Err(Why::Constant { series: 1 }));
    assert_eq!(r(&[1.0, 2.0, f64::NAN], &[f64::NAN, 1.0, 2.0]), Err(Why::Few));
    assert_eq!(r(&[0.0, -0.0, 0.0], &[1.0, 2.0, 3.0]), Err(Why::Constant { series: 0 }));
}

/// The values are 64ths, which have room beside an offset of 1e9.
#[test]
fn an_offset_does_not_count() {
    let mut columns = factors(21, 500, 8, 0.05);
    let grid = |value: &mut f64| *value = (*value * 64.0).round() / 64.0;
    columns.iter_mut().flatten().for_each(grid);
    let without = estimate(&columns);
    for offset in [1.0, 1e3, 1e6, 1e9, -1e9] {
        let mut moved = columns.clone();
        moved.iter_mut().flatten().for_each(|value| *value += offset);
        let slices = slices(&moved);
        let first = |column: &&[f64]| column.iter().copied().find(|it| !it.is_nan()).unwrap();
        let firsts: Vec<f64> = slices.iter().map(first).collect();
        for block in [block(&moved), Block::of(&slices, &firsts).unwrap()] {
            let with = Estimate::of(&block);
            for i in 0..8 {
                for j in 0..8 {
                    let (a, b) = (without.get(i, j).unwrap(), with.get(i, j).unwrap());
                    assert!((a - b).abs() <= 1e-12, "{offset}: {a} {b}");
                }
            }
        }
    }
}

/// Not a wrong number: a reason.
#[test]
fn what_a_bad_shift_has_cost_is_known() {
    let mut columns = factors(22, 500, 2, 0.0);
    for offset in [0.0, 1e6, 1e7, 1e8, 1e9 - 1.11e8] {
        columns.iter_mut().flatten().for_each(|value| *value += offset);
        let estimate = Estimate::of(&Block::of(&slices(&columns), &[0.0, 0.0]).unwrap());
        if offset > 0.0 {
            assert_eq!(estimate.get(0, 1), None);
            assert_eq!(estimate.undefined()[0].why, Why::Lost { series: 0 });
        } else {
            assert!(estimate.get(0, 1).is_some());
        }
    }
    // Twice the same: what is beyond 1 by more than rounding is not cut off.
    let twice = vec![columns[0].clone(), columns[0].iter().map(|value| value * 3.0).collect()];
    for shift in [1e9 - 1e3, 1e9 - 1e4] {
        let block = Block::of(&slices(&twice), &[shift, 3.0 * shift + 7.0]).unwrap();
        let estimate = Estimate::of(&block);
        match estimate.get(0, 1) {
            Some(r) => assert!(r <= 1.0 && r > 1.0 - 1e-7),
            None => {
                assert!(matches!(estimate.undefined()[0].why, Why::Fault { value } if value > 1.0))
            }
        }
    }
}

/// What a pair does not have in common takes no digits from it.
#[test]
fn an_outlier_elsewhere_does_not_count() {
    let mut columns = factors(23, 400, 3, 0.1);
    let before = estimate(&columns);
    let at = columns[1].iter().position(|value| value.is_nan()).unwrap();
    let centres = Block::centres(&slices(&columns));
    columns[0][at] = 1e12;
    let after = Estimate::of(&Block::of(&slices(&columns), &centres).unwrap());
    assert_eq!(after.get(0, 1).map(f64::to_bits), before.get(0, 1).map(f64::to_bits));
    assert_ne!(after.get(0, 2), before.get(0, 2));
}

/// Series that are multiples of one another, with gaps: 1 within rounding, and never a fault.
#[test]
fn a_multiple_is_the_same() {
    let mut random = Random(31);
    for rows in [100, 127, 128, 129, 300, 1_000, 5_000] {
        let series = factors(rows as u64, rows, 1, 0.0).remove(0);
        let columns: Columns = (0..20)
            .map(|i| {
                let (factor, offset) = (random.bell() * 10.0, random.bell() * 100.0);
                let of = |value: &f64| {
                    let gone = i % 2 == 1 && random.next() < 0.05;
                    if gone { f64::NAN } else { value * factor + offset }
                };
                series.iter().map(of).collect()
            })
            .collect();
        let estimate = estimate(&columns);
        assert!(estimate.undefined().is_empty(), "{rows}: {:?}", estimate.undefined());
        for i in 0..20 {
            for j in 0..20 {
                let r = estimate.get(i, j).unwrap();
                // What the multiples themselves are rounded to: an ulp of 100 or so.
                assert!(1.0 - r.abs() < 1e-14 && r.abs() <= 1.0, "{rows}: {r}");
            }
        }
    }
}

/// Many strips, panels and chapters, whose ends are no ends of the data.
#[test]
fn as_brute_force_has_it() {
    for (rows, series, missing) in
        [(1, 3, 0.0), (129, 13, 0.0), (1_000, 37, 0.05), (4_500, 11, 0.3), (257, 25, 0.9)]
    {
        let columns = factors(rows as u64 + 7, rows, series, missing);
        let shifts = Block::centres(&slices(&columns));
        let estimate = estimate(&columns);
        for i in 0..series {
            assert_eq!(estimate.get(i, i), Some(1.0));
            for j in i + 1..series {
                let known = brute(&columns[i], &columns[j], [shifts[i], shifts[j]]);
                assert_eq!(estimate.points(i, j), known.points);
                assert_eq!(estimate.get(i, j), estimate.get(j, i));
                match estimate.get(i, j) {
                    Some(r) => {
                        let tolerance = 64.0 * f64::EPSILON * known.condition.max(1.0);
                        assert!((r - known.r).abs() <= tolerance, "{r} {known:?}");
                    }
                    None => assert!(known.r.is_nan() || known.points < 2, "{known:?}"),
                }
            }
        }
    }
}

#[test]
fn ninety_nine_are_too_few() {
    let mut columns = factors(41, 100, 3, 0.0);
    columns[2][50] = f64::NAN;
    let estimate = estimate(&columns);
    let few: Vec<_> = estimate.insufficient(100).iter().map(|it| (it.pair, it.points)).collect();
    assert_eq!(few, [((0, 2), 99), ((1, 2), 99)]);
    assert!(estimate.insufficient(99).is_empty());
    let candidate = Candidate::of(&estimate, names(3), 100, None).unwrap();
    let unsettled: Vec<_> =
        candidate.unsettled().iter().map(|it| (it.pair, it.points, it.why)).collect();
    assert_eq!(unsettled, [((0, 2), 99, Why::Few), ((1, 2), 99, Why::Few)]);
    assert_eq!(candidate.get(0, 1), estimate.get(0, 1));
    assert!(candidate.get(2, 0).unwrap().is_nan() && candidate.get(1, 2).unwrap().is_nan());
    assert_eq!(candidate.accept(), Err(MatrixError::Value { pair: (0, 2) }));
}

#[test]
fn an_old_value_can_be_kept() {
    let mut columns = factors(42, 100, 4, 0.0);
    columns[2][50] = f64::NAN;
    columns[3].fill(1.0);
    let estimate = estimate(&columns);
    // The old matrix has other series, in another order, and not all.
    let old =
        Correlation::of(["S002", "X", "S000"].map(str::to_owned).to_vec(), vec![0.1, 0.25, 0.3]);
    let candidate = Candidate::of(&estimate, names(4), 100, Some(&old.unwrap())).unwrap();
    assert_eq!(candidate.carried(), [(0, 2)]);
    assert_eq!((candidate.get(0, 2), candidate.get(2, 0)), (Some(0.25), Some(0.25)));
    let unsettled: Vec<_> = candidate.unsettled().iter().map(|it| (it.pair, it.why)).collect();
    let constant = Why::Constant { series: 3 };
    let few = [((0, 3), constant), ((1, 2), Why::Few), ((1, 3), constant), ((2, 3), Why::Few)];
    assert_eq!(unsettled, few);
}

#[test]
fn names_are_what_they_should_be() {
    let estimate = estimate(&factors(43, 10, 2, 0.0));
    let of = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Candidate::of(&estimate, names, 100, None).map(|_| ())
    };
    assert_eq!(of(&["a", "b"]), Ok(()));
    assert_eq!(of(&["a"]), Err(MatrixError::Shape));
    assert_eq!(of(&["a", "a"]), Err(MatrixError::Name { name: "a".to_owned() }));
    assert_eq!(of(&["a", ""]), Err(MatrixError::Name { name: String::new() }));
}
