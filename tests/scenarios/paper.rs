//! The paper venue: the independent witness of what an emergency does to positions, so it is shown here that it can be
//! believed, through the contract alone.

use std::path::Path;
use std::time::Duration;

use genesis_proto::trading::trading_control_client::TradingControlClient;
use genesis_proto::trading::{
    CancelAllRequest, ClosePositionsRequest, ClosingOrder, CriticalTradesRequest, HaltRequest,
    OrderState, OrderStatus, PositionsRequest, PositionsResponse, QueryOrdersRequest,
    ResumeRequest,
};
use genesis_tests::binaries;
use genesis_tests::clock::Watch;
use genesis_tests::paper::PaperVenue;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Longer than any call takes that nothing holds.
const LONG: Duration = Duration::from_secs(20);
/// So long nobody answers who never does.
const SHORT: Duration = Duration::from_secs(1);

/// Two venues, one of them with depth, and orders of all sorts.
fn book() -> Value {
    json!({
        "venues": {
            "alpha": {
                "positions": { "BTC": "3", "ETH": "-2.50" },
                "open_orders": [
                    { "symbol": "BTC", "client_order_id": "grid", "quantity": "1", "filled": "0.25" },
                    { "symbol": "BTC", "client_order_id": "stop", "quantity": "-3", "protective": true },
                ],
                "books": { "BTC": { "bids": [["101", "1"], ["100", "0.75"]] } },
            },
            "beta": { "positions": { "BTC": "-0.1" } },
        },
        "critical": [{ "id": "hedge-7", "venue": "alpha", "symbol": "ETH", "reason": "half done" }],
    })
}

/// The contract, as tests call it.
struct Desk(TradingControlClient<Channel>);

impl Desk {
    fn of(venue: &PaperVenue) -> Self {
        Self(venue.client())
    }

    async fn halt(&self, epoch: u64) -> Result<bool, Status> {
        let request = HaltRequest { epoch, reason: "a test".into() };
        Ok(self.0.clone().halt(request).await?.into_inner().halted)
    }

    async fn resume(&self, epoch: u64) -> Result<bool, Status> {
        let request = ResumeRequest { epoch, reason: "it is over".into() };
        Ok(self.0.clone().resume(request).await?.into_inner().trading)
    }

    async fn cancel(&self, venue: &str, protective_too: bool) -> Result<(u64, u64), Status> {
        let request = CancelAllRequest { epoch: 1, venue: venue.into(), protective_too };
        let answer = self.0.clone().cancel_all(request).await?.into_inner();
        Ok((answer.cancelled, answer.left))
    }

    async fn close(
        &self,
        venue: &str,
        orders: &[(&str, &str, &str)],
    ) -> Result<Vec<OrderStatus>, Status> {
        let order = |(symbol, id, quantity): &(&str, &str, &str)| ClosingOrder {
            symbol: (*symbol).into(),
            client_order_id: (*id).into(),
            quantity: (*quantity).into(),
        };
        let orders = orders.iter().map(order).collect();
        let request = ClosePositionsRequest { epoch: 1, venue: venue.into(), orders };
        Ok(self.0.clone().close_positions(request).await?.into_inner().orders)
    }

    async fn query(&self, venue: &str, ids: &[&str]) -> Result<Vec<OrderStatus>, Status> {
        let client_order_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let request = QueryOrdersRequest { venue: venue.into(), client_order_ids };
        Ok(self.0.clone().query_orders(request).await?.into_inner().orders)
    }

    async fn positions(&self, venue: &str) -> Result<PositionsResponse, Status> {
        let request = PositionsRequest { venue: venue.into() };
        Ok(self.0.clone().positions(request).await?.into_inner())
    }
}

/// "state filled" of each.
fn said(orders: &[OrderStatus]) -> Vec<String> {
    orders.iter().map(|order| format!("{:?} {}", order.state(), order.filled)).collect()
}

/// "venue symbol quantity" of each.
fn held(answer: &PositionsResponse) -> Vec<String> {
    let held = answer.positions.iter();
    held.map(|held| format!("{} {} {}", held.venue, held.symbol, held.quantity)).collect()
}

fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

