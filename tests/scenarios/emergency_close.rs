//! An emergency and trading: halted, cancelled, closed and proven, at a venue whose own book says what has happened.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use genesis_agent::pki::Role;
use genesis_tests::clock::{Watch, wait_until};
use genesis_tests::paper::PaperVenue;
use genesis_tests::pki::Authority;
use genesis_tests::{Ballast, Laptop, LoopDisk, Output, TestAgent};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tempfile::TempDir;

use genesis_tests::wall_clock::WallClock;

/// Two venues: one with depth for a part of the position, orders out, and one that is short.
fn book() -> Value {
    json!({ "venues": {
        "alpha": {
            "positions": { "BTC-PERP": "3" },
            "open_orders": [
                { "symbol": "BTC-PERP", "client_order_id": "grid-17", "quantity": "1" },
                { "symbol": "BTC-PERP", "client_order_id": "stop-1", "quantity": "-3", "protective": true },
            ],
            "books": { "BTC-PERP": { "bids": [["101.5", "1"], ["101", "0.75"]], "asks": [] } },
        },
        "beta": { "positions": { "ETH-PERP": "-20", "SOL-PERP": "0.125" } },
    }})
}

fn config(venue: &PaperVenue, close_within: &str, more: &str) -> String {
    format!(
        "[trading]\ncontrol = {{ grpc = {:?}, timeout = \"500ms\" }}\nvenues = [\"alpha\", \"beta\"]\n\
         close_within = {close_within:?}\n{more}",
        venue.target()
    )
}

/// A trading system and an agent beside it.
struct Host {
    agent: TestAgent,
    venue: PaperVenue,
    _folder: TempDir,
}

fn host(close_within: &str, more: &str) -> Host {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    let agent = TestAgent::new(|_| config(&venue, close_within, more));
    Host { agent, venue, _folder: folder }
}

impl Host {
    fn close(&self) -> Output {
        self.agent.ctl(&["emergency", "close-positions", "--yes", "--reason", "the book is wrong"])
    }

    fn course(&self) -> Value {
        // It exits 3 while an emergency is in force.
        let said = self.agent.ctl(&["emergency", "status", "-o", "json"]);
        said.json()[0]["response"]["course"].clone()
    }

    fn phase(&self) -> String {
        let phase = self.course()["phase"].as_str().unwrap_or_default().to_owned();
        phase.trim_start_matches("COURSE_PHASE_").to_owned()
    }

    /// What was sold and bought comes to what there was, and no more; and nothing is out.
    fn assert_closed_once(&self) {
        assert!(self.venue.is_flat(), "{}", self.venue.book());
        for (name, symbol, held) in [
            ("alpha", "BTC-PERP", 3.0_f64),
            ("beta", "ETH-PERP", -20.0),
            ("beta", "SOL-PERP", 0.125),
        ] {
            let traded = self.venue.trades(name, symbol);
            let sum: f64 = traded.iter().map(|quantity| quantity.parse::<f64>().unwrap()).sum();
            let all: f64 = traded.iter().map(|it| it.parse::<f64>().unwrap().abs()).sum();
            assert_eq!((sum, all), (-held, held.abs()), "{name} {symbol}: {traded:?}");
        }
        let out = &self.venue.book()["venues"]["alpha"]["open_orders"];
        assert!(out.as_array().is_none_or(Vec::is_empty), "{out}");
    }

