//! Days and hosts put together.

use genesis_stats::correlation::{Block, Estimate, Part, Window, WindowError};

use crate::data::{Columns, Random, block, estimate, factors, names};

const DAY: usize = 96;

/// A day of a host: its block about shifts of its own, and the names of its series.
struct Day {
    host: &'static str,
    span: i64,
    series: Vec<String>,
    block: Block,
}

impl Day {
    fn new(host: &'static str, span: i64, series: &[usize], columns: &Columns) -> Self {
        let from = span as usize * DAY;
        let slices: Vec<&[f64]> =
            series.iter().map(|series| &columns[*series][from..from + DAY]).collect();
        // The first values, as they come.
        let first = |column: &&[f64]| column.iter().copied().find(|value| value.is_finite());
        let shifts: Vec<f64> = slices.iter().map(|column| first(column).unwrap_or(0.0)).collect();
        let all = names(columns.len());
        Self {
            host,
            span,
            series: series.iter().map(|series| all[*series].clone()).collect(),
            block: Block::of(&slices, &shifts).unwrap(),
        }
    }
}

fn window<'a>(days: &'a [Day]) -> Result<Window, WindowError> {
    let part = |day: &'a Day| {
        let Day { host, span, series, block } = day;
        Part { host, span: *span, series, block }
    };
    Window::of(&days.iter().map(part).collect::<Vec<_>>())
}

fn all_near(a: &Estimate, b: &Estimate) {
    assert_eq!(a.series(), b.series());
    for i in 0..a.series() {
        for j in 0..a.series() {
            assert_eq!(a.points(i, j), b.points(i, j));
            match (a.get(i, j), b.get(i, j)) {
                (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-13, "{i} {j}: {a} {b}"),
                (a, b) => assert_eq!(a, b),
            }
        }
    }
}

/// Prices that wander, so that the days have other means.
fn prices(days: usize, series: usize) -> Columns {
    let mut columns = factors(51, days * DAY, series, 0.0);
    let mut random = Random(52);
    for column in &mut columns {
        let mut price = 1_000.0;
        for value in column {
            price += *value;
            *value = if random.next() < 0.05 { f64::NAN } else { price };
        }
    }
    columns
}

#[test]
fn forty_five_days_in_any_order_are_the_last_thirty() {
    let columns = prices(45, 14);
    let all: Vec<usize> = (0..14).collect();
    let mut days: Vec<Day> = (0..45).map(|day| Day::new("host", day, &all, &columns)).collect();
    let last: Columns = columns.iter().map(|column| column[15 * DAY..].to_vec()).collect();
    let batch = estimate(&last);
    let mut random = Random(53);
    let mut known = None;
    for _ in 0..5 {
        random.shuffle(&mut days);
        // What has left the window is left out.
        let current: Vec<Day> = days.extract_if(.., |day| day.span >= 15).collect();
        let merged = window(&current).unwrap();
        days.extend(current);
        assert_eq!(merged.block().rows(), 30 * DAY as u32);
        all_near(&Estimate::of(merged.block()), &batch);
        let bytes = merged.block().to_bytes();
        assert_eq!(*known.get_or_insert_with(|| bytes.clone()), bytes);
    }
}

/// Some days have fewer series, and in another order.
#[test]
fn series_come_and_go() {
    let columns = factors(61, 6 * DAY, 9, 0.05);
    let mut gaps = columns.clone();
    let mut days = Vec::new();
    let mut random = Random(62);
    for span in 0..6 {
        let mut series: Vec<usize> = (0..9).filter(|i| (i + span) % 4 != 0).collect();
        random.shuffle(&mut series);
        days.push(Day::new("host", span as i64, &series, &columns));
        for i in (0..9).filter(|i| (i + span) % 4 == 0) {
            gaps[i][span * DAY..(span + 1) * DAY].fill(f64::NAN);
        }
    }
    let merged = window(&days).unwrap();
    assert_eq!(merged.series(), names(9));
    all_near(&Estimate::of(merged.block()), &estimate(&gaps));
}

