//! `matrix`, on one node.

use std::fs;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Matrices, Script};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed};

pub(crate) const DAY: i64 = 24 * 3600;

fn criterion(name: &str, value: f64, limit: f64, verdict: CriterionVerdict) -> MatrixCriterion {
    MatrixCriterion {
        name: name.into(),
        value: Some(value),
        limit,
        at_least: name == "points",
        verdict: verdict.into(),
        detail: format!("what {name} says"),
    }
}

pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("S{number:03}")).collect()
}

/// Groups of series that go together, and neighbouring groups that go against each other.
pub(crate) fn matrix(version: u64, series: Vec<String>) -> Matrix {
    let group = |place: usize| place / 4;
    let value = |i: usize, j: usize| match group(j) - group(i) {
        0 => 0.875 - 0.125 * (j - i) as f64,
        1 => -0.5,
        _ => 0.0,
    };
    let size = series.len();
    let upper = (0..size).flat_map(|i| (i + 1..size).map(move |j| value(i, j))).collect();
    Matrix { version, series, upper, digest: format!("d{version}") }
}

pub(crate) fn about(version: u64, state: MatrixState) -> MatrixVersion {
    use CriterionVerdict::{Pass, Unknown};
    MatrixVersion {
        version,
        state: state.into(),
        calculated_at: at(40 * DAY),
        by: "system:matrices".into(),
        cause: "scheduled".into(),
        window_from: at(10 * DAY),
        window_until: at(40 * DAY),
        series: 4,
        fewest_points: 8_211,
        criteria: vec![
            criterion("points", 8_211.0, 100.0, Pass),
            criterion("definite", -1.25e-17, 0.0, Pass),
            criterion("drift", 0.0321, 0.15, Pass),
            criterion("history", 0.0, 0.3, Unknown),
        ],
        replaced: version - 1,
        activated_at: at(40 * DAY + 60),
        kept: true,
        digest: format!("d{version}"),
        ..Default::default()
    }
}

pub(crate) fn rejected(version: u64) -> MatrixVersion {
    let mut about = about(version, MatrixState::Rejected);
    about.criteria[0] = criterion("points", 43.0, 100.0, CriterionVerdict::Fail);
    about.criteria[2] = criterion("drift", 0.4321, 0.15, CriterionVerdict::Fail);
    about.worst = vec![
        PairDrift {
            one: "ETH".into(),
            other: "BTC".into(),
            old_value: 0.9,
            new_value: 0.4679,
            z: Some(12.5),
        },
        PairDrift { one: "ETH".into(), other: "SOL".into(), new_value: 0.1, ..Default::default() },
    ];
    about.frobenius_ratio = Some(0.25);
    about.lacking = (0..12)
        .map(|number| PairLack {
            one: "X\u{1b}[2J".into(),
            other: format!("Y{number}"),
            points: 43,
            why: "few".into(),
        })
        .collect();
    about.lacking_total = 112;
    about.carried = 2;
    about.indefinite = vec![SeriesWeight { series: "SOL".into(), weight: 0.75 }];
    about.activated_at = None;
    about.replaced = 0;
    about.fewest_points = 43;
    about
}

pub(crate) fn known(about: MatrixVersion, series: Vec<String>) -> GetMatrixResponse {
    GetMatrixResponse { matrix: Some(matrix(about.version, series)), about: Some(about) }
}

pub(crate) fn four() -> Vec<String> {
    ["ADA", "BTC", "ETH", "SOL"].map(String::from).into()
}

fn of_series(series: Vec<String>) -> (tempfile::TempDir, Fake) {
    let known = vec![known(about(7, MatrixState::Active), series)];
    served(Matrices { known, active: 7, ..Default::default() })
}

pub(crate) fn served(matrices: Matrices) -> (tempfile::TempDir, Fake) {
    scripted(Script { matrices, ..Default::default() })
}

pub(crate) fn scripted(script: Script) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), script);
    (folder, fake)
}

pub(crate) fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["matrix"], command, &["-n", &fake.node()]].concat())
}