/// A venue that is halted for the first emergency.
async fn halted(folder: &Path) -> (PaperVenue, Desk) {
    let venue = PaperVenue::start(folder, book());
    let desk = Desk::of(&venue);
    assert!(desk.halt(1).await.unwrap());
    (venue, desk)
}

#[tokio::test]
async fn orders_take_what_the_depth_has_and_the_rest_needs_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    let became = desk.close("alpha", &[("BTC", "a1", "-3"), ("ETH", "a2", "2.5")]).await.unwrap();
    assert_eq!(said(&became), ["Cancelled -1.75", "Filled 2.5"]);
    assert!(became[0].why.contains("-1.75 of -3"), "{became:?}");
    // The answer is on disk before it is given.
    assert_eq!(venue.position("alpha", "BTC"), "1.25");
    assert_eq!(venue.position("alpha", "ETH"), "0");
    assert_eq!(held(&desk.positions("alpha").await.unwrap()), ["alpha BTC 1.25"]);
    let rest = desk.close("alpha", &[("BTC", "a3", "-1.25")]).await.unwrap();
    assert_eq!(said(&rest), ["Filled -1.25"]);
    assert_eq!(venue.trades("alpha", "BTC"), ["-1", "-0.75", "-1", "-0.25"]);
    assert!(!venue.is_flat(), "beta has a position");
    desk.close("beta", &[("BTC", "b1", "0.1")]).await.unwrap();
    assert!(venue.is_flat());
    let all = desk.positions("").await.unwrap();
    assert_eq!((held(&all).len(), all.venues), (0, vec!["alpha".to_owned(), "beta".to_owned()]));
}

#[tokio::test]
async fn orders_that_would_do_more_than_reduce_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    for (index, (symbol, quantity, why)) in [
        ("BTC", "3", "would add to the position of 3"),
        ("BTC", "-3.0000000001", "more than the position of 3"),
        ("ETH", "-1", "would add to the position of -2.5"),
        ("SOL", "-1", "no position in SOL"),
        ("BTC", "0", "its quantity is nothing"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("x{index}");
        let became = desk.close("alpha", &[(symbol, &id, quantity)]).await.unwrap();
        assert_eq!(said(&became), ["Rejected 0"]);
        assert!(became[0].why.contains(why), "{became:?}");
        assert_eq!(venue.order("alpha", &id)["state"], "rejected");
    }
    for (venue, orders) in [
        ("alpha", [("BTC", "a", "1e3")]),
        ("alpha", [("BTC", "", "-1")]),
        ("", [("BTC", "a", "-1")]),
    ] {
        assert_eq!(code(desk.close(venue, &orders).await), Code::InvalidArgument, "{orders:?}");
    }
    let ids: Vec<String> = (0..=1_000).map(|n| format!("m{n}")).collect();
    let many: Vec<_> = ids.iter().map(|id| ("BTC", id.as_str(), "-0.001")).collect();
    assert_eq!(code(desk.close("alpha", &many).await), Code::InvalidArgument);
    assert_eq!(code(desk.close("gamma", &[("BTC", "a", "-1")]).await), Code::NotFound);
    assert_eq!(venue.trades("alpha", "BTC").len(), 0, "nothing was traded by any of them");
    assert_eq!(desk.close("alpha", &many[..1_000]).await.unwrap().len(), 1_000);
}

#[tokio::test]
async fn an_id_trades_once_whoever_sends_it_again_and_however_the_venue_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (mut venue, desk) = halted(folder.path()).await;
    let order = [("ETH", "e1", "1")];
    let first = desk.close("alpha", &order).await.unwrap();
    assert_eq!(desk.close("alpha", &order).await.unwrap(), first);
    venue.kill();
    venue.start_again();
    let desk = Desk(venue.client());
    assert_eq!(desk.close("alpha", &order).await.unwrap(), first);
    let twice = [("ETH", "e2", "1"), ("ETH", "e2", "1")];
    assert_eq!(said(&desk.close("alpha", &twice).await.unwrap()), ["Filled 1", "Filled 1"]);
    assert_eq!(venue.position("alpha", "ETH"), "-0.5");
    let asked = desk.query("alpha", &["e2", "never", "e2", "grid"]).await.unwrap();
    assert_eq!(said(&asked), ["Filled 1", "Unknown 0", "Filled 1", "Open 0.25"]);
}