/// Two hosts have half of the series each, and some both. What both have counts once; what no host has both of, never.
#[test]
fn hosts_hold_different_pairs() {
    let mut columns = factors(71, 3 * DAY, 8, 0.0);
    let complete = columns.clone();
    let (left, right) = ([0, 1, 2, 3, 4], [3, 4, 5, 6, 7]);
    let a: Vec<Day> = (0..3).map(|day| Day::new("a", day, &left, &complete)).collect();
    // On b series 3 has a gap, so that a counts for 3 and 4.
    columns[3][5..9].fill(f64::NAN);
    let b: Vec<Day> = (0..3).map(|day| Day::new("b", day, &right, &columns)).collect();
    let days: Vec<Day> = b.into_iter().chain(a).collect();
    let merged = window(&days).unwrap();
    let found = Estimate::of(merged.block());
    let (whole, with_gap) = (estimate(&complete), estimate(&columns));
    assert_eq!(merged.block().rows(), 3 * DAY as u32);
    for i in 0..8 {
        for j in i + 1..8 {
            let known = match (
                left.contains(&i) && left.contains(&j),
                right.contains(&i) && right.contains(&j),
            ) {
                (true, _) => &whole,
                (false, true) => &with_gap,
                (false, false) => {
                    assert_eq!((found.get(i, j), found.points(i, j)), (None, 0));
                    continue;
                }
            };
            assert_eq!(found.points(i, j), known.points(i, j), "{i} {j}");
            assert!((found.get(i, j).unwrap() - known.get(i, j).unwrap()).abs() < 1e-13, "{i} {j}");
        }
    }
    assert_eq!((found.points(3, 4), found.points(3, 5)), (3 * DAY as u32, 3 * DAY as u32 - 4));
}

/// The same values on two hosts are what they are on one.
#[test]
fn a_second_host_with_the_same_changes_nothing() {
    let columns = factors(81, 2 * DAY, 5, 0.1);
    let all = [0, 1, 2, 3, 4];
    let on = |host| (0..2).map(move |day| (host, day));
    let make = |(host, day)| Day::new(host, day, &all, &columns);
    let one: Vec<Day> = on("a").map(make).collect();
    let two: Vec<Day> = on("a").chain(on("b")).map(make).collect();
    let (one, two) = (window(&one).unwrap(), window(&two).unwrap());
    all_near(&Estimate::of(one.block()), &Estimate::of(two.block()));
    assert_eq!(one.block().points(0, 0), two.block().points(0, 0));
}

/// Where hosts disagree and have as many values, it is the first by name that counts, in whatever order they come.
#[test]
fn the_first_host_counts() {
    let (columns, others) = (factors(82, DAY, 3, 0.0), factors(83, DAY, 3, 0.0));
    let all = [0, 1, 2];
    let make = || [Day::new("a", 0, &all, &columns), Day::new("b", 0, &all, &others)];
    let [a, b] = make();
    let alone = window(&[a]).unwrap();
    let both = window(&make()).unwrap();
    let [a, second] = make();
    let turned = window(&[second, a]).unwrap();
    all_near(&Estimate::of(both.block()), &Estimate::of(alone.block()));
    assert_eq!(both, turned);
    assert_ne!(both, window(&[b]).unwrap());
}