/// At a terminal of so many characters.
fn at_terminal(fake: &Fake, command: &[&str], width: usize, no_color: bool) -> Outcome {
    ctl_with(&[&["matrix"], command, &["-n", &fake.node()]].concat(), |console| {
        console.stdout_terminal = true;
        console.columns = Some(width);
        if no_color {
            console.env.insert("NO_COLOR".into(), "1".into());
        }
    })
}

/// Without what colours it.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain + rest
}

fn widest(text: &str) -> usize {
    plain(text).lines().map(|line| line.chars().count()).max().unwrap()
}

/// The lines of the picture: from its title to its footer.
fn picture(text: &str, title: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != title).skip(1);
    lines
        .take_while(|line| !line.starts_with("  tenths") && !line.contains("pairs"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_small_matrix_is_shown_in_numbers_with_what_is_known_of_it() {
    let (_folder, fake) = of_series(four());
    let shown = on(&fake, &["show"]);
    assert_eq!(shown.exit, Exit::Ok, "{}", shown.stderr);
    assert!(!shown.out().contains('\u{1b}'));
    let lines = squeezed(shown.out());
    for wanted in [
        "matrix 7: ACTIVE",
        "calculated at 1970-02-10T00:00:00Z (scheduled) by system:matrices",
        "window: 1970-01-11T00:00:00Z until 1970-02-10T00:00:00Z (30d)",
        "4 series, at least 8,211 points a pair",
        "active from 1970-02-10T00:01:00Z, in place of version 6",
        "digest: d7",
        "CRITERION VERDICT FOUND LIMIT DETAIL",
        "points PASS 8,211 >= 100 what points says",
        "definite PASS -1.2e-17 <= 0 what definite says",
        "drift PASS 0.0321 <= 0.1500 what drift says",
        "history UNKNOWN 0 <= 0.3000 what history says",
        "ADA BTC ETH SOL",
        "1 ADA 1.00 0.75 0.63 0.50",
        "4 SOL 0.50 0.63 0.75 1.00",
        "6 pairs, +0.67 on average",
        "from +0.50 of ADA and SOL to +0.75 of ADA and BTC",
        "`genesisctl matrix rollback --reason ...` goes back to version 6",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {}", shown.out());
    }
    let json = on(&fake, &["show", "-o", "json"]).json();
    let response = &json[0]["response"];
    assert_eq!(response["matrix"]["upper"].as_array().unwrap().len(), 6);
    assert_eq!(response["about"]["state"], "MATRIX_STATE_ACTIVE");
    let pairs = on(&fake, &["show", "--pairs", "2"]);
    let lines = squeezed(pairs.out());
    for wanted in ["ONE OTHER CORRELATION", "ADA BTC +0.7500", "the first 2 of 6 pairs"] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {lines:#?}");
    }
    assert!(!pairs.out().contains("1 ADA"));
    let absent = on(&fake, &["show", "--version", "9"]);
    assert_eq!(absent.exit, Exit::Failed);
    assert!(absent.stderr.contains("error[MATRIX_NOT_FOUND]"), "{}", absent.stderr);
    assert_eq!(fake.calls(), ["GetMatrix 0", "GetMatrix 0", "GetMatrix 0", "GetMatrix 9"]);
}

#[test]
fn a_consumer_is_shown_what_it_is_to_use() {
    let new = known(about(8, MatrixState::Canary), four());
    let old = known(about(7, MatrixState::Active), four());
    let (_folder, fake) =
        served(Matrices { known: vec![new, old], active: 7, canary: 8, ..Default::default() });
    let shown = on(&fake, &["show", "--consumer", "pricing-3"]);
    assert_eq!(shown.exit, Exit::Ok);
    assert!(shown.out().starts_with("matrix 8: CANARY\n"), "{}", shown.out());
    assert!(shown.out().contains("`genesisctl matrix rollout status` says how it fares"));
    assert_eq!(fake.calls(), ["GetMatrix 0 pricing-3"]);
    for bad in [
        &["show", "--consumer", "a", "--version", "1"][..],
        &["show", "--out", "x"],
        &["show", "--format", "parquet"],
        &["show", "--merge", "--format", "csv"],
        &["show", "--merge", "--version", "1"],
        &["show", "--min-points", "10"],
        &["show", "--version", "0"],
        &["history", "--limit", "1001"],
        &["rollout"],
        &["watch", "-o", "json"],
    ] {
        assert_eq!(on(&fake, bad).exit, Exit::Usage, "{bad:?}");
    }
    assert_eq!(fake.calls().len(), 1);
}

#[test]
fn one_that_is_not_valid_says_by_what_at_first_sight_and_is_a_finding() {
    let known = vec![GetMatrixResponse { matrix: None, about: Some(rejected(8)) }];
    let (_folder, fake) = served(Matrices { known, active: 7, ..Default::default() });
    let shown = on(&fake, &["show", "--version", "8"]);
    assert_eq!(shown.exit, Exit::Findings, "{}", shown.stderr);
    assert!(shown.out().starts_with("matrix 8: REJECTED by points, drift\n"), "{}", shown.out());
    assert!(!shown.out().contains('\u{1b}'));
    let lines = squeezed(shown.out());
    for wanted in [
        "points FAIL 43 >= 100 what points says",
        "drift FAIL 0.4321 <= 0.1500 what drift says",
        "ETH BTC +0.90 +0.47 -0.4321 12.50",
        "ETH SOL +0.00 +0.10 +0.1000 -",
        "all pairs together moved by 25 % of what was active (Frobenius)",
        "X\\x1b[2J Y9 43 few",
        "and 102 more: add -v",
        "2 of these kept the value that was active",
        "SOL 0.750",
        "`genesisctl series list` says which series have gaps",
        "if it was the market that moved: the limits are in [matrices]",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {}", shown.out());
    }
    assert!(!lines.iter().any(|line| line.contains("Y10")));
    let more = on(&fake, &["show", "--version", "8", "-v"]);
    assert!(more.out().contains("Y11") && more.out().contains("and 100 more\n"));
    let colours = at_terminal(&fake, &["show", "--version", "8"], 80, false);
    assert!(
        colours.out().starts_with(
            "matrix 8: \u{1b}[31mREJECTED\u{1b}[0m by \u{1b}[31mpoints, drift\u{1b}[0m\n"
        ),
        "{}",
        colours.out()
    );
}

#[test]
fn what_was_repaired_says_how_far_it_is_off() {
    let repair = MatrixRepair {
        largest: 0.0125,
        one: "ADA".into(),
        other: "SOL".into(),
        frobenius: 0.02,
        steps: 7,
    };
    let repaired = MatrixVersion { repair: Some(repair), ..about(7, MatrixState::Active) };
    let known = vec![known(repaired, four())];
    let (_folder, fake) = served(Matrices { known, active: 7, ..Default::default() });
    let shown = on(&fake, &["show"]);
    let wanted =
        "the largest change is 0.0125 of ADA and SOL, all together 0.0200 (Frobenius), in 7 steps";
    assert!(shown.out().contains(wanted), "{}", shown.out());
}

#[test]
fn a_larger_matrix_is_a_map_in_colours_or_in_tenths() {
    let (_folder, fake) = of_series(names(24));
    let colours = at_terminal(&fake, &["show"], 80, false);
    let rows = picture(colours.out(), "matrix 7: values");
    assert_eq!(rows.len(), 1 + 24 + 1, "a header, the rows, a legend: {rows:#?}");
    // White to red, and white to blue.
    for shade in [88, 160, 63, 231] {
        assert!(
            rows[1..25].iter().any(|row| row.contains(&format!("\u{1b}[48;5;{shade}m  "))),
            "{shade}"
        );
    }
    assert!(rows[25].contains("-1 ") && rows[25].contains("+1"), "{rows:#?}");
    assert!(plain(&rows[1]).starts_with(" 1 S000") && plain(&rows[24]).starts_with("24 S023"));
    assert_eq!(rows[0].trim_start(), "1         6         11        16        21");
    for bare in [on(&fake, &["show"]), at_terminal(&fake, &["show"], 80, true)] {
        assert!(!bare.out().contains('\u{1b}'));
        let rows = picture(bare.out(), "matrix 7: values");
        assert_eq!(rows.len(), 1 + 24, "{rows:#?}");
        assert_eq!(rows[1], " 1 S000  * 7 6 5-5-5-5-5 . . . . . . . . . . . . . . . .");
        assert!(bare.out().contains("* a series with itself, ? no value"), "{}", bare.out());
        assert!(rows.iter().all(|row| row.chars().count() <= 80));
    }
}

#[test]
fn five_hundred_series_fit_eighty_columns_and_it_is_said_how() {
    let (_folder, fake) = of_series(names(500));
    for (outcome, lines, each) in [
        (at_terminal(&fake, &["show"], 80, false), 32, 8),
        (at_terminal(&fake, &["show"], 80, true), 34, 15),
        (on(&fake, &["show"]), 34, 15),
        (at_terminal(&fake, &["show"], 200, false), 42, 6),
    ] {
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
        let rows = picture(outcome.out(), "matrix 7: values");
        let rows: Vec<_> = rows.iter().filter(|row| plain(row).contains(" S")).collect();
        assert_eq!(rows.len(), lines, "{}", plain(outcome.out()));
        let told = format!("each place is the mean of up to {each} x {each} pairs");
        assert!(outcome.out().contains(&told), "{}", plain(outcome.out()));
        assert!(outcome.out().contains("500 series don't fit"));
        let width = if each == 6 { 200 } else { 80 };
        let map = rows.iter().map(|row| plain(row).chars().count()).max().unwrap();
        assert!(map <= width, "{map} of {width}");
    }
    let narrow = ctl_with(&["matrix", "show", "-n", &fake.node()], |console| {
        console.env.insert("COLUMNS".into(), "40".into());
    });
    let rows = picture(narrow.out(), "matrix 7: values");
    assert!(widest(&rows.join("\n")) <= 40, "{}", narrow.out());
    let odd = ctl_with(&["matrix", "show", "-n", &fake.node()], |console| {
        console.env.insert("COLUMNS".into(), "0".into());
    });
    assert!(odd.out().contains("don't fit 80 characters"));
}

#[test]
fn an_answer_that_is_no_matrix_is_refused() {
    let mut odd = known(about(7, MatrixState::Active), four());
    odd.matrix.as_mut().unwrap().upper.pop();
    let (_folder, fake) = served(Matrices { known: vec![odd], active: 7, ..Default::default() });
    let shown = on(&fake, &["show"]);
    assert_eq!(shown.exit, Exit::Failed);
    assert!(shown.stderr.contains("error[ANSWER_UNREADABLE]"), "{}", shown.stderr);
    assert!(shown.stderr.contains("4 series, and 5 values"), "{}", shown.stderr);
}

#[test]
fn a_csv_has_the_names_and_values_to_the_bit() {
    let mut third = known(about(7, MatrixState::Active), four());
    third.matrix.as_mut().unwrap().upper[0] = 1.0 / 3.0;
    let (folder, fake) = served(Matrices { known: vec![third], active: 7, ..Default::default() });
    let text = "series,ADA,BTC,ETH,SOL\nADA,1.0,0.3333333333333333,0.625,0.5\n\
                BTC,0.3333333333333333,1.0,0.75,0.625\nETH,0.625,0.75,1.0,0.75\nSOL,0.5,0.625,0.75,1.0\n";
    let csv = ["show", "--format", "csv"];
    let outcome = on(&fake, &csv);
    assert_eq!((outcome.exit, outcome.out(), outcome.stderr.as_str()), (Exit::Ok, text, ""));
    let path = folder.path().join("x.csv");
    let named = path.display().to_string();
    let outcome = on(&fake, &[&csv[..], &["--out", &named, "--version", "7"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), outcome.out()), (text, ""));
    assert_eq!(outcome.stderr, "exported version 7, 4 x 4, digest d7\n");
    assert_eq!(on(&fake, &[&csv[..], &["--out", &named]].concat()).exit, Exit::Usage, "it exists");
    assert_eq!(on(&fake, &[&csv[..], &["-o", "json"]].concat()).exit, Exit::Usage);
    let json = on(&fake, &[&csv[..], &["--out", &named, "--yes", "-o", "json"]].concat()).json();
    assert_eq!(json[0]["response"]["matrix"]["version"], "7");
    let nodes = format!("{},unix:/nowhere.sock", fake.node());
    assert_eq!(ctl(&[&["matrix"], &csv[..], &["-n", &nodes]].concat()).exit, Exit::Usage);
    assert_eq!(fake.calls(), ["GetMatrix 0", "GetMatrix 7", "GetMatrix 0"]);
}

#[test]
fn an_npy_is_what_numpy_reads() {
    let (folder, fake) = of_series(four());
    let npy = ["show", "--format", "npy"];
    let outcome = on(&fake, &npy);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let data = &outcome.stdout;
    assert_eq!(&data[..8], b"\x93NUMPY\x01\x00");
    let length = usize::from(u16::from_le_bytes([data[8], data[9]]));
    let (header, values) = data[10..].split_at(length);
    let header = std::str::from_utf8(header).unwrap();
    assert_eq!(header.trim_end(), "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 4), }");
    assert!(header.ends_with('\n') && (10 + length).is_multiple_of(64));
    let values: Vec<f64> =
        values.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    assert_eq!(
        values,
        [
            1.0, 0.75, 0.625, 0.5, 0.75, 1.0, 0.75, 0.625, 0.625, 0.75, 1.0, 0.75, 0.5, 0.625,
            0.75, 1.0
        ]
    );
    // How the names are had, of this very version.
    assert!(
        outcome.stderr.contains("`genesisctl matrix show --version 7 --format csv | head -n1`")
    );
    let path = folder.path().join("x.npy");
    let named = path.display().to_string();
    let to_file = at_terminal(&fake, &[&npy[..], &["--out", &named]].concat(), 80, false);
    assert_eq!((to_file.exit, to_file.stdout.len()), (Exit::Ok, 0));
    assert_eq!(&fs::read(&path).unwrap(), data);
    let terminal = at_terminal(&fake, &npy, 80, false);
    assert_eq!(terminal.exit, Exit::Usage);
    assert!(terminal.stderr.contains("add --out FILE, or redirect it"), "{}", terminal.stderr);
    assert_eq!(on(&fake, &[&npy[..], &["-q"]].concat()).stderr, "");
}

#[test]
fn who_has_the_matrix_of_the_fleet() {
    let published = |number| FleetMatrix {
        number,
        published_at: at(40 * DAY),
        hostname: "pricing-a".into(),
        version: number + 4,
        series: 24,
        bytes: 270_000,
        digest: format!("d{number}"),
        ..Default::default()
    };
    let host = |name: &str, state: FleetMatrixState, alive| FleetMatrixHost {
        hostname: name.into(),
        sharing: MatrixSharing::Follow.into(),
        number: 3,
        state: state.into(),
        version: 9,
        percent: 25,
        why: format!("{name} says\u{1b}[2J"),
        alive,
        ..Default::default()
    };
    use FleetMatrixState::{InForce, RolledBack, RollingOut};
    let of_fleet = |hosts| GetFleetMatrixResponse {
        current: Some(FleetMatrix { going_back: true, ..published(3) }),
        versions: vec![published(3), published(2)],
        hosts,
        ..Default::default()
    };
    for (hosts, exit, says) in [
        (vec![host("a", InForce, true)], Exit::Ok, "in force on 1 of 1 host"),
        (vec![host("a", RollingOut, true)], Exit::Unknown, "25 % of its consumers use it"),
        (vec![host("a", RolledBack, true)], Exit::Findings, "a says"),
        (vec![host("a", InForce, false)], Exit::Unknown, "gone"),
    ] {
        let of_fleet = of_fleet(hosts);
        let (_folder, fake) = served(Matrices { of_fleet, ..Default::default() });
        let outcome = ctl(&["matrix", "fleet", "-n", &fake.node()]);
        assert_eq!(outcome.exit, exit, "{}", outcome.out());
        let text = squeezed(outcome.out()).join("\n");
        assert!(text.contains("version 3 of 24 series, which was gone back to"), "{text}");
        assert!(text.contains(says) && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("versions that are kept"), "{text}");
        let verbose = ctl(&["matrix", "fleet", "-v", "-n", &fake.node()]);
        let text = squeezed(verbose.out()).join("\n");
        assert!(text.contains("versions that are kept") && text.contains("d2"), "{text}");
    }
    let (_folder, fake) = served(Matrices::default());
    let outcome = ctl(&["matrix", "fleet", "-n", &fake.node()]);
    assert_eq!(outcome.exit, Exit::Ok);
    assert!(outcome.out().contains("no host publishes or follows"), "{}", outcome.out());
}