/// Killed before the change is on disk, nothing was done; killed after it, all of it was. In both cases whoever asks
/// again gets it done once.
#[tokio::test]
async fn killed_between_deciding_and_answering_it_has_done_it_once_or_not_at_all() {
    for (point, left, state) in
        [("paper.decided", "3", "Unknown 0"), ("paper.kept", "2", "Filled -1")]
    {
        let folder = tempfile::tempdir().unwrap();
        let (mut venue, _) = halted(folder.path()).await;
        venue.kill();
        venue.start_with_failpoint(point, 1);
        let desk = Desk::of(&venue);
        let order = [("BTC", "k1", "-1")];
        assert!(desk.close("alpha", &order).await.is_err(), "{point}: the answer is lost");
        venue.wait_killed();
        assert_eq!(venue.position("alpha", "BTC"), left, "{point}");
        venue.start_again();
        assert_eq!(said(&desk.query("alpha", &["k1"]).await.unwrap()), [state], "{point}");
        assert_eq!(said(&desk.close("alpha", &order).await.unwrap()), ["Filled -1"], "{point}");
        assert_eq!(venue.position("alpha", "BTC"), "2", "{point}");
        assert!(venue.book()["halted"].as_bool().unwrap(), "{point}");
    }
}

#[tokio::test]
async fn emergencies_only_grow_and_only_theirs_closes() {
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), book());
    let desk = Desk::of(&venue);
    let order = [("BTC", "a", "-1")];
    assert_eq!(code(desk.close("alpha", &order).await), Code::FailedPrecondition);
    assert_eq!(code(desk.halt(0).await), Code::InvalidArgument);
    assert!(desk.halt(1).await.unwrap() && desk.halt(1).await.unwrap());
    assert_eq!(said(&desk.close("alpha", &order).await.unwrap()), ["Filled -1"]);
    assert!(desk.halt(2).await.unwrap());
    assert_eq!(code(desk.halt(1).await), Code::FailedPrecondition);
    assert_eq!(code(desk.resume(1).await), Code::FailedPrecondition, "a newer one holds it");
    assert_eq!(code(desk.close("alpha", &[("BTC", "b", "-1")]).await), Code::FailedPrecondition);
    assert_eq!(code(desk.cancel("alpha", false).await), Code::FailedPrecondition);
    assert!(venue.book()["halted"].as_bool().unwrap());
    assert!(desk.resume(2).await.unwrap() && desk.resume(2).await.unwrap());
    let book = venue.book();
    assert_eq!((&book["halted"], &book["resumed_epoch"]), (&json!(false), &json!(2)));
    let outcomes: Vec<Value> =
        venue.calls("Halt").iter().map(|call| call["outcome"].clone()).collect();
    assert_eq!(outcomes, ["invalid", "ok", "ok", "ok", "not now"]);
}

#[tokio::test]
async fn cancelling_spares_what_protects_and_what_closes() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    venue.faults(json!([{ "call": "ClosePositions", "kind": "rest", "until": "removed" }]));
    desk.close("alpha", &[("ETH", "closes", "1")]).await.unwrap();
    assert_eq!(desk.cancel("alpha", false).await.unwrap(), (1, 0));
    let ids = |answer: PositionsResponse| -> Vec<String> {
        answer.orders.into_iter().map(|order| order.client_order_id).collect()
    };
    assert_eq!(ids(desk.positions("alpha").await.unwrap()), ["stop", "closes"]);
    assert_eq!(said(&desk.query("alpha", &["grid"]).await.unwrap()), ["Cancelled 0.25"]);
    assert_eq!(desk.cancel("alpha", true).await.unwrap(), (1, 0));
    assert_eq!(ids(desk.positions("alpha").await.unwrap()), ["closes"]);
    let trades = desk.0.clone().critical_trades(CriticalTradesRequest {}).await.unwrap();
    let trades = trades.into_inner();
    assert_eq!((trades.count, trades.trades[0].id.as_str()), (1, "hedge-7"));
}

