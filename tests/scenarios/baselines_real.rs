//! Baselines beside what they are used with: a Prometheus, a pusher in a program, other agents, a disk that is full.

use std::time::Duration;

use genesis_agent::pki::Role;
use genesis_client::observe::{Pusher, PusherOptions, UnixNanos};
use genesis_client::{Node, Options};
use genesis_tests::clock::{now, wait_for, wait_until};
use genesis_tests::pki::Authority;
use genesis_tests::prometheus::Prometheus;
use genesis_tests::{Ballast, Laptop, TestAgent};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::baselines::{Traffic, file, history, observe, shown, windows};
use genesis_tests::wall_clock::WallClock;

#[test]
fn a_prometheus_has_the_baselines_bucket_for_bucket() {
    let agent = TestAgent::started(|_| String::new());
    history(&agent, &mut Traffic::new(11), 0);
    let prometheus = Prometheus::scraping(agent.http());
    let histogram = "genesis_baseline_seconds{operation=\"orders.place\"}";
    let count = wait_for("the histogram to be scraped", || {
        prometheus.query(&format!("histogram_count({histogram})"))
    });
    let baseline = shown(&agent)["operation"]["baseline"].clone();
    assert_eq!(count.to_string(), baseline["count"].as_str().unwrap(), "{}", prometheus.log());
    for (at, quantile) in [0.5, 0.95, 0.99].into_iter().enumerate() {
        let own = baseline["quantiles"][at]["seconds"].as_f64().unwrap();
        let its =
            prometheus.query(&format!("histogram_quantile({quantile}, {histogram})")).unwrap();
        // It takes a value in the bucket's middle or elsewhere in it: two relative errors apart at most.
        assert!((its / own - 1.0).abs() < 2.0 * 0.005_42, "{quantile}: {its} beside {own}");
        let percentile = (quantile * 100.0) as u32;
        let gauge = format!(
            "genesis_baselines_latency_seconds{{operation=\"orders.place\",percentile=\"{percentile}\"}}"
        );
        let its = prometheus.query(&gauge).unwrap();
        assert!((its / own - 1.0).abs() < 1e-12, "{its} beside {own}");
    }
    assert_eq!(
        prometheus.query("genesis_baselines_degraded{operation=\"orders.place\"}"),
        Some(0.0)
    );
}