    /// The ids of orders that were sent to a venue, each as often as it was.
    fn sent(&self, venue: &str) -> Vec<String> {
        let calls = self.venue.calls("ClosePositions");
        let there = calls.iter().filter(|call| call["venue"] == venue);
        let ids = there.flat_map(|call| call["ids"].as_array().cloned().unwrap_or_default());
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    fn entries(&self, action: &str) -> usize {
        let said =
            self.agent.ctl(&["oplog", "list", "--action", action, "--limit", "1000", "-o", "json"]);
        said.ok().response()["entries"].as_array().map_or(0, Vec::len)
    }
}

impl Host {
    /// What came of each entry of an action, the oldest first.
    fn outcomes(&self, action: &str) -> Vec<String> {
        let said = self.agent.ctl(&["oplog", "list", "--action", action, "-o", "json"]).ok();
        let entries = said.response()["entries"].as_array().cloned().unwrap_or_default();
        let mut own: Vec<(u64, String)> = entries
            .iter()
            .filter(|entry| entry["action"] == action)
            .map(|entry| {
                let sequence = entry["sequence"].as_str().unwrap().parse().unwrap();
                (sequence, entry["outcome"].as_str().unwrap().to_owned())
            })
            .collect();
        own.sort();
        own.into_iter().map(|(_, outcome)| outcome).collect()
    }
}

/// The number of the latest emergency.
fn number(agent: &TestAgent) -> String {
    let status = agent.ctl(&["emergency", "status", "-o", "json"]).response();
    status["emergency"]["epoch"].as_str().unwrap().to_owned()
}

/// The trading system was told that the emergency which it knows is over.
fn goes_on(venue: &PaperVenue) -> bool {
    let book = venue.book();
    book["halted"] == false && book["resumed_epoch"] != 0 && book["resumed_epoch"] == book["epoch"]
}

#[test]
fn everything_is_closed_and_proven_and_trading_goes_on_after_the_release() {
    let mut host = host("30s", "");
    host.agent.start();
    host.agent.ctl(&["emergency", "close-positions"]).exits(2).says(&["--yes"]);
    host.agent.ctl(&["emergency", "status"]).ok();
    let plan = host.agent.ctl(&["emergency", "close-positions", "--plan"]).ok();
    plan.says(&["raise-flag", "halt", "cancel", "prove"]);
    let closed = host.close().ok();
    let closed =
        closed.says(&["trading is halted since", "FLAT: every venue was seen empty twice"]);
    closed.says(&["alpha", "beta", "BTC-PERP", "FILLED"]);
    host.assert_closed_once();
    // What the book did not have was closed by the next attempts, each after the one before had ended.
    assert_eq!(host.sent("alpha").len(), 2, "{:?}", host.sent("alpha"));
    let again = host.close().ok();
    again.says(&["FLAT"]);
    host.assert_closed_once();
    host.agent.ctl(&["status"]).exits(3).says(&[" is in force"]);
    let plan = host.agent.ctl(&["emergency", "release", "--plan"]).ok();
    plan.says(&["resume", "every venue is flat"]);
    host.agent.ctl(&["emergency", "release", "--reason", "the book is right"]).ok();
    wait_until("trading goes on", || goes_on(&host.venue));
    wait_until("it is known", || {
        host.agent.ctl(&["emergency", "status"]).text().contains("orders leave again since")
    });
    assert_eq!(host.venue.book()["halted"], false);
    host.agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    for action in ["trading.halt", "trading.orders-intended", "trading.flat", "trading.resumed"] {
        assert!(host.entries(action) > 0, "{action}");
    }
    // What people read afterwards has it too.
    let incident = host.agent.ctl(&["incident", "show", "last"]).ok();
    incident.says(&["trading.halted", "trading.close-asked", "trading.flat", "trading.resumed"]);
}

#[test]
fn an_emergency_alone_halts_and_cancels_and_leaves_what_protects() {
    let mut host = host("30s", "");
    host.agent.start();
    let halted = host.agent.ctl(&["emergency", "halt", "--reason", "prices are wrong"]);
    halted.ok().says(&["trading is halted since"]);
    wait_until("orders are cancelled", || {
        host.course()["venues"][0]["state"] == "VENUE_STATE_CANCELLED"
    });
    let book = host.venue.book();
    assert_eq!(book["halted"], true);
    let out = book["venues"]["alpha"]["open_orders"].as_array().unwrap();
    assert_eq!((out.len(), &out[0]["client_order_id"]), (1, &json!("stop-1")), "{out:?}");
    assert_eq!(host.venue.position("alpha", "BTC-PERP"), "3");
    assert!(host.sent("alpha").is_empty());
    // One that was restarted and trades on is told again.
    host.venue.change_book(|book| book["halted"] = json!(false));
    wait_until("it is halted again", || host.venue.book()["halted"] == true);
    assert_eq!(host.phase(), "HALTED");
}

#[test]
fn what_was_sent_before_a_late_halt_is_cancelled_as_well() {
    let mut host = host("30s", "");
    host.venue.faults(json!([{ "call": "Halt", "kind": "fail" }]));
    host.agent.start();
    host.agent.ctl(&["emergency", "activate"]).ok();
    wait_until("orders are cancelled", || {
        host.course()["venues"][0]["state"] == "VENUE_STATE_CANCELLED"
    });
    // It trades on, as it does not halt.
    host.venue.change_book(|book| {
        let out = book["venues"]["alpha"]["open_orders"].as_array_mut().unwrap();
        out.push(json!({ "symbol": "BTC-PERP", "client_order_id": "grid-18", "quantity": "1" }));
    });
    assert_eq!(host.venue.book()["halted"], false);
    host.venue.no_faults();
    wait_until("it is halted", || host.venue.book()["halted"] == true);
    wait_until("what it sent meanwhile is cancelled", || {
        let book = host.venue.book();
        let out = book["venues"]["alpha"]["open_orders"].as_array().unwrap();
        out.iter().all(|order| order["client_order_id"] == "stop-1")
    });
    wait_until("that is written down", || host.outcomes("trading.halted") == ["ok"]);
    assert_eq!(host.outcomes("trading.halt"), ["intent", "TRADING_NOT_HALTED"]);
    assert_eq!(host.outcomes("trading.cancel")[0], "intent");
}

#[test]
fn a_venue_that_fails_hangs_or_talks_nonsense_stops_no_other_and_is_not_called_flat() {
    for kind in ["fail", "hang", "junk"] {
        let mut host = host("6s", "");
        host.agent.start();
        host.venue.faults(json!([{ "venue": "beta", "call": "*", "kind": kind }]));
        let watch = Watch::start();
        let said = host.close().exits(5);
        assert!(watch.elapsed() < Duration::from_secs(10), "{kind}: {:?}", watch.elapsed());
        said.says(&["FLAT_UNPROVEN", "UNPROVEN"]);
        assert_eq!(host.venue.position("alpha", "BTC-PERP"), "0", "{kind}");
        let told = host.agent.ctl(&["alerts", "list"]).text();
        assert!(told.contains("FLAT_UNPROVEN: positions may be open"), "{told}");
        host.venue.no_faults();
        host.close().ok().says(&["FLAT"]);
        host.assert_closed_once();
    }
}

#[test]
fn an_order_that_could_not_be_sent_is_sent_again_under_its_name() {
    let mut host = host("6s", "");
    host.agent.start();
    host.venue.faults(json!([{ "venue": "beta", "call": "ClosePositions", "kind": "fail" }]));
    host.close().exits(5).says(&["FLAT_UNPROVEN"]);
    let first: BTreeSet<String> = host.sent("beta").into_iter().collect();
    assert_eq!(first.len(), 2, "one for each symbol, however often they were sent");
    host.venue.no_faults();
    host.agent.kill();
    host.agent.start();
    host.close().ok();
    let all: BTreeSet<String> = host.sent("beta").into_iter().collect();
    assert_eq!(all, first);
    host.assert_closed_once();
}

#[test]
fn lost_replies_halves_and_orders_that_rest_sell_nothing_twice() {
    let mut host = host("30s", "");
    host.agent.start();
    host.venue.faults(json!([
        { "venue": "alpha", "call": "ClosePositions", "kind": "lose-reply", "times": 3 },
        { "venue": "alpha", "call": "QueryOrders", "kind": "fail", "times": 1 },
        { "venue": "beta", "call": "ClosePositions", "kind": "half", "times": 2 },
        { "call": "CancelAll", "kind": "reject", "times": 2 },
    ]));
    host.close().ok().says(&["FLAT"]);
    host.assert_closed_once();
    let orders = host.venue.orders("beta");
    assert!(orders.len() > 2, "the rest of each half was another attempt: {orders:?}");
}

#[test]
fn an_order_that_rests_is_waited_for() {
    let mut host = host("8s", "");
    host.agent.start();
    host.venue.faults(json!([
        { "venue": "beta", "call": "ClosePositions", "kind": "rest", "filled": "half", "until": "removed" },
    ]));
    host.close().exits(5).says(&["FLAT_UNPROVEN"]);
    assert_eq!(host.venue.orders("beta").len(), 2, "no second attempt while the first can trade");
    host.venue.no_faults();
    host.close().ok().says(&["FLAT"]);
    host.assert_closed_once();
}

#[test]
fn positions_that_are_there_again_are_noticed_and_told() {
    let mut host = host("30s", "");
    host.agent.start();
    host.close().ok();
    host.venue.faults(json!([
        { "call": "Positions", "kind": "reappear", "venue": "alpha", "symbol": "BTC-PERP", "quantity": "0.5" },
    ]));
    wait_until("it is noticed", || host.phase() == "FLAT_UNPROVEN");
    let status = host.agent.ctl(&["emergency", "status"]).exits(3);
    status.says(&["positions are there again", "0.5 of BTC-PERP at alpha"]);
    wait_until("people are told", || {
        host.agent.ctl(&["alerts", "list"]).text().contains("FLAT_UNPROVEN")
    });
    assert_eq!(host.venue.position("alpha", "BTC-PERP"), "0.5", "nothing is sold by itself");
    host.close().ok().says(&["FLAT"]);
    assert!(host.venue.is_flat());
}

#[test]
fn a_hundred_at_once_are_one_emergency_and_one_halt() {
    let mut host = host("30s", "");
    host.agent.start();
    let epochs: Vec<Value> = std::thread::scope(|scope| {
        let each = |_| {
            scope.spawn(|| {
                let said = host.agent.ctl(&["emergency", "activate", "-o", "json"]).ok();
                said.response()["emergency"]["epoch"].clone()
            })
        };
        let threads: Vec<_> = (0..100).map(each).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0] && epoch != "0"), "{epochs:?}");
    wait_until("it is halted", || host.venue.book()["halted"] == true);
    wait_until("the agent has written it down", || host.entries("trading.halted") == 1);
    assert_eq!(host.entries("emergency.activated"), 1);
    assert_eq!(host.entries("trading.halt"), 2, "asked for, and done");
    let halts = host.venue.calls("Halt");
    assert!(
        halts.iter().all(|call| call["epoch"].as_u64() == epochs[0].as_str().unwrap().parse().ok()),
        "{halts:?}"
    );
}