#[tokio::test]
async fn failing_hanging_and_losing_the_answer_are_three_things() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    let fault = |kind: &str| json!([{ "call": "ClosePositions", "kind": kind, "times": 1 }]);
    let close = async |id: &str| desk.close("alpha", &[("ETH", id, "0.5")]).await;

    venue.faults(fault("fail"));
    assert_eq!(code(close("f").await), Code::Unavailable);
    assert!(venue.order("alpha", "f").is_null(), "nothing was done");

    venue.faults(fault("hang"));
    assert!(tokio::time::timeout(SHORT, close("h")).await.is_err(), "nobody answers");
    assert!(venue.order("alpha", "h").is_null(), "nothing was done");

    venue.faults(fault("lose-reply"));
    assert_eq!(code(close("l").await), Code::Unavailable);
    assert_eq!(venue.order("alpha", "l")["state"], "filled", "it was done all the same");

    // Each counted once.
    for (id, filled) in [("f", "0.5"), ("h", "0.5"), ("l", "0.5")] {
        assert_eq!(said(&close(id).await.unwrap()), [format!("Filled {filled}")]);
    }
    assert_eq!(venue.position("alpha", "ETH"), "-1");
    let calls = venue.calls("ClosePositions");
    let faults: Vec<&Value> = calls.iter().map(|call| &call["fault"]).collect();
    assert_eq!(faults[..3], ["fail", "hang", "lose-reply"]);
    assert_eq!(calls[1]["ids"], json!(["h"]));
    assert_eq!(calls[1]["outcome"], "no answer");
}

#[tokio::test]
async fn what_makes_no_sense_was_done_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    venue.faults(json!([{ "call": "*", "kind": "junk" }]));
    let became = desk.close("alpha", &[("ETH", "j1", "1"), ("ETH", "j2", "1")]).await.unwrap();
    assert_eq!(became[0].state, i32::from(OrderState::Unspecified));
    assert!(became.iter().all(|order| order.client_order_id != "j2"), "{became:?}");
    assert!(became.iter().any(|order| order.client_order_id == "nobody-asked-for-this"));
    assert_eq!(venue.position("alpha", "ETH"), "-0.5");
    let all = desk.positions("").await.unwrap();
    assert!(all.venues.is_empty());
    assert!(all.positions.iter().any(|held| held.quantity == "NaN"), "{all:?}");
    assert!(!desk.halt(1).await.unwrap(), "it says that it is not halted");
    assert!(venue.book()["halted"].as_bool().unwrap(), "and it is");
    assert_eq!(desk.cancel("beta", true).await.unwrap(), (u64::MAX, u64::MAX));
    let asked = desk.query("alpha", &["j1"]).await.unwrap();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].client_order_id, "nobody-asked-for-this");
    assert!(!desk.resume(1).await.unwrap());
}

#[tokio::test]
async fn orders_that_are_not_taken_are_filled_by_half_or_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    let once = |kind: &str| json!([{ "call": "ClosePositions", "kind": kind, "times": 1 }]);
    let close = async |id: &str, quantity: &str| {
        said(&desk.close("alpha", &[("ETH", id, quantity)]).await.unwrap()).remove(0)
    };
    let ask = async |id: &str| said(&desk.query("alpha", &[id]).await.unwrap()).remove(0);
    venue.faults(once("reject"));
    assert_eq!(close("r", "2.5").await, "Rejected 0");
    venue.faults(once("half"));
    assert_eq!(close("h", "1").await, "Cancelled 0.5");
    assert_eq!(venue.position("alpha", "ETH"), "-2");

    // One that rests until it is asked for.
    venue.faults(once("rest"));
    assert_eq!(close("q", "1").await, "Open 0");
    let open = desk.positions("alpha").await.unwrap().orders;
    assert!(open.iter().any(|order| order.client_order_id == "q"), "{open:?}");
    assert_eq!(venue.position("alpha", "ETH"), "-2");
    assert_eq!(ask("q").await, "Filled 1");

    // One that rests until the fault is gone, with half of it filled.
    let rests =
        json!([{ "call": "ClosePositions", "kind": "rest", "until": "removed", "filled": "half" }]);
    venue.faults(rests);
    assert_eq!(close("s", "1").await, "Open 0.5");
    assert_eq!(ask("s").await, "Open 0.5");
    assert_eq!(close("t", "0.6").await, "Rejected 0", "0.5 is held, and all of it is on its way");
    venue.no_faults();
    assert_eq!(ask("s").await, "Filled 1");
    assert_eq!(venue.position("alpha", "ETH"), "0");
}

