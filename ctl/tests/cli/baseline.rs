//! `baseline`.

use std::collections::HashMap;
use std::fs;

use genesis_client::v1::*;
use genesis_stats::Sketch as Values;
use genesisctl::Exit;

use crate::fake::{Baselines, Fake, Script};
use crate::{Outcome, at, ctl, folder, squeezed};

const RUN: &str = "01J0000000000000000000000A";
const DAY: i64 = 24 * 3600;

fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["baseline"], command, &["-n", &fake.node()]].concat())
}

fn message(values: &Values) -> Sketch {
    let parts = values.to_parts();
    Sketch {
        level: parts.level,
        zeros: parts.zeros,
        rejected: parts.rejected,
        offset: parts.offset,
        counts: parts.counts,
        sum_nanos_high: (parts.sum_nanos >> 64) as u64,
        sum_nanos_low: parts.sum_nanos as u64,
        min: parts.min,
        max: parts.max,
        coarse: parts.coarse,
    }
}

fn values(numbers: impl IntoIterator<Item = u32>) -> Values {
    let mut values = Values::new();
    numbers.into_iter().for_each(|number| {
        values.insert(f64::from(number) * 1e-4);
    });
    values
}

fn baseline(operation: &str, values: &Values, until: i64) -> Baseline {
    let quantile = |quantile: f64| {
        let (low_seconds, high_seconds) = values.interval(quantile).unwrap();
        let (seconds, low_n) = (values.quantile(quantile).unwrap(), values.low_n(quantile));
        BaselineQuantile { quantile, seconds, low_seconds, high_seconds, low_n }
    };
    Baseline {
        operation: operation.into(),
        generation: 3,
        calculated_at: at(40 * DAY),
        from: at(until - 30 * DAY),
        until: at(until),
        count: values.count(),
        quantiles: [0.5, 0.95, 0.99].map(quantile).to_vec(),
        alpha: values.alpha(),
        mean_seconds: values.mean().unwrap(),
        deviation_seconds: values.deviation().unwrap(),
        min_seconds: values.min().unwrap(),
        max_seconds: values.max().unwrap(),
        cause: "weekly".into(),
        by: "schedule".into(),
        hours_of_week: 160,
        ..Default::default()
    }
}

fn summary(operation: &str, state: BaselineState, values: &Values) -> BaselineSummary {
    let baseline = (!values.is_empty()).then(|| baseline(operation, values, 40 * DAY));
    BaselineSummary {
        operation: operation.into(),
        state: state.into(),
        baseline,
        observed: 1_234,
        last_observed_at: at(40 * DAY),
        ..Default::default()
    }
}

/// One that goes on, and the window in which it does.
fn degraded(values: &Values) -> BaselineSummary {
    let judgement = WindowJudgement {
        quantile: 0.99,
        seconds: 0.025,
        usual_seconds: 0.0125,
        usual_share: 0.01,
        above: 87,
        z: 12.345,
        p: Some(0.0001),
        z_equivalent: Some(3.719),
        z_literal: 2.5,
        candidate: true,
        method: "conformal".into(),
        sum: 5.25,
        limit: 4.0,
        reference: "hour of week".into(),
    };
    let window = BaselineWindow {
        start: at(40 * DAY),
        length: Some(prost_types::Duration { seconds: 300, nanos: 0 }),
        count: 1_000,
        judgements: vec![judgement],
        not_judged: String::new(),
    };
    let episode = Episode {
        id: "e1".into(),
        operation: "orders.place".into(),
        since: at(40 * DAY),
        quantile: 0.99,
        usual_seconds: 0.0125,
        worst_seconds: 0.025,
        worst_z: 1.31,
        changes: vec!["config was reloaded \u{1b}[2J".into()],
        surroundings: vec!["cpu 97 %".into()],
        queries: vec!["SELECT 1".into()],
        rollbacks: vec!["config".into()],
        ..Default::default()
    };
    let (window, episode) = (Some(window), Some(episode));
    BaselineSummary { window, episode, ..summary("orders.place", BaselineState::Degraded, values) }
}