/// Those at which nobody has asked to close yet.
const BEFORE: [&str; 3] = ["emergency.halting", "emergency.halted", "emergency.cancelling"];
/// Each point at which the agent is cut off while it is asked to close, and after.
const POINTS: [&str; 8] = [
    "emergency.close-filed",
    "emergency.halting",
    "emergency.halted",
    "emergency.closing",
    "emergency.sent",
    "emergency.phase",
    "emergency.flat",
    "emergency.cancelling",
];

#[test]
fn killed_at_any_step_it_is_halted_and_goes_on() {
    for point in POINTS {
        let mut host = host("30s", "");
        host.agent.start_with_failpoint(point, 1);
        host.agent.wait_ready();
        let closing = !BEFORE.contains(&point);
        // Whether it was answered before the end is all the same.
        let asked: &[&str] = match closing {
            false => &["emergency", "activate", "--timeout", "5s"],
            true => &["emergency", "close-positions", "--yes", "--no-wait", "--timeout", "5s"],
        };
        let _ = host.agent.ctl(asked);
        host.agent.wait_killed();
        host.agent.start();
        host.agent.ctl(&["status"]).exits(3).says(&[" is in force"]);
        if !closing {
            wait_until("what it had begun goes on", || {
                host.course()["venues"][0]["state"] == "VENUE_STATE_CANCELLED"
            });
            assert_eq!(host.venue.position("alpha", "BTC-PERP"), "3", "nobody has asked to close");
            assert_eq!(host.venue.book()["halted"], true, "{point}");
            continue;
        }
        wait_until(&format!("{point}: it goes on by itself"), || host.phase() == "FLAT");
        host.assert_closed_once();
        assert_eq!(host.venue.book()["epoch"].to_string(), number(&host.agent), "{point}");
        assert_eq!(host.venue.book()["halted"], true, "{point}");
    }
}

