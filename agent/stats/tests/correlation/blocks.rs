//! Blocks: bits, other shifts, other orders.

use genesis_stats::correlation::{Block, BlockError, Estimate};

use crate::data::{Columns, Random, block, factors, slices};

fn permuted<T: Clone>(items: &[T], order: &[usize]) -> Vec<T> {
    order.iter().map(|at| items[*at].clone()).collect()
}

/// With gaps of all kinds: none, few, the same as another's, long ones, nothing but gaps.
fn mixed(rows: usize) -> Columns {
    let mut columns = factors(11, rows, 29, 0.0);
    let mut random = Random(12);
    for (series, column) in columns.iter_mut().enumerate() {
        for (row, value) in column.iter_mut().enumerate() {
            let gone = match series % 6 {
                0 => false,
                1 => random.next() < 0.05,
                2 => row % 100 < 7,
                3 => row < rows / 2,
                4 => random.next() < 0.7,
                _ => series == 17,
            };
            if gone {
                *value = [f64::NAN, f64::INFINITY, -f64::INFINITY, 2e100][row % 4];
            }
        }
    }
    // Constant ones, the second of them only where the first has values.
    columns[13].fill(1.5);
    columns[20].iter_mut().step_by(2).for_each(|value| *value = 0.1);
    columns[26].fill(f64::NAN);
    columns[26].iter_mut().step_by(2).for_each(|value| *value = 0.2);
    columns
}

#[test]
fn another_order_of_series_is_the_same_in_another_order_to_the_bit() {
    let columns = mixed(300);
    let mut order: Vec<usize> = (0..columns.len()).collect();
    let mut random = Random(5);
    let whole = block(&columns);
    for _ in 0..5 {
        random.shuffle(&mut order);
        let of_permuted = block(&permuted(&columns, &order));
        assert_eq!(whole.select(&order).unwrap(), of_permuted);
        let (before, after) = (Estimate::of(&whole), Estimate::of(&of_permuted));
        for (i, a) in order.iter().enumerate() {
            for (j, b) in order.iter().enumerate() {
                let bits = |r: Option<f64>| r.map(f64::to_bits);
                assert_eq!(bits(after.get(i, j)), bits(before.get(*a, *b)));
            }
        }
        assert_eq!(before.undefined().len(), after.undefined().len());
    }
}

/// A pair depends on its two series alone.
#[test]
fn a_selection_is_what_its_columns_give_to_the_bit() {
    let columns = mixed(2_500);
    let whole = block(&columns);
    for some in
        [&[][..], &[4], &[28, 3], &[17, 0, 6, 5], &[9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 12, 20, 13]]
    {
        let selected = whole.select(some).unwrap();
        if !some.is_empty() {
            assert_eq!(selected, block(&permuted(&columns, some)));
        }
        assert_eq!(selected.series(), some.len());
    }
    assert_eq!(whole.select(&[3, 29]), Err(BlockError::Series { series: 29 }));
    assert_eq!(whole.select(&[3, 2, 3]), Err(BlockError::Series { series: 3 }));
}

#[test]
fn counts_are_exact() {
    let columns = mixed(411);
    let block = block(&columns);
    assert_eq!((block.series(), block.rows()), (29, 411));
    let there = |value: f64| value.is_finite() && value.abs() <= 1e100;
    for (i, x) in columns.iter().enumerate() {
        let own = x.iter().filter(|value| there(**value)).count() as u32;
        assert_eq!((block.points(i, i), block.missing(i)), (own, 411 - own));
        for (j, y) in columns.iter().enumerate() {
            let common = x.iter().zip(y).filter(|(x, y)| there(**x) && there(**y)).count();
            assert_eq!(block.points(i, j), common as u32);
        }
    }
    assert_eq!((block.missing(17), block.points(17, 3), block.missing(29)), (411, 0, 0));
}