fn agent(operations: Vec<(BaselineSummary, Values)>) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let listed = operations.iter().map(|(summary, _)| summary.clone()).collect();
    let known = operations.into_iter().map(|(summary, values)| {
        let sketch = (!values.is_empty()).then(|| message(&values));
        let windows = summary.window.iter().cloned().collect();
        let name = summary.operation.clone();
        (name, GetBaselineResponse { operation: Some(summary), sketch, windows })
    });
    let run = Run {
        id: RUN.into(),
        kind: "baselines.recalculate".into(),
        state: RunState::Succeeded.into(),
        summary: "2 baselines".into(),
        ..Default::default()
    };
    let candidate = Candidate {
        operation: "orders.place".into(),
        start: at(60),
        quantile: 0.95,
        seconds: 0.02,
        usual_seconds: 0.01,
        p: 0.015,
    };
    let ended = Episode {
        until: at(41 * DAY),
        ended: "accepted".into(),
        ..degraded(&Values::new()).episode.unwrap()
    };
    let baselines = Baselines {
        listed: ListBaselinesResponse {
            operations: listed,
            next_recalculation_at: at(47 * DAY),
            raw_bytes: 1_000,
            file_bytes: 3_000,
            raw_quota_bytes: 2_000_000,
        },
        known: known.collect::<HashMap<_, _>>(),
        history: vec![baseline("orders.place", &values(1..=600), 40 * DAY)],
        anomalies: ListAnomaliesResponse { episodes: vec![ended], candidates: vec![candidate] },
        found: ListCallsResponse {
            calls: vec![ObservedCall {
                at: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
                seconds: 0.064,
            }],
            in_range: 1_200,
            matched: 7,
            kept_since: Some(prost_types::Timestamp::default()),
        },
        text: "# TYPE x gauge\nx{operation=\"a\"} 1\n".into(),
        ..Default::default()
    };
    let watches = vec![vec![Ok(run)]];
    let fake = Fake::start(folder.path(), Script { baselines, watches, ..Default::default() });
    (folder, fake)
}

#[test]
fn the_state_of_the_operations_decides_the_exit_code() {
    use BaselineState as S;
    let of = |state| (summary("a", state, &values(1..=600)), values(1..=600));
    for (states, exit) in [
        (&[S::Usual, S::Learning][..], Exit::Ok),
        (&[S::Learning], Exit::Ok),
        (&[S::Usual, S::Degraded], Exit::Findings),
        (&[S::Silent, S::Degraded], Exit::Unknown),
        (&[S::Silent], Exit::Unknown),
        (&[S::Unspecified], Exit::Unknown),
        (&[], Exit::Ok),
    ] {
        let (_folder, fake) = agent(states.iter().copied().map(of).collect());
        assert_eq!(on(&fake, &["list"]).exit, exit, "{states:?}");
        assert_eq!(on(&fake, &["list", "-o", "json"]).exit, exit, "{states:?}");
    }
}

#[test]
fn a_list_has_a_row_for_each_operation() {
    let few = values(1..=50);
    let operations = vec![
        (degraded(&values(1..=600)), values(1..=600)),
        (summary("few", BaselineState::Usual, &few), few),
        (summary("new", BaselineState::Learning, &Values::new()), Values::new()),
    ];
    let (_folder, fake) = agent(operations);
    let list = on(&fake, &["list", "-v"]);
    let lines = squeezed(list.out());
    assert_eq!(lines[0], "OPERATION STATE P50 P95 P99 N CALCULATED WINDOW");
    assert_eq!(
        lines[1],
        "orders.place DEGRADED 30.09ms 57.00ms 59.53ms 600 1970-02-10T00:00:00Z 30d"
    );
    // Too few for p95 and p99.
    assert_eq!(lines[2], "few USUAL 2.492ms ~4.721ms ~4.877ms 50 1970-02-10T00:00:00Z 30d");
    assert_eq!(lines[3], "new LEARNING - - - - - -");
    assert_eq!(lines[4], "next calculated at 1970-02-17T00:00:00Z");
    assert_eq!(lines[5], "observations: 1.0 kB of at most 2.0 MB, in a file of 3.0 kB");
    let degraded = on(&fake, &["list", "--degraded", "-o", "json"]).json();
    assert_eq!(degraded[0]["response"]["operations"].as_array().unwrap().len(), 1);
    assert_eq!(fake.calls(), ["ListBaselines false", "ListBaselines true"]);
}