#[test]
fn what_is_constant_all_along_is_constant() {
    let mut columns = factors(91, 4 * DAY, 4, 0.0);
    columns[1].fill(0.1);
    // One value each day, and not the same.
    for day in 0..4 {
        columns[2][day * DAY..(day + 1) * DAY].fill(0.1 + day as f64);
    }
    // The same value where series 0 is there, and on its days alone.
    columns[3].iter_mut().enumerate().for_each(|(row, value)| {
        *value = if row % 2 == 0 { 0.3 } else { row as f64 };
    });
    columns[0].iter_mut().skip(1).step_by(2).for_each(|value| *value = f64::NAN);
    let all = [0, 1, 2, 3];
    // About shifts that are no values of theirs, so that sums have rounding in them.
    let mut days: Vec<Day> = (0..4).map(|day| Day::new("host", day, &all, &columns)).collect();
    for day in &mut days {
        day.block = day.block.rebase(&[0.7, 13.7, 0.7, -0.7]).unwrap();
    }
    let merged = window(&days).unwrap();
    let found = Estimate::of(merged.block());
    let pairs: Vec<_> = found.undefined().iter().map(|it| (it.pair, it.why)).collect();
    use genesis_stats::correlation::Why::Constant;
    let one = Constant { series: 1 };
    let known = [((0, 1), one), ((0, 3), Constant { series: 3 }), ((1, 2), one), ((1, 3), one)];
    assert_eq!(pairs, known);
    assert!((found.get(0, 2).unwrap() - estimate(&columns).get(0, 2).unwrap()).abs() < 1e-13);
}

/// A day in which the two have no row in common says nothing about whether one is constant where the other is there.
#[test]
fn a_day_without_common_rows_is_no_change() {
    let mut columns = factors(92, 3 * DAY, 2, 0.0);
    columns[0][2 * DAY - 20..2 * DAY].fill(f64::NAN);
    columns[1].fill(1.81);
    columns[1][DAY..2 * DAY - 20].fill(f64::NAN);
    // On that day it has another value, too.
    columns[1][2 * DAY - 20] = 7.0;
    let mut days: Vec<Day> = (0..3).map(|day| Day::new("host", day, &[0, 1], &columns)).collect();
    for day in &mut days {
        day.block = day.block.rebase(&[0.0, 0.3]).unwrap();
    }
    let merged = window(&days).unwrap();
    let undefined = Estimate::of(merged.block()).undefined().to_vec();
    assert_eq!(undefined[0].points, 2 * DAY as u32);
    assert_eq!(undefined[0].why, genesis_stats::correlation::Why::Constant { series: 1 });
}

#[test]
fn nothing_is_counted_twice() {
    let columns = factors(95, 2 * DAY, 2, 0.0);
    let days = [("a", 0), ("a", 1), ("b", 0), ("a", 1)];
    let days: Vec<Day> =
        days.into_iter().map(|(host, day)| Day::new(host, day, &[0, 1], &columns)).collect();
    let twice = WindowError::PartTwice { host: "a".to_owned(), span: 1 };
    assert_eq!(window(&days).unwrap_err(), twice);
    assert!(window(&days[..3]).is_ok());
    let mut bad = Day::new("a", 0, &[0, 1], &columns);
    bad.series[1] = "S000".to_owned();
    let known = WindowError::SeriesTwice { series: "S000".to_owned() };
    assert_eq!(window(&[bad]).unwrap_err(), known);
    let mut bad = Day::new("a", 0, &[0, 1], &columns);
    bad.series.pop();
    let known = WindowError::Names { host: "a".to_owned(), span: 0 };
    assert_eq!(window(&[bad]).unwrap_err(), known);
    let none = Window::of(&[]).unwrap();
    assert_eq!((none.series().len(), none.block().rows()), (0, 0));
}

/// Hours put together are a day to be kept: series with the same gaps in each hour share their sums there, too.
#[test]
fn a_window_is_as_small_as_a_block() {
    let columns = factors(97, 4 * DAY, 20, 0.0);
    let all: Vec<usize> = (0..20).collect();
    let days: Vec<Day> = (0..4).map(|day| Day::new("host", day, &all, &columns)).collect();
    let merged = window(&days).unwrap();
    assert_eq!(merged.block().to_bytes().len(), block(&columns).to_bytes().len());
    // And it can be a part again.
    let (series, block) = merged.clone().into_parts();
    let again = Window::of(&[Part { host: "host", span: 0, series: &series, block: &block }]);
    all_near(&Estimate::of(again.unwrap().block()), &Estimate::of(merged.block()));
}