#[test]
fn what_has_no_columns_or_rows() {
    let none = Block::of(&[], &[]).unwrap();
    assert_eq!((none.series(), none.rows()), (0, 0));
    let empty = Block::of(&[&[], &[]], &[1.0, 2.0]).unwrap();
    assert_eq!((empty.series(), empty.rows(), empty.points(0, 1)), (2, 0, 0));
    assert_eq!(Estimate::of(&empty).get(0, 1), None);
    assert_eq!(Block::centres(&[&[], &[f64::NAN]]), [0.0, 0.0]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let columns: [&[f64]; 2] = [&[1.0, 2.0], &[1.0]];
    assert_eq!(Block::of(&columns, &[0.0, 0.0]), Err(BlockError::Rows { series: 1 }));
    assert_eq!(Block::of(&columns[..1], &[0.0, 0.0]), Err(BlockError::Shifts));
    for shift in [f64::NAN, f64::INFINITY, 1e101] {
        assert_eq!(Block::of(&columns[..1], &[shift]), Err(BlockError::Shift { series: 0 }));
        let block = Block::of(&columns[..1], &[1.0]).unwrap();
        assert_eq!(block.rebase(&[shift]), Err(BlockError::Shift { series: 0 }));
        assert_eq!(block.rebase(&[]), Err(BlockError::Shifts));
    }
}

/// Eighths, so that all sums are exact: then a block rebased is what the values give about the other shift, to the bit.
#[test]
fn about_another_shift_exactly() {
    let mut columns = mixed(700);
    for value in columns.iter_mut().flatten().filter(|value| value.is_finite()) {
        *value = (*value * 8.0).round() / 8.0 + 1_000.0;
    }
    let columns = slices(&columns);
    let one: Vec<f64> = (0..29).map(|i| 1_000.0 + f64::from(i) / 8.0).collect();
    let two: Vec<f64> = (0..29).map(|i| if i % 3 == 0 { one[i as usize] } else { 998.5 }).collect();
    let (about_one, about_two) =
        (Block::of(&columns, &one).unwrap(), Block::of(&columns, &two).unwrap());
    assert_ne!(about_one, about_two);
    assert_eq!(about_one.rebase(&two).unwrap(), about_two);
    assert_eq!(about_two.rebase(&one).unwrap(), about_one);
    assert_eq!(about_one.rebase(&one).unwrap(), about_one);
}

/// There and back again: what is rounded once each way is within an ulp of the larger sums.
#[test]
fn about_a_far_shift_and_back() {
    let columns = mixed(300);
    let near = block(&columns);
    let shifts: Vec<f64> = near.shifts().iter().map(|shift| shift + 0.3).collect();
    let back = near.rebase(&shifts).unwrap().rebase(near.shifts()).unwrap();
    let (before, after) = (Estimate::of(&near), Estimate::of(&back));
    for i in 0..29 {
        for j in 0..29 {
            match (before.get(i, j), after.get(i, j)) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-13, "{a} {b}"),
                (a, b) => assert_eq!(a, b),
            }
        }
    }
}

/// The layout: without gaps one row of sums for all, with the same gaps one.
#[test]
fn bytes_are_few_where_gaps_are_the_same() {
    let columns = factors(3, 288, 64, 0.0);
    let whole = block(&columns).to_bytes().len();
    let triangle = 8 * 64 * 63 / 2;
    assert!(whole < triangle + 3 * 8 * 64 + 300, "{whole}");
    let mut same = columns;
    same.iter_mut().step_by(2).for_each(|column| column[100..120].fill(f64::NAN));
    assert!(block(&same).to_bytes().len() < whole + 2 * 8 * 64 + 100);
    let gaps = block(&factors(3, 288, 64, 0.05)).to_bytes().len();
    assert!(gaps > 2 * 8 * 64 * 64 && gaps < triangle + (2 * 8 + 1) * 64 * 64 + 1_000, "{gaps}");
}