#[test]
fn on_a_full_disk_positions_are_closed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    let mut agent = TestAgent::with_small_disk(8, |_| config(&venue, "30s", ""));
    agent.start();
    agent.ctl(&["schedule", "run", "storage.compact"]).ok();
    let ballast = Ballast::fill(agent.disk().join("ballast"));
    let no_room = || agent.ctl(&["oplog", "note", "is there room?"]).code == 7;
    wait_until("the disk is full, and stays so", || (0..20).all(|_| no_room()));
    let host = Host { agent, venue, _folder: folder };
    host.close().ok().says(&["FLAT"]);
    host.assert_closed_once();
    ballast.release();
    wait_until("it is written down", || {
        let course = host.course();
        course["phase"] == "COURSE_PHASE_FLAT" && course["notDurable"] == ""
    });
    host.agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn on_a_disk_that_stands_still_positions_are_closed_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    let mut agent = TestAgent::new(|_| config(&venue, "30s", ""));
    std::fs::create_dir_all(agent.state()).unwrap();
    let disk = LoopDisk::ext4_at(64, &agent.state());
    agent.start();
    let flag = agent.state().join("EMERGENCY");
    let frozen = disk.freeze();
    let asked = ["emergency", "close-positions", "--yes", "--reason", "the book is wrong"];
    agent.ctl(&asked).ok().says(&["FLAT", "NOT DURABLE"]);
    assert!(venue.is_flat(), "{}", venue.book());
    assert!(!flag.exists());
    agent.ctl(&["emergency", "activate"]).exits(7).says(&["EMERGENCY_NOT_DURABLE", "in force"]);
    agent.ctl(&["status"]).exits(3).says(&["EMERGENCY"]);
    drop(frozen);
    let mut host = Host { agent, venue, _folder: folder };
    wait_until("it is written down", || flag.exists() && host.course()["notDurable"] == "");
    host.agent.kill();
    host.agent.start();
    host.agent.ctl(&["emergency", "status"]).exits(3).says(&["FLAT: ", "the book is wrong"]);
    host.assert_closed_once();
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    drop(host);
    drop(disk);
}

/// A wall clock that was ten years ahead, and is set right in the middle.
#[test]
fn a_clock_that_is_set_right_keeps_numbers_growing_and_everything_going() {
    let mut host = host("30s", "lease = \"3s\"\n");
    let clock = WallClock::of(&mut host.agent);
    clock.ahead(SignedDuration::from_hours(87_660));
    host.agent.start();
    host.venue.faults(json!([{ "venue": "beta", "call": "*", "kind": "hang" }]));
    host.agent.ctl(&["emergency", "close-positions", "--yes", "--no-wait"]).ok();
    let first = number(&host.agent);
    assert!(first.starts_with("2036"), "{first}");
    clock.ahead(SignedDuration::ZERO);
    host.venue.no_faults();
    wait_until("it ends", || host.phase() == "FLAT");
    host.assert_closed_once();
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    wait_until("trading goes on", || goes_on(&host.venue));
    host.agent.ctl(&["emergency", "renew-lease"]).ok();
    // It is measured by a clock that nobody sets.
    clock.ahead(SignedDuration::from_hours(1));
    host.agent.ctl(&["emergency", "renew-lease"]).ok();
    clock.ahead(SignedDuration::ZERO);
    wait_until("silence halts it", || host.venue.book()["halted"] == true);
    let second = number(&host.agent);
    assert_eq!(second.parse::<u64>().unwrap(), first.parse::<u64>().unwrap() + 1);
}