#[tokio::test]
async fn a_position_comes_back_after_it_was_told_to_be_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    venue.faults(json!([{
        "venue": "beta", "call": "Positions", "kind": "reappear", "symbol": "SOL", "quantity": "5"
    }]));
    assert_eq!(held(&desk.positions("beta").await.unwrap()), ["beta BTC -0.1"]);
    desk.close("beta", &[("BTC", "b", "0.1")]).await.unwrap();
    assert!(desk.positions("beta").await.unwrap().positions.is_empty());
    let again = desk.positions("").await.unwrap();
    assert!(held(&again).contains(&"beta SOL 5".to_owned()), "{again:?}");
    assert_eq!(venue.position("beta", "SOL"), "5");
    desk.close("beta", &[("SOL", "s", "-5")]).await.unwrap();
    for _ in 0..3 {
        assert!(desk.positions("beta").await.unwrap().positions.is_empty(), "once only");
    }
}

#[tokio::test]
async fn a_venue_that_hangs_holds_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    venue.faults(json!([
        { "venue": "alpha", "call": "ClosePositions", "kind": "hang" },
        { "venue": "alpha", "call": "Positions", "kind": "hang" },
        { "venue": "alpha", "call": "CancelAll", "kind": "delay", "delay_ms": 3000 },
    ]));
    let watch = Watch::start();
    let hung = desk.close("alpha", &[("ETH", "a", "1")]);
    let delayed = async {
        let did = desk.cancel("alpha", false).await.unwrap();
        (did, watch.elapsed())
    };
    let others = async {
        desk.close("beta", &[("BTC", "b", "0.1")]).await.unwrap();
        assert_eq!(desk.cancel("beta", false).await.unwrap(), (0, 0));
        // Who asks about all of them hears which one says nothing.
        let all = desk.positions("").await.unwrap();
        assert_eq!(all.unreachable, ["alpha"]);
        assert_eq!((held(&all).len(), all.venues.len()), (0, 2));
        watch.elapsed()
    };
    let together = async { tokio::join!(delayed, others) };
    tokio::select! {
        _ = hung => panic!("a call that hangs has no answer"),
        ((did, late), early) = together => {
            assert_eq!(did, (1, 0));
            assert!(late >= Duration::from_millis(3_000), "{late:?}");
            assert!(early < late, "{early:?}");
        }
        () = tokio::time::sleep(LONG) => panic!("others are held"),
    }
    assert!(venue.order("alpha", "a").is_null());
    // It was hung, and it is not any more.
    venue.no_faults();
    assert_eq!(said(&desk.close("alpha", &[("ETH", "a", "1")]).await.unwrap()), ["Filled 1"]);
}

#[tokio::test]
async fn faults_with_a_mistake_are_told_and_nothing_is_done_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (venue, desk) = halted(folder.path()).await;
    venue.faults(json!([{ "call": "ClosePositions", "kind": "explode" }]));
    for _ in 0..2 {
        let status = desk.close("alpha", &[("ETH", "a", "1")]).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("unknown variant `explode`"), "{status:?}");
    }
    assert!(venue.order("alpha", "a").is_null());
    venue.no_faults();
    desk.close("alpha", &[("ETH", "a", "1")]).await.unwrap();
}

#[tokio::test]
async fn a_book_that_was_changed_by_hand_is_what_it_goes_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (mut venue, _) = halted(folder.path()).await;
    venue.change_book(|book| {
        book["critical"] = json!([]);
        book["venues"]["beta"]["positions"]["SOL"] = json!("4");
    });
    let desk = Desk(venue.client());
    assert_eq!(held(&desk.positions("beta").await.unwrap()), ["beta BTC -0.1", "beta SOL 4"]);
    let trades = desk.0.clone().critical_trades(CriticalTradesRequest {}).await.unwrap();
    assert_eq!(trades.into_inner().count, 0);
    assert!(venue.book()["halted"].as_bool().unwrap(), "it stays halted");
}