#[test]
fn an_operation_is_shown_with_all_that_is_known() {
    let all = values(1..=600);
    let few = values(1..=50);
    let (_folder, fake) =
        agent(vec![(degraded(&all), all), (summary("few", BaselineState::Usual, &few), few)]);
    let shown = on(&fake, &["show", "orders.place"]);
    assert_eq!(shown.exit, Exit::Findings, "{}", shown.stderr);
    assert!(!shown.out().contains('\u{1b}'));
    let lines = squeezed(shown.out());
    for wanted in [
        "orders.place",
        "state: DEGRADED",
        "observed: 1,234 lately, the last at 1970-02-10T00:00:00Z",
        "baseline: generation 3, calculated at 1970-02-10T00:00:00Z (weekly) by schedule",
        "of: n = 600, from 1970-01-11T00:00:00Z until 1970-02-10T00:00:00Z (30d)",
        "relative error of quantiles: at most 0.54 %",
        "QUANTILE LATENCY LOW HIGH NOTE",
        "orders.place: latest window: 1970-02-10T00:00:00Z for 5m, n = 1,000",
        "p99 25.00ms 12.50ms 87 (usual: 1.00 %) 12.35 2.50 3.72 0.0001 conformal hour of week 5.25 4.00 yes",
        "can be rolled back: config",
        "the host then: cpu 97 %",
        "slow query: SELECT 1",
        "changed shortly before: config was reloaded \\x1b[2J",
        "1970-02-10T00:00:00Z 1,000 - - 25.00ms 12.35 yes",
        "ABOVE UP TO CALLS SHARE HOLDS",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "lacks {wanted:?}: {}", shown.out());
    }
    let bars: Vec<_> = lines.iter().filter(|line| line.contains('█')).collect();
    assert!((5..=24).contains(&bars.len()), "{bars:?}");
    for mark in ["p50", "p95", "p99"] {
        assert!(
            bars.iter().any(|bar| bar.ends_with(mark) || bar.contains(&format!("{mark} "))),
            "{mark}: {bars:?}"
        );
    }
    let json =
        on(&fake, &["show", "--operation", "orders.place", "--generation", "2", "-o", "json"])
            .json();
    assert_eq!(json[0]["response"]["operation"]["state"], "BASELINE_STATE_DEGRADED");
    let everything = on(&fake, &["show"]);
    let lines = squeezed(everything.out());
    assert_eq!(lines[0], "OPERATION STATE P50 P95 P99 N CALCULATED WINDOW");
    assert!(lines.iter().any(|line| line == "few: calls by latency"), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("too few calls for it")), "{lines:?}");
    let absent = on(&fake, &["show", "absent"]);
    assert_eq!(absent.exit, Exit::Failed);
    assert!(absent.stderr.contains("OPERATION_NOT_FOUND"), "{}", absent.stderr);
    assert_eq!(on(&fake, &["show", "--generation", "2"]).exit, Exit::Usage);
    assert_eq!(on(&fake, &["show", "a", "--operation", "b"]).exit, Exit::Usage);
    assert_eq!(
        fake.calls(),
        [
            "GetBaseline orders.place 0",
            "GetBaseline orders.place 2",
            "ListBaselines false",
            "GetBaseline orders.place 0",
            "GetBaseline few 0",
            "GetBaseline absent 0"
        ]
    );
}