#[test]
fn what_can_not_be_written_down_is_said_and_closed_once_over_a_crash() {
    let mut host = host("30s", "");
    let fault = host.agent.folder().join("no-record");
    std::fs::write(&fault, "").unwrap();
    host.agent.environment("GENESIS_FAULT", &format!("emergency.course:{}", fault.display()));
    host.agent.start();
    // What rests is closed by half when the agent is cut off, and nothing of it is on the disk but the flags.
    host.venue.faults(json!([
        { "venue": "beta", "call": "ClosePositions", "kind": "half", "times": 1 },
        { "venue": "alpha", "call": "ClosePositions", "kind": "rest", "filled": "half", "until": "removed" },
    ]));
    host.agent.ctl(&["emergency", "close-positions", "--yes", "--no-wait"]).ok();
    wait_until("orders were sent", || {
        !host.sent("alpha").is_empty() && !host.sent("beta").is_empty()
    });
    host.agent.ctl(&["emergency", "status"]).exits(3).says(&["NOT DURABLE"]);
    host.agent.kill();
    host.venue.no_faults();
    host.agent.start();
    wait_until("it goes on by itself", || host.phase() == "FLAT");
    host.assert_closed_once();
    std::fs::remove_file(&fault).unwrap();
    wait_until("it is written down", || host.course()["notDurable"] == "");
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    wait_until("its flag is gone", || !host.agent.state().join("EMERGENCY-CLOSE").exists());
}

#[test]
fn a_trading_system_that_falls_silent_is_halted_and_nothing_is_closed() {
    let mut host = host("30s", "lease = \"2s\"\n");
    host.agent.start();
    let client = || {
        let node = host.agent.node().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let options = genesis_client::Options::default();
            let client = genesis_client::Client::connect(&node, options).await.unwrap();
            let request = genesis_client::v1::RenewTradingLeaseRequest::default();
            client
                .call(request, |c, r| async move { c.recovery().renew_trading_lease(r).await })
                .await
                .unwrap()
        })
    };
    // Nobody has called yet: silence means nothing.
    let watch = Watch::start();
    wait_until("a while has passed", || watch.elapsed() > Duration::from_secs(3));
    host.agent.ctl(&["emergency", "status"]).ok().says(&["nobody renews"]);
    let answer = client();
    assert_eq!((answer.lasts_seconds, answer.emergency), (2.0, false));
    let renewed = Watch::start();
    while renewed.elapsed() < Duration::from_secs(4) {
        assert!(!client().emergency, "it is renewed");
        let pause = Watch::start();
        wait_until("a moment has passed", || pause.elapsed() > Duration::from_millis(500));
    }
    wait_until("it is halted", || host.venue.book()["halted"] == true);
    wait_until("the agent has heard of it", || {
        host.agent.ctl(&["emergency", "status"]).text().contains("trading is halted since")
    });
    let status = host.agent.ctl(&["emergency", "status"]).exits(3);
    status.says(&["by system:lease", "was silent for"]);
    assert_eq!(host.venue.position("alpha", "BTC-PERP"), "3", "nothing is closed");
    assert!(client().emergency, "it hears of it when it is back");
    // By the command, as by the rpc: its silence counts again, over the release and over a restart.
    let first = number(&host.agent);
    host.agent.ctl(&["emergency", "renew-lease"]).exits(3).says(&["no order may leave"]);
    host.agent.ctl(&["emergency", "release", "--reason", "it is back"]).ok();
    host.agent.ctl(&["emergency", "renew-lease"]).ok().says(&["within 2 s"]);
    host.agent.kill();
    host.agent.start();
    wait_until("the next silence halts it too", || {
        host.agent.ctl(&["emergency", "status"]).code == 3 && number(&host.agent) > first
    });
}

