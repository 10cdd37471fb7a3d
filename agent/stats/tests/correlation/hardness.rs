//! Whatever the values or the bytes: no panic, and nothing wrong that looks right.

use genesis_stats::correlation::{
    Block, BlockError, Candidate, Correlation, Estimate, Limits, MatrixError, Part, Why, Window,
    validate,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::data::{Columns, block, brute, factors, names, slices};

/// Few values, so that series are constant now and then, and wild ones.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-8..8_i32).prop_map(|value| f64::from(value) / 4.0),
        6 => -1.0..1.0_f64,
        2 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1.81),
    ]
}

fn columns() -> impl Strategy<Value = Columns> {
    (0..14_usize, prop_oneof![0..6_usize, 100..300_usize])
        .prop_flat_map(|(series, rows)| vec(vec(value(), rows), series))
}

/// Anything a float can be.
fn wild() -> impl Strategy<Value = Columns> {
    (1..4_usize, 0..40_usize).prop_flat_map(|(series, rows)| vec(vec(any::<f64>(), rows), series))
}

fn check(columns: &Columns, shifts: &[f64]) -> Result<(), TestCaseError> {
    let block = Block::of(&slices(columns), shifts).unwrap();
    let estimate = Estimate::of(&block);
    let mut undefined = estimate.undefined().iter();
    for i in 0..columns.len() {
        for j in i + 1..columns.len() {
            let known = brute(&columns[i], &columns[j], [shifts[i], shifts[j]]);
            prop_assert_eq!(estimate.points(i, j), known.points);
            let Some(r) = estimate.get(i, j) else {
                let it = undefined.next().unwrap();
                prop_assert_eq!((it.pair, it.points), ((i, j), known.points));
                // Zero by zero is beyond, too.
                let beyond = |limit| known.condition.is_nan() || known.condition >= limit;
                match it.why {
                    Why::Few => prop_assert!(known.points < 2),
                    Why::Constant { series } => {
                        prop_assert!(known.constant[usize::from(series == j)])
                    }
                    Why::Lost { .. } => prop_assert!(beyond(1e9), "{:?}", known),
                    Why::Fault { .. } => prop_assert!(beyond(1e5), "{:?}", known),
                    _ => prop_assert!(false),
                }
                continue;
            };
            prop_assert!(r.abs() <= 1.0 && known.points > 1 && known.constant == [false; 2]);
            let tolerance = 64.0 * f64::EPSILON * known.condition.max(1.0);
            prop_assert!((r - known.r).abs() <= tolerance, "{} {:?}", r, known);
        }
    }
    prop_assert_eq!(undefined.next(), None);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_values_as_by_brute_force(columns in columns(), shift in -3.0..3.0_f64) {
        check(&columns, &Block::centres(&slices(&columns)))?;
        check(&columns, &vec![shift; columns.len()])?;
    }

    /// All the way, with whatever comes.
    #[test]
    fn wild_values_do_no_harm(columns in wild(), shift in -1e100..1e100_f64) {
        let slices = slices(&columns);
        let (series, size) = (names(columns.len()), columns.len());
        for shifts in [Block::centres(&slices), vec![shift; size]] {
            let block = Block::of(&slices, &shifts).unwrap();
            let again = Block::from_bytes(&block.to_bytes()).unwrap();
            prop_assert_eq!(&again, &block);
            let part = |span| Part { host: "h", span, series: &series, block: &block };
            let window = Window::of(&[part(0), part(1)]).unwrap();
            for block in [&block, window.block(), &block.rebase(&vec![0.0; size]).unwrap()] {
                prop_assert!(Block::from_bytes(&block.to_bytes()).is_ok());
                let estimate = Estimate::of(block);
                let candidate = Candidate::of(&estimate, series.clone(), 2, None).unwrap();
                let validation = validate(&candidate, None, None, &Limits::default());
                prop_assert_eq!(validation.criteria.len(), 8);
                if let Ok(matrix) = candidate.accept() {
                    prop_assert!(matrix.values().iter().all(|r| r.abs() <= 1.0));
                }
            }
        }
    }

    #[test]
    fn blocks_come_back(columns in columns(), cut in any::<prop::sample::Index>()) {
        let block = block(&columns);
        let bytes = block.to_bytes();
        prop_assert_eq!(&Block::from_bytes(&bytes).unwrap(), &block);
        let end = cut.index(bytes.len());
        prop_assert!(Block::from_bytes(&bytes[..end]).is_err());
        prop_assert!(Block::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    /// What is read from other bytes is a block that has these bytes.
    #[test]
    fn altered_bytes_are_a_block_or_none(
        columns in columns(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = block(&columns).to_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(block) = Block::from_bytes(&bytes) {
            prop_assert_eq!(block.to_bytes(), bytes);
            let _ = Estimate::of(&block);
            let _ = block.select(&(0..block.series()).rev().collect::<Vec<_>>()).unwrap();
            let _ = block.rebase(&vec![1.0; block.series()]).unwrap();
        }
    }

    #[test]
    fn any_bytes_do_no_harm(mut bytes in vec(any::<u8>(), 0..300), small in any::<bool>()) {
        if small {
            // Sizes that may be true.
            for (byte, value) in bytes.iter_mut().zip([1, 2, 3, 2, 0, 1]) {
                *byte = value;
            }
        }
        if let Ok(block) = Block::from_bytes(&bytes) {
            prop_assert_eq!(block.to_bytes(), bytes.clone());
        }
        if let Ok(matrix) = Correlation::from_bytes(&bytes) {
            prop_assert_eq!(matrix.to_bytes(), bytes);
        }
    }

    #[test]
    fn matrices_come_back(
        values in vec(-1.0..=1.0_f64, 45),
        size in 0..=10_usize,
        change in (any::<prop::sample::Index>(), any::<u8>()),
    ) {
        let values = values[..size * size.saturating_sub(1) / 2].to_vec();
        let matrix = Correlation::of(names(size), values).unwrap();
        let mut bytes = matrix.to_bytes();
        prop_assert_eq!(&Correlation::from_bytes(&bytes).unwrap(), &matrix);
        for end in 0..bytes.len() {
            prop_assert!(Correlation::from_bytes(&bytes[..end]).is_err());
        }
        prop_assert!(Correlation::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let at = change.0.index(bytes.len());
        bytes[at] = change.1;
        if let Ok(matrix) = Correlation::from_bytes(&bytes) {
            prop_assert_eq!(matrix.to_bytes(), bytes);
        }
    }

    /// Another order of the assets is the same matrix in another order, to the bit.
    #[test]
    fn matrices_are_permuted_exactly(
        values in vec(-1.0..=1.0_f64, 45),
        order in Just((0..10).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let matrix = Correlation::of(names(10), values).unwrap();
        let all = names(10);
        let moved: Vec<&String> = order.iter().map(|at| &all[*at]).collect();
        let permuted = matrix.select(&moved).unwrap();
        for i in 0..10 {
            for j in 0..10 {
                let bits = |r: Option<f64>| r.map(f64::to_bits);
                prop_assert_eq!(bits(permuted.get(i, j)), bits(matrix.get(order[i], order[j])));
            }
        }
        prop_assert_eq!(permuted.select(&all).unwrap().to_bytes(), matrix.to_bytes());
    }
}

#[test]
fn known_bytes() {
    let matrix = Correlation::of(vec!["A".into(), "Bé".into()], vec![-0.5]).unwrap();
    let bytes = [1, 2, 1, b'A', 3, b'B', 0xc3, 0xa9, 0, 0, 0, 0, 0, 0, 0xe0, 0xbf];
    assert_eq!(matrix.to_bytes(), bytes);
    assert_eq!(Correlation::from_bytes(&[2, 0]), Err(MatrixError::Version(2)));
    assert_eq!(Block::from_bytes(&[2, 0]), Err(BlockError::Version(2)));
    assert_eq!(Block::from_bytes(&[]), Err(BlockError::Malformed));
    let block = Block::of(&[&[1.0, f64::NAN, 3.0]], &[2.0]).unwrap();
    let mut bytes = vec![1, 1, 3, 1, 0, 1];
    // The shift, S, Q and that nothing is constant.
    for float in [2.0_f64, 0.0, 2.0] {
        bytes.extend(float.to_le_bytes());
    }
    bytes.push(0);
    assert_eq!(block.to_bytes(), bytes);
    // Sums that no rows have: S infinite, Q negative or no number.
    for (at, bad) in [(14, f64::INFINITY), (22, -2.0), (22, f64::NAN)] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&bad.to_le_bytes());
        assert_eq!(Block::from_bytes(&bytes), Err(BlockError::Malformed), "{at} {bad}");
    }
    // Two series without a row in common, of which there is a sum all the same: Q of the first in the second's rows.
    let columns: [&[f64]; 2] = [&[1.0, f64::NAN], &[f64::NAN, 1.0]];
    let mut apart = Block::of(&columns, &[0.0, 0.0]).unwrap().to_bytes();
    assert!(Block::from_bytes(&apart).is_ok());
    let (constants, at) = (1 + 2 * (2 + 8), apart.len() - (1 + 2 * (2 + 8)) - 16);
    assert_eq!(apart[apart.len() - constants], 2);
    apart[at..at + 8].copy_from_slice(&1.0_f64.to_le_bytes());
    assert_eq!(Block::from_bytes(&apart), Err(BlockError::Malformed));
    // There is one zero only.
    let zeros = |first: f64| Block::of(&[&[first, 0.0]], &[0.0]).unwrap().to_bytes();
    assert_eq!(zeros(-0.0), zeros(0.0));
    // Two series of the first pattern, and a second pattern that none has.
    let mut unused = vec![1, 2, 3, 2, 0, 0, 0, 0, 0];
    unused.extend([0; 8 * (2 + 1 + 4 + 4) + 1]);
    assert_eq!(Block::from_bytes(&unused), Err(BlockError::Malformed));
    // The same with that pattern.
    unused[5] = 1;
    assert!(Block::from_bytes(&unused).is_ok());
}

#[test]
fn what_is_no_matrix_is_refused() {
    for bad in [1.000_000_1, -1.1, f64::NAN, f64::INFINITY] {
        let error = Correlation::of(names(3), vec![0.1, bad, 0.2]).unwrap_err();
        assert_eq!(error, MatrixError::Value { pair: (0, 2) });
    }
    assert_eq!(Correlation::of(names(3), vec![0.1; 2]), Err(MatrixError::Shape));
    let matrix = Correlation::of(names(3), vec![0.1; 3]).unwrap();
    let missing = MatrixError::Series { name: "X".to_owned() };
    assert_eq!(matrix.select(&["X"]), Err(missing));
    let twice = MatrixError::Name { name: "S001".to_owned() };
    assert_eq!(matrix.select(&["S001", "S001"]), Err(twice));
    assert_eq!(
        (matrix.get(0, 3), matrix.get(2, 2), matrix.place("S002")),
        (None, Some(1.0), Some(2))
    );
}

/// A size that would need terabytes is an error before anything is allocated for it.
#[test]
fn sizes_that_can_not_be() {
    for sizes in [&[0xff, 0x3f, 1, 0xff, 0x3f][..], &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1]] {
        let bytes = [&[1], sizes, &[0; 40]].concat();
        assert_eq!(Block::from_bytes(&bytes), Err(BlockError::Malformed));
        assert_eq!(Correlation::from_bytes(&bytes), Err(MatrixError::Malformed));
    }
    let columns = factors(1, 3, 8_193, 0.0);
    assert_eq!(Block::of(&slices(&columns), &vec![0.0; 8_193]), Err(BlockError::TooMany));
}