#[test]
fn what_is_merged_is_what_one_agent_would_have_seen() {
    let halves =
        [values((1..=2_000).step_by(2)), values((2..=2_000).step_by(2).chain(9_000..9_100))];
    let all = values((1..=2_000).chain(9_000..9_100));
    let [one, two] =
        halves.map(|half| agent(vec![(summary("a", BaselineState::Usual, &half), half)]));
    let nodes = format!("{},{}", one.1.node(), two.1.node());
    let merged = ctl(&["baseline", "show", "a", "--merge", "-o", "json", "-n", &nodes]);
    assert_eq!(merged.exit, Exit::Ok, "{}", merged.stderr);
    let json = merged.json();
    assert_eq!(json.as_array().unwrap().len(), 3);
    let merged = &json[2]["merged"];
    assert_eq!((&merged["nodes"], &merged["unanswered"]), (&2.into(), &0.into()));
    let operation = &merged["operations"][0];
    let expected = genesis_proto::to_json("genesis.v1.Sketch", &message(&all)).unwrap();
    assert_eq!(operation["sketch"], expected, "bit by bit");
    assert_eq!(operation["baseline"]["count"], "2100");
    let p99 = operation["baseline"]["quantiles"][2]["seconds"].as_f64();
    assert_eq!(p99, all.quantile(0.99));
    assert_eq!(operation["windowsDiffer"], false);

    let text = ctl(&["baseline", "show", "--merge", "-n", &nodes]);
    let lines = squeezed(text.out());
    assert_eq!(lines[0], "NODE OPERATION STATE P50 P95 P99 N CALCULATED WINDOW", "{}", text.out());
    assert!(lines[3].starts_with("merged a - ") && lines[3].contains(" 2,100 - 30d"), "{lines:?}");
    assert!(lines.iter().any(|line| line == "n = 2,100 on 2 nodes"), "{lines:?}");
    assert!(text.out().contains('█'));

    let gone = format!("{nodes},unix:/nowhere.sock");
    let some = ctl(&["baseline", "show", "a", "--merge", "-o", "json", "-n", &gone]);
    assert_eq!(some.exit, Exit::SomeFailed);
    let json = some.json();
    assert_eq!(json[3]["merged"]["unanswered"], 1);
    assert_eq!(json[3]["merged"]["operations"][0]["baseline"]["count"], "2100");
}

#[test]
fn nodes_of_other_windows_are_shown_and_no_sketch_is_refused() {
    let some = values(1..=600);
    let mut later = summary("a", BaselineState::Usual, &some);
    later.baseline = Some(baseline("a", &some, 41 * DAY));
    let one = agent(vec![(summary("a", BaselineState::Usual, &some), some.clone())]);
    let two = agent(vec![(later, some)]);
    let nodes = format!("{},{}", one.1.node(), two.1.node());
    let text = ctl(&["baseline", "show", "a", "--merge", "-n", &nodes]);
    assert!(text.out().contains("the nodes' windows differ"), "{}", text.out());
    assert!(squeezed(text.out()).iter().any(|line| line.contains("1970-02-11T00:00:00Z 30d 600")));
    let json = ctl(&["baseline", "show", "a", "--merge", "-o", "json", "-n", &nodes]).json();
    let operation = &json[2]["merged"]["operations"][0];
    assert_eq!(operation["windowsDiffer"], true);
    assert_eq!(operation["baseline"]["until"], "1970-02-11T00:00:00Z");

    let folder = folder();
    let odd = Sketch { level: 99, ..message(&values(1..=600)) };
    let known = GetBaselineResponse {
        operation: Some(summary("a", BaselineState::Usual, &values(1..=600))),
        sketch: Some(odd),
        windows: vec![],
    };
    let baselines = Baselines { known: HashMap::from([("a".into(), known)]), ..Default::default() };
    let fake = Fake::start(folder.path(), Script { baselines, ..Default::default() });
    assert_eq!(on(&fake, &["show", "a"]).exit, Exit::Ok);
    let nodes = format!("{},{}", one.1.node(), fake.node());
    let refused = ctl(&["baseline", "show", "a", "--merge", "-n", &nodes]);
    assert_eq!(refused.exit, Exit::SomeFailed);
    assert!(refused.stderr.contains("can't be merged: level 99"), "{}", refused.stderr);
}

#[test]
fn a_calculation_is_followed_and_a_new_usual_needs_a_reason() {
    let (_folder, fake) = agent(vec![]);
    let run = on(&fake, &["recalculate", "--operation", "orders.place"]);
    assert_eq!(run.exit, Exit::Ok, "{}", run.stderr);
    assert!(run.out().contains("SUCCEEDED") && run.out().contains("2 baselines"), "{}", run.out());
    assert!(on(&fake, &["recalculate", "--detach"]).out().contains("has started"));
    let accept = ["accept", "--operation", "orders.place"];
    let outcome = on(&fake, &accept);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.stderr.contains("--reason"), "{}", outcome.stderr);
    let since = ["--since", "1970-01-01T00:01:00.5Z", "--reason", "moved"];
    let outcome = on(&fake, &[&accept[..], &since].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(
        outcome.out(),
        "orders.place has generation 4 of its baseline, of 12,000 calls since 1970-01-01T00:01:00Z: p99 12.50ms\n"
    );
    assert_eq!(
        fake.calls(),
        [
            "RecalculateBaselines orders.place",
            &format!("WatchRun {RUN}"),
            "RecalculateBaselines",
            "AcceptBaseline orders.place 60.500000000 because moved"
        ]
    );
}