#[test]
fn a_release_that_needs_two_people_gets_two_and_for_one_plan() {
    let folder = tempfile::tempdir().unwrap();
    let mut venue = PaperVenue::start(folder.path(), book());
    let authority = Authority::new("prod");
    let secured = authority.config("prod");
    let mut agent = TestAgent::new(|_| {
        format!("{secured}{}[recovery]\nrelease_approvals = \"2\"\n", config(&venue, "30s", ""))
    });
    agent.start();
    let ivan = Laptop::new(&authority, Role::Admin, &[agent.grpc().to_string()]);
    agent.ctl(&["emergency", "halt", "--reason", "prices are wrong"]).ok();
    wait_until("orders are cancelled", || {
        venue.book()["venues"]["alpha"]["open_orders"].as_array().is_some_and(|out| out.len() == 1)
    });
    let hash = |agent: &TestAgent| {
        let plan = agent.ctl(&["emergency", "release", "--plan", "-o", "json"]).ok().response();
        plan["plan"]["hash"].as_str().unwrap().to_owned()
    };
    let seen = || {
        agent.ctl(&["emergency", "status", "-o", "json"]).json()[0]["response"]["course"]["venues"]
            [1]["asOf"]
            .clone()
    };
    wait_until("the venues were seen", || seen().is_string());
    let release = ["emergency", "release", "--reason", "over"];
    agent.ctl(&release).exits(4).says(&["APPROVAL_MISSING", "needs 2 identities"]);
    let plan = hash(&agent);
    let approve = ["emergency", "approve", "--reason", "over", "--plan-hash", &plan];
    agent.ctl(&approve).ok().says(&["approved by unix:uid=0"]);
    agent.ctl(&approve).exits(9).says(&["ALREADY_APPROVED"]);
    agent.ctl(&release).exits(4).says(&["APPROVAL_MISSING"]);
    // What was agreed to is not what would be done now: a position has become another.
    venue.change_book(|book| book["venues"]["beta"]["positions"]["SOL-PERP"] = json!("7"));
    wait_until("it is seen", || hash(&agent) != plan);
    ivan.ctl(&release).exits(4).says(&["APPROVAL_MISSING", "it is", "now"]);
    ivan.ctl(&["emergency", "release", "--reason", "over", "--plan-hash", &plan]).exits(9);
    // The approval of the new plan outlives a crash.
    agent.ctl(&["emergency", "approve", "--reason", "seven are fine"]).ok();
    agent.kill();
    agent.start();
    let ivan = Laptop::new(&authority, Role::Admin, &[agent.grpc().to_string()]);
    wait_until("the venues were seen again", || {
        agent.ctl(&["emergency", "status"]).text().contains("approved by unix:uid=0")
    });
    ivan.ctl(&release).ok().says(&[" is over"]);
    wait_until("trading goes on", || goes_on(&venue));
}

#[test]
fn without_a_trading_system_nothing_is_called_halted() {
    let agent = TestAgent::started(|_| String::new());
    agent.ctl(&["emergency", "close-positions", "--yes"]).exits(4).says(&["TRADING_UNCONFIGURED"]);
    agent.ctl(&["emergency", "status"]).exits(3).says(&[" is in force", "no trading system"]);
    agent.ctl(&["emergency", "halt"]).exits(5).says(&["the agent has halted nothing"]);
    let flag: PathBuf = agent.state().join("EMERGENCY");
    assert!(flag.exists());
}

#[test]
fn a_release_waits_until_closing_has_ended() {
    let mut host = host("6s", "");
    host.agent.start();
    host.venue.faults(json!([{ "venue": "beta", "call": "*", "kind": "hang" }]));
    host.agent.ctl(&["emergency", "close-positions", "--yes", "--no-wait"]).ok();
    let release = ["emergency", "release", "--reason", "over"];
    host.agent.ctl(&release).exits(9).says(&["CLOSING"]);
    wait_until("closing has ended", || host.phase() == "FLAT_UNPROVEN");
    host.agent.ctl(&release).ok();
}

#[test]
fn what_was_to_be_closed_in_an_older_emergency_is_not_closed_in_this_one() {
    let mut host = host("30s", "");
    host.agent.start();
    host.agent.ctl(&["emergency", "halt"]).ok();
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    wait_until("trading goes on", || goes_on(&host.venue));
    let flag = host.agent.state().join("EMERGENCY-CLOSE");
    let older = format!("epoch={}\nby=olga\nreason=then\n", number(&host.agent));
    std::fs::write(&flag, older).unwrap();
    host.agent.ctl(&["emergency", "halt"]).ok();
    host.agent.restart();
    wait_until("orders are cancelled", || {
        host.course()["venues"][0]["state"] == "VENUE_STATE_CANCELLED"
    });
    assert_eq!(host.course()["closingSince"], Value::Null);
    assert_eq!(host.venue.position("alpha", "BTC-PERP"), "3");
    assert!(host.sent("alpha").is_empty());
}

#[test]
fn after_its_state_was_lost_it_halts_a_trading_system_that_knows_earlier_emergencies() {
    let mut host = host("30s", "");
    host.agent.start();
    host.agent.ctl(&["emergency", "halt", "--reason", "prices are wrong"]).ok();
    let before = number(&host.agent);
    host.agent.kill();
    let state = host.agent.state().join("state.redb");
    // In force: it is the same emergency still, by its file.
    std::fs::remove_file(&state).unwrap();
    host.agent.start();
    let status = host.agent.ctl(&["emergency", "status"]).exits(3);
    status.says(&["by unix:uid=", ": prices are wrong"]);
    assert_eq!(number(&host.agent), before);
    host.agent.ctl(&["emergency", "halt"]).ok();
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    wait_until("trading goes on", || goes_on(&host.venue));
    // Over: the next one is a later one, though nothing is known of any before.
    host.agent.kill();
    std::fs::remove_file(&state).unwrap();
    wait_until("the next second", || {
        genesis_tests::clock::now().strftime("%Y%m%d%H%M%S").to_string() > before
    });
    host.agent.start();
    assert_eq!(number(&host.agent), "0");
    host.close().ok().says(&["FLAT"]);
    assert!(number(&host.agent) > before);
    host.assert_closed_once();
}