#[test]
fn what_two_hosts_saw_adds_up_to_what_one_had_seen() {
    let authority = Authority::new("prod");
    let agents = [(); 2].map(|()| TestAgent::started(|_| authority.config("prod")));
    let alone = TestAgent::started(|_| String::new());
    let mut traffic = Traffic::new(12);
    let until = now().as_second();
    for (agent, scale) in agents.iter().zip([1.0, 3.0]) {
        let text = traffic.csv("orders.place", until - 7_200, until - 60, 4_000, scale);
        for agent in [agent, &alone] {
            observe(agent, &file(agent.folder(), &format!("{scale}.csv"), &text), &[]).ok();
        }
    }
    for agent in agents.iter().chain([&alone]) {
        agent.ctl(&["baseline", "recalculate"]).ok();
    }
    // As an operator asks all hosts of a context.
    let nodes = agents.each_ref().map(|agent| agent.grpc().to_string());
    let laptop = Laptop::new(&authority, Role::Viewer, &nodes);
    let show = ["baseline", "show", "orders.place", "--all", "--merge", "-o", "json"];
    let said = laptop.ctl(&show).json();
    let merged = said.as_array().unwrap().iter().find_map(|it| it.get("merged")).unwrap();
    let merged = &merged["operations"][0];
    let one = shown(&alone);
    for field in ["counts", "offset", "level", "sumNanosHigh", "sumNanosLow", "min", "max"] {
        assert_eq!(merged["sketch"][field], one["sketch"][field], "{field}: {merged:#}");
    }
    let quantiles = |it: &Value| {
        let all = it["quantiles"].as_array().unwrap().iter();
        all.map(|it| it["seconds"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(quantiles(&merged["baseline"]), quantiles(&one["operation"]["baseline"]));
}

#[test]
fn on_a_full_disk_a_pusher_keeps_what_it_has_and_a_window_is_judged_once() {
    let mut agent = TestAgent::with_small_disk(48, |_| "[health]\ndefaults = false\n".to_owned());
    let clock = WallClock::of(&mut agent);
    let fault = agent.folder().join("fault");
    agent.environment("GENESIS_FAULT", &format!("baselines.keep:{}", fault.display()));
    agent.start();
    let mut traffic = Traffic::new(13);
    // Each hour of the week has a reference of its own: both slow windows are to lie in one, and the five before them
    // take an hour.
    let mut ahead = (300 - now().as_second()).rem_euclid(3_600);
    clock.ahead(SignedDuration::from_secs(ahead));
    history(&agent, &mut traffic, ahead);
    for _ in 0..5 {
        windows(&agent, &clock, &mut traffic, &mut ahead, 1.0);
    }
    // The same calls in each window: it is as far out as the other, and not far enough for an episode.
    let slow: Vec<f64> = (0..600).map(|_| traffic.milliseconds(1.08)).collect();
    let sums = |agent: &TestAgent, start: i64| {
        let shown = shown(agent);
        let window = shown["windows"].as_array().unwrap().iter().find(|it| {
            let at: Option<Timestamp> = it["start"].as_str().and_then(|it| it.parse().ok());
            at.is_some_and(|at| at.as_second() == start)
        })?;
        let judgements = window["judgements"].as_array()?;
        judgements.iter().map(|it| it["sum"].as_f64()).collect::<Option<Vec<f64>>>()
    };
    let window = |agent: &TestAgent, ahead: &mut i64| {
        *ahead += 300;
        clock.ahead(SignedDuration::from_secs(*ahead));
        let until = now().as_second() + *ahead;
        let start = until - until.rem_euclid(300) - 300;
        let mut text = "operation,timestamp,latency_ms\n".to_owned();
        for (call, latency) in slow.iter().enumerate() {
            text.push_str(&format!("orders.place,{},{latency}\n", start + call as i64 / 2));
        }
        observe(agent, &file(agent.folder(), &format!("slow-{start}.csv"), &text), &[]).ok();
        start
    };
    let first = window(&agent, &mut ahead);
    ahead += 61;
    clock.ahead(SignedDuration::from_secs(ahead));
    let ones = wait_for("the first window", || sums(&agent, first));
    // Which quantile is furthest out depends on the reference, and that on the hour of the week.
    let furthest =
        (0..ones.len()).max_by(|one, other| ones[*one].total_cmp(&ones[*other])).unwrap();
    let one = ones[furthest];
    assert!((0.3..3.0).contains(&one), "sums of {ones:?} show nothing");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let node: Node = agent.node().parse().unwrap();
    let options =
        PusherOptions { batch: 500, linger: Duration::from_millis(10), ..PusherOptions::default() };
    let _entered = runtime.enter();
    let pusher = Pusher::follow(node, Options::default(), options).unwrap();
    let operation = pusher.handle().operation("pushed").unwrap();
    let push = |calls: u32, ahead: i64| {
        let at = now().as_nanosecond() as i64 + ahead * 1_000_000_000;
        (0..calls)
            .filter(|call| operation.observe(UnixNanos(at), f64::from(*call + 1) * 1e-4))
            .count()
    };
    assert_eq!(push(5_000, ahead), 5_000);
    runtime.block_on(pusher.flush(Duration::from_secs(20))).unwrap();
    let second = window(&agent, &mut ahead);
    // And what windows come to can't be written, though the little that it takes may find a place.
    std::fs::write(&fault, "").unwrap();
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    assert_eq!(push(20_000, ahead), 20_000);
    wait_until("the pusher to be refused", || {
        pusher.stats().last_error.is_some_and(|error| error.reason == "STORAGE_OUT_OF_SPACE")
    });
    ahead += 61;
    clock.ahead(SignedDuration::from_secs(ahead));
    // It is told. Single batches of observations may find a place in the file all the same.
    wait_until("windows to fail", || {
        agent.ctl(&["status"]).text().contains("windows are not judged")
    });
    agent.ctl(&["status"]).exits(3).says(&["OBSERVATIONS_FAILING"]);
    wait_for("people to hear of it", || agent.firing("observations"));
    // What is decided has room of its own.
    agent.ctl(&["breaker", "trip", "venue", "--for", "1s", "--reason", "it goes on"]).ok();

    ballast.release();
    std::fs::remove_file(&fault).unwrap();
    runtime.block_on(pusher.flush(Duration::from_secs(60))).unwrap();
    let stats = runtime.block_on(pusher.close(Duration::from_secs(5)));
    // The library that moves the agent's clock may show the true time for an instant when it is set anew, from where a
    // batch is of the future: the agent says so and doesn't count it.
    let counted = stats.answered.counted;
    assert_eq!((counted + stats.answered.ahead, stats.dropped), (25_000, 0), "{stats:?}");
    wait_until("the trouble to be over", || {
        !agent.ctl(&["status"]).text().contains("OBSERVATIONS_FAILING")
    });
    let both = wait_for("the second window", || sums(&agent, second))[furthest];
    // Judged twice it would be three of the first.
    assert!((both - 2.0 * one).abs() < 0.5 * one, "{one} and then {both}: it adds once");
    agent.ctl(&["baseline", "recalculate", "--operation", "pushed"]).ok();
    let pushed = agent.ctl(&["baseline", "show", "pushed", "-o", "json"]).response();
    assert_eq!(pushed["operation"]["baseline"]["count"], counted.to_string(), "{pushed:#}");
    agent.ctl(&["oplog", "verify"]).ok();
}