#[test]
fn the_past_is_listed() {
    let (_folder, fake) = agent(vec![]);
    let history = on(&fake, &["history", "--operation", "orders.place", "--limit", "5"]);
    let lines = squeezed(history.out());
    assert_eq!(lines[0], "OPERATION GEN CALCULATED CAUSE P50 P95 P99 N FROM UNTIL BY REASON");
    assert!(
        lines[1].starts_with("orders.place 3 1970-02-10T00:00:00Z weekly 30.09ms"),
        "{lines:?}"
    );
    let anomalies = on(&fake, &["anomalies"]);
    assert_eq!(anomalies.exit, Exit::Ok);
    let lines = squeezed(anomalies.out());
    assert_eq!(
        lines[1],
        "orders.place 1970-02-10T00:00:00Z 1970-02-11T00:00:00Z accepted p99 12.50ms 25.00ms 1.31 config was reloaded \
         \\x1b[2J"
    );
    assert_eq!(lines.len(), 2);
    let more = on(&fake, &["anomalies", "--candidates", "--operation", "orders.place"]);
    let lines = squeezed(more.out());
    assert_eq!(
        lines.last().unwrap(),
        "orders.place 1970-01-01T00:01:00Z p95 20.00ms 10.00ms 0.0150"
    );
    assert_eq!(
        fake.calls(),
        [
            "ListBaselineHistory orders.place 5",
            "ListAnomalies 50 false",
            "ListAnomalies orders.place 50 true"
        ]
    );
}

#[test]
fn single_calls_are_shown_to_the_microsecond_with_how_many_there_were() {
    let (_folder, fake) = agent(Vec::new());
    let found = on(&fake, &["calls", "orders.place", "--last", "1h", "--above", "40ms"]);
    assert_eq!(found.exit, Exit::Ok);
    let lines = squeezed(found.out());
    assert_eq!(lines[1], "1970-01-01T00:00:01.500000Z 64.00ms");
    let counts = "1,200 calls, 7 of them above 40ms; kept since 1970-01-01T00:00:00Z";
    assert_eq!(lines.last().unwrap(), counts);
    let range = ["--from", "1970-01-02", "--until", "1970-01-03", "--newest", "--limit", "3"];
    assert_eq!(on(&fake, &[&["calls", "a"][..], &range].concat()).exit, Exit::Ok);
    assert_eq!(
        fake.calls(),
        [
            "ListCalls orders.place -1..-1 last Some(3600) above 0.04 newest false limit 50",
            "ListCalls a 86400..172800 last None above 0 newest true limit 3"
        ]
    );
    let both = on(&fake, &["calls", "a", "--last", "1h", "--from", "1970-01-02"]);
    assert_eq!(both.exit, Exit::Usage);
}

#[test]
fn an_export_goes_to_a_file_or_to_standard_output() {
    let (folder, fake) = agent(vec![]);
    let text = "# TYPE x gauge\nx{operation=\"a\"} 1\n";
    let export = ["export", "--format", "prometheus"];
    assert_eq!(on(&fake, &export).out(), text);
    let path = folder.path().join("x.prom");
    let named = path.display().to_string();
    let outcome = on(&fake, &[&export[..], &["--out", &named, "--operation", "a"]].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), outcome.out()), (text, ""));
    assert_eq!(
        on(&fake, &[&export[..], &["--out", &named]].concat()).exit,
        Exit::Usage,
        "it exists"
    );
    assert_eq!(on(&fake, &[&export[..], &["-o", "json"]].concat()).exit, Exit::Usage);
    let nodes = format!("{},unix:/nowhere.sock", fake.node());
    assert_eq!(ctl(&[&["baseline"], &export[..], &["-n", &nodes]].concat()).exit, Exit::Usage);
    assert_eq!(on(&fake, &["export"]).exit, Exit::Usage, "it says for what");
    assert_eq!(fake.calls(), ["ExportBaselines", "ExportBaselines a"]);
}