#[test]
fn a_trading_system_that_knows_a_later_emergency_is_halted_by_a_number_given_by_hand() {
    let mut host = host("30s", "");
    // An agent whose clock was wrong has told it.
    host.venue.change_book(|book| book["epoch"] = json!(20_360_101_000_000_u64));
    host.agent.start();
    let refused = host.agent.ctl(&["emergency", "halt", "--timeout", "5s"]).exits(5);
    refused.says(&["older than 20360101000000"]);
    host.agent.ctl(&["emergency", "status"]).exits(3).says(&["NOT halted"]);
    let release = ["emergency", "release", "--reason", "its number is too small"];
    host.agent.ctl(&release).ok();
    let flag = host.agent.state().join("EMERGENCY");
    std::fs::write(flag, "epoch=20360101000001\n").unwrap();
    wait_until("it is halted", || host.venue.book()["halted"] == true);
    assert_eq!(number(&host.agent), "20360101000001");
    host.agent.ctl(&["emergency", "halt"]).ok();
    // The next one goes on from there.
    host.agent.ctl(&release).ok();
    wait_until("trading goes on", || goes_on(&host.venue));
    host.close().ok().says(&["FLAT"]);
    assert_eq!(number(&host.agent), "20360101000002");
}

#[test]
fn a_venue_that_refuses_is_asked_later_and_later() {
    let mut host = host("7s", "");
    host.agent.start();
    host.venue.faults(json!([{ "venue": "beta", "call": "ClosePositions", "kind": "reject" }]));
    host.close().exits(5).says(&["REJECTED"]);
    let tried = host.venue.orders("beta").values().filter(|it| it["symbol"] == "ETH-PERP").count();
    assert!((2..=6).contains(&tried), "{tried} orders in seven seconds");
    host.venue.no_faults();
    host.close().ok().says(&["FLAT"]);
    host.assert_closed_once();
}

#[test]
fn orders_that_can_not_be_cancelled_hold_no_closing_up_and_no_venue_counts_as_flat() {
    let mut host = host("8s", "");
    host.agent.start();
    host.venue.faults(json!([
        { "venue": "alpha", "call": "CancelAll", "kind": "hang" },
        { "venue": "beta", "call": "CancelAll", "kind": "fail" },
    ]));
    host.close().exits(5).says(&["FLAT_UNPROVEN", "cancelled"]);
    assert_eq!(host.venue.position("alpha", "BTC-PERP"), "0");
    assert_eq!(host.venue.position("beta", "ETH-PERP"), "0");
    for venue in host.course()["venues"].as_array().unwrap() {
        // Also the one where none was out: that is not what it has said.
        assert_eq!(venue["state"], "VENUE_STATE_UNPROVEN", "{venue}");
    }
    host.venue.no_faults();
    host.close().ok().says(&["FLAT"]);
    host.assert_closed_once();
}

#[test]
fn who_can_not_say_which_venues_there_are_keeps_no_order_from_being_cancelled() {
    let mut host = host("30s", "");
    host.agent.start();
    host.venue.faults(json!([{ "call": "Positions", "kind": "hang" }]));
    host.agent.ctl(&["emergency", "activate"]).ok();
    let out = || host.venue.book()["venues"]["alpha"]["open_orders"].as_array().map(Vec::len);
    wait_until("the venues of the configuration are cancelled", || out() == Some(1));
    assert_ne!(host.phase(), "FLAT");
}

#[test]
fn nothing_is_flat_while_trading_is_not_known_to_be_halted() {
    let folder = tempfile::tempdir().unwrap();
    let empty = json!({ "venues": { "alpha": {}, "beta": {} } });
    let venue = PaperVenue::start(folder.path(), empty);
    let agent = TestAgent::new(|_| config(&venue, "6s", ""));
    let mut host = Host { agent, venue, _folder: folder };
    host.agent.start();
    host.venue.faults(json!([{ "call": "Halt", "kind": "fail" }]));
    host.close().exits(5).says(&["NOT halted", "FLAT_UNPROVEN"]);
    host.agent.ctl(&["status"]).exits(3).says(&["TRADING_NOT_HALTED", "FLAT_UNPROVEN"]);
    assert_eq!(host.outcomes("trading.close"), ["intent"]);
    assert_eq!(host.outcomes("trading.flat-unproven"), ["FLAT_UNPROVEN"]);
    host.venue.no_faults();
    wait_until("it is halted", || host.venue.book()["halted"] == true);
    host.close().ok().says(&["FLAT"]);
    // It was halted once, and does not say so any more.
    host.venue.faults(json!([{ "call": "Halt", "kind": "junk" }]));
    wait_until("that is noticed", || host.course()["haltTrouble"] != "");
    host.close().exits(5).says(&["whether it still is can't be told"]);
}

#[test]
fn venues_that_can_not_be_looked_at_after_they_were_flat_are_told() {
    let mut host = host("30s", "");
    host.agent.start();
    host.close().ok();
    host.venue.faults(json!([{ "venue": "beta", "call": "Positions", "kind": "fail" }]));
    let told =
        || host.agent.ctl(&["alerts", "list"]).text().contains("the venues can't be looked at");
    wait_until("people are told", told);
    host.venue.no_faults();
    wait_until("it is over", || !told());
    assert_eq!(host.phase(), "FLAT");
}

