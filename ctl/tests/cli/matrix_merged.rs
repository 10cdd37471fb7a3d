//! `matrix show --merge`.

use genesis_client::v1::*;
use genesis_stats::correlation::{Block, Candidate, Estimate, Part, Window};
use genesisctl::Exit;

use crate::fake::{Fake, Matrices};
use crate::matrix::served;
use crate::{Outcome, ctl, squeezed};

/// The first day that agents have here: 2024-01-30.
const FIRST: u32 = 19_752;

/// A day of one host: names, and a column of values for each.
struct Day {
    day: u32,
    series: Vec<String>,
    block: Block,
}

/// So many values of each series that look like chance, and go together somewhat.
fn day(day: u32, series: &[&str], rows: usize) -> Day {
    let next = |state: &mut u64| {
        *state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let mut common = u64::from(day);
    let common: Vec<f64> = (0..rows).map(|_| next(&mut common)).collect();
    let columns: Vec<Vec<f64>> = series
        .iter()
        .map(|name| {
            let mut own = name.bytes().map(u64::from).sum::<u64>() + u64::from(day) * 7;
            common.iter().map(|common| common + 0.5 * next(&mut own)).collect()
        })
        .collect();
    let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
    let block = Block::of(&columns, &Block::centres(&columns)).unwrap();
    Day { day, series: series.iter().map(|name| (*name).to_owned()).collect(), block }
}

/// As an agent sends it: all but the smallest in two pieces.
fn sent(host: &str, bucket_seconds: u32, days: &[Day]) -> Vec<ListSeriesBlocksResponse> {
    let pieces = |Day { day, series, block }: &Day| {
        let bytes = block.to_bytes();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        [(first, true), (second, false)].map(|(block, more)| ListSeriesBlocksResponse {
            day: *day,
            series: series.clone(),
            block: block.to_vec(),
            more,
            bucket_seconds,
            host: host.into(),
        })
    };
    days.iter().flat_map(pieces).collect()
}

fn agent(blocks: Vec<ListSeriesBlocksResponse>) -> (tempfile::TempDir, Fake) {
    served(Matrices { blocks, ..Default::default() })
}

fn merged(nodes: &[String], flags: &[&str]) -> Outcome {
    let nodes = nodes.join(",");
    ctl(&[&["matrix", "show", "--merge", "-n", &nodes], flags].concat())
}

#[test]
fn the_matrix_of_a_fleet_is_that_of_one_window_to_the_bit() {
    let one = [day(FIRST, &["ADA", "BTC", "ETH"], 120), day(FIRST + 1, &["ADA", "BTC"], 120)];
    let two = [day(FIRST, &["BTC", "ETH", "SOL"], 150), day(FIRST + 1, &["BTC", "SOL"], 40)];
    let parts: Vec<Part<'_>> = [("h1", &one), ("h2", &two)]
        .iter()
        .flat_map(|(host, days)| {
            days.iter().map(|day| Part {
                host,
                span: i64::from(day.day),
                series: &day.series,
                block: &day.block,
            })
        })
        .collect();
    let (names, block) = Window::of(&parts).unwrap().into_parts();
    let estimate = Estimate::of(&block);
    let wanted = Candidate::of(&estimate, names, 100, None).unwrap();

    let agents = [agent(sent("h1", 300, &one)), agent(sent("h2", 300, &two)), agent(vec![])];
    let mut nodes: Vec<_> = agents.iter().map(|(_, fake)| fake.node()).collect();
    let outcome = merged(&nodes, &["-o", "json"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let json = outcome.json();
    assert_eq!(json.as_array().unwrap().len(), 4);
    let all = &json[3]["merged"];
    assert_eq!((&all["nodes"], &all["unanswered"]), (&3.into(), &0.into()));
    let matrix = &all["matrix"];
    assert_eq!(matrix["series"], serde_json::json!(["ADA", "BTC", "ETH", "SOL"]));
    let upper = matrix["upper"].as_array().unwrap();
    let places = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    for ((i, j), found) in places.into_iter().zip(upper) {
        let value = wanted.get(i, j).unwrap();
        match value.is_nan() {
            true => assert!(found.is_null(), "{i} {j}: {found}"),
            false => assert_eq!(found.as_f64().unwrap().to_bits(), value.to_bits(), "{i} {j}"),
        }
    }
    // ADA and SOL are on no host together.
    assert!(upper[2].is_null() && !upper[5].is_null());
    assert_eq!(matrix["fewestPoints"], 120);
    assert_eq!(matrix["lacking"][0]["why"], "no host has both series on one day");
    assert_eq!(
        (&matrix["lackingTotal"], &matrix["definite"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let of_node = json.as_array().unwrap().iter().find(|one| one["node"] == nodes[1].as_str());
    let response = &of_node.unwrap()["response"];
    assert_eq!((&response["host"], &response["days"]), (&"h2".into(), &2.into()));
    assert_eq!((&response["series"], &response["from"]), (&3.into(), &"2024-01-30".into()));

    nodes.reverse();
    assert_eq!(merged(&nodes, &["-o", "json"]).json()[3], json[3], "to the last bit");

    let text = merged(&nodes, &[]);
    assert_eq!(text.exit, Exit::Ok, "{}", text.stderr);
    let lines = squeezed(text.out());
    assert_eq!(lines[0], "NODE HOST DAYS FROM UNTIL SERIES BUCKET SIZE", "{}", text.out());
    assert!(
        lines.iter().any(|line| line.contains(" h1 2 2024-01-30 2024-01-31 3 5m ")),
        "{lines:#?}"
    );
    assert!(lines.iter().any(|line| line.ends_with(" - 0 - - 0 - 0 B")), "{lines:#?}");
    for wanted in [
        "matrix of 3 nodes, calculated here and kept nowhere",
        "4 series; 5 of 6 pairs have a value, for which 100 points are needed",
        "at least 120 points a pair",
        "whether it is definite can't be said while pairs lack a value",
        "ADA SOL 0 no host has both series on one day",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {}", text.out());
    }
    let row = lines.iter().find(|line| line.starts_with("1 ADA 1.00")).unwrap();
    assert!(row.ends_with(" -"), "{row}");
}

#[test]
fn pairs_with_too_few_points_say_so_and_less_may_be_asked_for() {
    let some = [day(FIRST, &["ADA", "BTC", "ETH"], 60)];
    let (_folder, fake) = agent(sent("h1", 300, &some));
    let nodes = [fake.node()];
    let text = merged(&nodes, &[]);
    assert_eq!(text.exit, Exit::Ok, "{}", text.stderr);
    for wanted in
        ["0 of 3 pairs have a value", "100 points are needed", "3 pairs, 3 without a value"]
    {
        assert!(text.out().contains(wanted), "lacks {wanted:?}: {}", text.out());
    }
    let fewer = merged(&nodes, &["--min-points", "60", "--pairs"]);
    assert_eq!(fewer.exit, Exit::Ok, "{}", fewer.stderr);
    for wanted in
        ["3 of 3 pairs have a value", "positive semi-definite", "at least 60 points a pair"]
    {
        assert!(fewer.out().contains(wanted), "lacks {wanted:?}: {}", fewer.out());
    }
    assert!(squeezed(fewer.out()).iter().any(|line| line.starts_with("ADA BTC +0.")));
    let (_folder, fake) = agent(vec![]);
    let none = merged(&[fake.node()], &[]);
    assert_eq!(none.exit, Exit::Ok);
    assert!(none.out().contains("no node has values yet"), "{}", none.out());
    let json = merged(&[fake.node(), "unix:/nowhere.sock".into()], &["-o", "json"]);
    assert_eq!(json.exit, Exit::SomeFailed);
    let merged = &json.json()[2]["merged"];
    assert_eq!((&merged["unanswered"], &merged["matrix"]), (&1.into(), &serde_json::Value::Null));
}

#[test]
fn other_buckets_and_one_host_twice_are_conflicts() {
    let some = || [day(FIRST, &["ADA", "BTC"], 120)];
    let one = agent(sent("h1", 300, &some()));
    let longer = agent(sent("h2", 60, &some()));
    let again = agent(sent("h1", 300, &some()));
    for (other, told) in [
        (&longer, &["error[BUCKETS_DIFFER]", "has 5m", "has 1m"][..]),
        (&again, &["error[HOST_TWICE]", "are the same host (h1)"]),
    ] {
        let nodes = [one.1.node(), other.1.node()];
        for flags in [&[][..], &["-o", "json"]] {
            let outcome = merged(&nodes, flags);
            assert_eq!(outcome.exit, Exit::Conflict, "{}", outcome.stderr);
            for told in told {
                assert!(outcome.stderr.contains(told), "lacks {told}: {}", outcome.stderr);
            }
            assert!(outcome.stderr.contains(&nodes[0]) && outcome.stderr.contains(&nodes[1]));
        }
        let json = merged(&nodes, &["-o", "json"]).json();
        assert_eq!(json.as_array().unwrap().len(), 2, "what each has is printed all the same");
    }
}

#[test]
fn sums_that_are_none_fail_their_node_alone() {
    let some = || [day(FIRST, &["ADA", "BTC"], 120)];
    let good = agent(sent("h1", 300, &some()));
    let cut = sent("h2", 300, &some()).into_iter().take(1).collect();
    let mut names = sent("h2", 300, &some());
    names.iter_mut().for_each(|piece| piece.series.push("ETH".into()));
    let mut garbled = sent("h2", 300, &some());
    garbled[0].block[0] = 9;
    let mut twice = sent("h2", 300, &some());
    twice.extend(sent("h2", 300, &some()));
    let mut hosts = sent("h2", 300, &some());
    hosts.extend(sent("h3", 300, &[day(FIRST + 1, &["ADA", "BTC"], 120)]));
    for (odd, told) in [
        (cut, "it ends in its middle"),
        (names, "it has 2 series and 3 names"),
        (garbled, "version 9 is not known"),
        (twice, "it came twice"),
        (hosts, "it is of another host or bucket than the first"),
    ] {
        let odd = agent(odd);
        let outcome = merged(&[good.1.node(), odd.1.node()], &["-o", "json"]);
        assert_eq!(outcome.exit, Exit::SomeFailed, "{told}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(told), "lacks {told}: {}", outcome.stderr);
        let json = outcome.json();
        assert_eq!(json[2]["merged"]["unanswered"], 1);
        assert_eq!(json[2]["merged"]["matrix"]["upper"].as_array().unwrap().len(), 1);
    }
}