#[test]
fn a_bad_start_says_what_is_wrong_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = PaperVenue::command(folder.path());
        change(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.stdout.is_empty(), "it does not listen: {said}");
        (output.status.code(), said)
    };
    let as_it_is: &dyn Fn(&mut std::process::Command) = &|_| {};
    let refused = |change: &dyn Fn(&mut std::process::Command), exit: i32, words: &str| {
        let (code, said) = run(change);
        assert_eq!(code, Some(exit), "{said}");
        assert!(said.contains(words), "{words}: {said}");
    };
    refused(as_it_is, 2, "there is no book in");
    std::fs::write(path("paper-first.json"), r#"{"venues": {"a": {"positions": {"X": 1.5}}}}"#)
        .unwrap();
    refused(as_it_is, 2, "PAPER_BOOK_INVALID");
    std::fs::write(path("paper-first.json"), book().to_string()).unwrap();
    std::fs::write(path("paper-faults.json"), r#"[{"call": "Halt", "kind": "half"}]"#).unwrap();
    refused(as_it_is, 2, "half makes no sense for Halt");
    std::fs::remove_file(path("paper-faults.json")).unwrap();
    for (listen, words) in [("0.0.0.0:0", "not of this host alone"), ("here", "that is no address")]
    {
        let mut command = std::process::Command::new(binaries::agent());
        command.args(["paper-venue", "--listen", listen, "--file"]).arg(path("other.json"));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words) && said.contains("PAPER_LISTEN_INVALID"), "{said}");
    }
    refused(
        &|command| {
            command.arg("--nonsense");
        },
        2,
        "--nonsense",
    );
    let venue = PaperVenue::start(folder.path(), book());
    refused(as_it_is, 9, "PAPER_BUSY");
    drop(venue);
    // Where something else has the socket's name, that stays.
    std::fs::remove_file(path("paper.sock")).unwrap();
    std::fs::write(path("paper.sock"), "mine").unwrap();
    refused(as_it_is, 1, "something else has that name");
    assert_eq!(std::fs::read_to_string(path("paper.sock")).unwrap(), "mine");
}

#[test]
fn its_help_is_what_its_page_says() {
    let output = std::process::Command::new(binaries::agent())
        .args(["paper-venue", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/paper-venue.md")).unwrap();
    for option in ["--listen", "--file", "--book", "--faults"] {
        assert!(help.contains(option) && page.contains(&format!("`{option}")), "{option}: {help}");
    }
    assert!(help.contains("docs/paper-venue.md"), "{help}");
}

/// The page's own book and faults, and what it says of them.
#[tokio::test]
async fn the_tour_of_its_page_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/paper-venue.md")).unwrap();
    let json: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split("```").next().unwrap()).unwrap())
        .collect();
    let [first, faults] = json.as_slice() else { panic!("a book and a list of faults: {json:?}") };
    let folder = tempfile::tempdir().unwrap();
    let venue = PaperVenue::start(folder.path(), first.clone());
    venue.faults(faults.clone());
    let desk = Desk::of(&venue);
    assert_eq!(code(desk.halt(1).await), Code::Unavailable, "the first Halt fails");
    assert!(desk.halt(1).await.unwrap());
    let lost = desk.close("alpha", &[("BTC-PERP", "g-1", "-3")]).await;
    assert_eq!(code(lost), Code::Unavailable);
    let asked = desk.query("alpha", &["g-1"]).await.unwrap();
    assert_eq!(said(&asked), ["Cancelled -1.75"], "that was done, as far as the depth went");
    let rest = desk.close("alpha", &[("BTC-PERP", "g-2", "-1.25")]).await.unwrap();
    assert_eq!(said(&rest), ["Filled -1.25"]);
    let half = desk.close("beta", &[("ETH-PERP", "g-3", "20")]).await.unwrap();
    assert_eq!(said(&half), ["Cancelled 10"]);
    assert_eq!(venue.position("beta", "ETH-PERP"), "-10");
}