#[test]
fn a_trading_system_that_does_not_go_on_is_told_again_and_people_hear_of_it() {
    let mut host = host("30s", "");
    host.agent.start();
    host.agent.ctl(&["emergency", "halt"]).ok();
    host.venue.faults(json!([{ "call": "Resume", "kind": "fail" }]));
    host.agent.ctl(&["emergency", "release", "--reason", "over"]).ok();
    let status = |agent: &TestAgent| agent.ctl(&["emergency", "status"]).text();
    wait_until("it is said", || status(&host.agent).contains("trading has NOT been told to go on"));
    wait_until("people are told", || {
        host.agent.ctl(&["alerts", "list"]).text().contains("trading has not been told to go on")
    });
    host.agent.ctl(&["status"]).exits(3).says(&["TRADING_NOT_RESUMED"]);
    assert_eq!(host.outcomes("trading.resume"), ["intent", "TRADING_NOT_RESUMED"]);
    assert!(host.outcomes("trading.resumed").is_empty());
    // What is owed outlives the agent.
    host.agent.kill();
    host.venue.no_faults();
    host.agent.start();
    wait_until("trading goes on", || goes_on(&host.venue));
    wait_until("it is known", || status(&host.agent).contains("orders leave again since"));
    // Once is enough.
    host.agent.restart();
    host.agent.ctl(&["emergency", "status"]).ok();
    let status = host.agent.ctl(&["status"]).text();
    assert!(!status.contains("TRADING_NOT_RESUMED"), "{status}");
    let resumed = |book: Value| {
        book["calls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|call| call["call"] == "Resume" && call["fault"].is_null())
            .count()
    };
    assert_eq!(resumed(host.venue.book()), 1);
}

/// What recovery lets go on, with what people do by hand; everything else waits.
const GOES_ON: [&str; 19] = [
    "backup.restore",
    "backup.verify",
    "baselines.recalculate",
    "baselines.upkeep",
    "certificates.check",
    "certificates.renew",
    "config.reload",
    "dependencies.import",
    "dependencies.rollback",
    "experiments.upkeep",
    "health.make-room",
    "logs.archive-retention",
    "logs.cleanup",
    "logs.local-retention",
    "logs.rebuild-catalog",
    "logs.rotate",
    "matrices.upkeep",
    "rollback",
    "state.adopt",
];

#[test]
fn every_kind_waits_but_those_that_are_listed_and_says_so() {
    let agent = TestAgent::started(|log| {
        let file = log.join("journal.db");
        let made =
            std::process::Command::new("sqlite3").arg(&file).arg("CREATE TABLE t (a)").status();
        assert!(made.unwrap().success());
        format!(
            "[[database.instance]]\nname = \"journal\"\nurl = \"sqlite:{}\"\ntrades_probe = \"none\"\n",
            file.display()
        )
    });
    agent.ctl(&["emergency", "activate"]).ok();
    let status = agent.ctl(&["emergency", "status", "-o", "json"]).json();
    let stances = status[0]["response"]["stances"].as_array().unwrap().clone();
    let jobs = agent.ctl(&["schedule", "list", "-o", "json"]).ok().response();
    let jobs: BTreeSet<&str> =
        jobs["jobs"].as_array().unwrap().iter().filter_map(|job| job["name"].as_str()).collect();
    let kinds: BTreeSet<&str> = stances.iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds.len(), stances.len(), "each is listed once");
    let mut waiting = BTreeSet::new();
    for stance in &stances {
        let kind = stance["kind"].as_str().unwrap();
        let goes_on = stance["goesOn"].as_bool().unwrap();
        assert_eq!(goes_on, GOES_ON.contains(&kind), "{kind}");
        if !goes_on {
            waiting.insert(kind);
        }
    }
    assert!(waiting.len() > 15, "{waiting:?}");
    for kind in waiting {
        let action = kind.strip_prefix("health.");
        let refused = match (kind, action) {
            (job, _) if jobs.contains(job) => agent.ctl(&["schedule", "run", job]),
            ("database.optimize", _) => {
                agent.ctl(&["db", "optimize", "--force", "--reason", "a test"])
            }
            // Its project and its experiment are refused where they are tested: o::, a:: of their domains.
            ("dependencies.update" | "experiments.promote" | "recovery.drill", _) => continue,
            (_, Some(action)) => {
                agent.ctl(&["health", "run", action, "--yes", "--reason", "a test"])
            }
            _ => panic!("nobody says how {kind} is begun: add it to this test"),
        };
        // An action that nothing on this host has is not begun either.
        match action.is_some() && refused.code == 1 {
            true => drop(refused.says(&["ACTION_UNKNOWN"])),
            false => drop(refused.exits(4).says(&["EMERGENCY"])),
        }
    }
}
