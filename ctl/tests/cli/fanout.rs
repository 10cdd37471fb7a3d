//! Many nodes: how many are called at once, in which batches, and when no more are called.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Fake, Meeting, Script};
use crate::{Outcome, ctl, folder, well};

/// Agents whose calls meet, in the order in which they are named.
struct Fleet {
    agents: Vec<Fake>,
    meeting: Arc<Meeting>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// `failing`: those, counted from 0, whose configuration can't be reloaded and whose status is not told.
    fn new(nodes: usize, together: usize, failing: &[usize]) -> Self {
        Self::with(nodes, together, |number| Script {
            status: well(),
            failing: if failing.contains(&number) { refusing() } else { HashMap::new() },
            ..Default::default()
        })
    }

    fn with(nodes: usize, together: usize, script: impl Fn(usize) -> Script) -> Self {
        let (folder, meeting) = (folder(), Meeting::of(together));
        let agent = |number: usize| {
            let home = folder.path().join(number.to_string());
            std::fs::create_dir(&home).unwrap();
            let meeting = Some(meeting.clone());
            Fake::start(&home, Script { meeting, ..script(number) })
        };
        Self { agents: (0..nodes).map(agent).collect(), meeting, _folder: folder }
    }

    fn nodes(&self) -> Vec<String> {
        self.agents.iter().map(Fake::node).collect()
    }

    /// Runs a command on all of them. A call that waits for others that never come ends after a while.
    fn ctl(&self, arguments: &[&str]) -> Outcome {
        let nodes = self.nodes().join(",");
        ctl(&[arguments, &["--timeout", "10s", "-n", &nodes]].concat())
    }

    /// Which of them were called.
    fn called(&self) -> Vec<usize> {
        let numbered = self.agents.iter().enumerate();
        numbered.filter(|(_, agent)| !agent.calls().is_empty()).map(|(number, _)| number).collect()
    }
}

/// Neither the status is told nor the configuration reloaded.
fn refusing() -> HashMap<&'static str, Status> {
    let refused = || Status::failed_precondition("not now");
    [("GetStatus", refused()), ("ReloadConfig", refused())].into()
}

/// Each node's reason, empty if it went well, in the order in which the nodes were named.
fn reasons(fleet: &Fleet, outcome: &Outcome) -> Vec<String> {
    let rows = outcome.json();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), fleet.agents.len(), "each node has one row: {}", outcome.out());
    let reason = |node: String| {
        let row = rows.iter().find(|row| row["node"] == node).unwrap();
        match row["error"].is_null() {
            true => String::new(),
            false => format!(
                "{} {}",
                row["error"]["code"].as_str().unwrap(),
                row["error"]["reason"].as_str().unwrap()
            ),
        }
    };
    fleet.nodes().into_iter().map(reason).collect()
}

#[test]
fn no_more_nodes_than_allowed_are_called_at_the_same_time() {
    for (nodes, parallel) in [(6, 1), (6, 2), (6, 3), (4, 4)] {
        let fleet = Fleet::new(nodes, parallel, &[]);
        let outcome = fleet.ctl(&["status", "--max-parallel", &parallel.to_string()]);
        assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
        assert_eq!(fleet.meeting.met().most, parallel, "{nodes} nodes");
        assert_eq!(fleet.called().len(), nodes);
    }
    // Without a limit of one's own, all of these meet.
    let fleet = Fleet::new(8, 8, &[]);
    assert_eq!(fleet.ctl(&["status"]).exit, Exit::Ok);
    assert_eq!(fleet.meeting.met().most, 8);
}

#[test]
fn a_batch_is_called_when_the_one_before_has_ended() {
    let fleet = Fleet::new(5, 1, &[]);
    let outcome = fleet.ctl(&["status", "--batch", "2"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    let events = fleet.meeting.met().events;
    let mut there: usize = 0;
    let mut batches = Vec::new();
    for event in &events {
        match event.as_str() {
            "left" => there -= 1,
            _ if there == 0 => {
                batches.push(1);
                there += 1;
            }
            _ => {
                *batches.last_mut().unwrap() += 1;
                there += 1;
            }
        }
    }
    assert!(batches.iter().all(|called| *called <= 2), "{events:?}");
    assert_eq!(batches.iter().sum::<usize>(), 5, "{events:?}");

    // Those of one batch are called together: here none is answered before both have come.
    let fleet = Fleet::new(4, 2, &[]);
    assert_eq!(fleet.ctl(&["status", "--batch", "2"]).exit, Exit::Ok);
    let events = fleet.meeting.met().events;
    let batch = ["GetStatus", "GetStatus", "left", "left"];
    assert_eq!(events, [batch, batch].concat());
}

#[test]
fn the_smaller_of_batch_and_parallel_decides_how_many_are_called_at_once() {
    // Batches of 4, of which 2 at a time.
    let fleet = Fleet::new(8, 2, &[]);
    let outcome = fleet.ctl(&["status", "--batch", "4", "--max-parallel", "2"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(fleet.meeting.met().most, 2);
    let fleet = Fleet::new(4, 2, &[]);
    let outcome = fleet.ctl(&["status", "--batch", "2", "--max-parallel", "4"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(fleet.meeting.met().most, 2);
}

#[test]
fn after_so_many_failures_the_rest_is_not_called_and_has_rows_that_say_so() {
    let one_by_one = ["config", "reload", "--yes", "-o", "json", "--max-parallel", "1"];
    let (failed, not_sent) = ("FAILED_PRECONDITION ", "CANCELLED NOT_SENT");
    for (failing, tolerated, expected, exit) in [
        // One went well, so: some failed.
        (&[1][..], "1", ["", failed, not_sent, not_sent], Exit::SomeFailed),
        (&[0, 2], "2", [failed, "", failed, not_sent], Exit::SomeFailed),
        // As many as are tolerated, and none is left.
        (&[1, 3], "2", ["", failed, "", failed], Exit::SomeFailed),
        // Fewer.
        (&[1], "2", ["", failed, "", ""], Exit::SomeFailed),
        // Refused and not sent are different failures.
        (&[0], "1", [failed, not_sent, not_sent, not_sent], Exit::Failed),
        (&[0, 1, 2, 3], "4", [failed; 4], Exit::Refused),
    ] {
        let fleet = Fleet::new(4, 1, failing);
        let outcome = fleet.ctl(&[&one_by_one[..], &["--stop-after-failures", tolerated]].concat());
        assert_eq!(reasons(&fleet, &outcome), expected, "{failing:?} {tolerated}");
        assert_eq!(outcome.exit, exit, "{failing:?} {tolerated}");
        let called = expected.iter().filter(|reason| **reason != not_sent).count();
        assert_eq!(fleet.called(), (0..called).collect::<Vec<_>>(), "{failing:?} {tolerated}");
        assert_eq!(outcome.stderr.contains("error[NOT_SENT]"), called < 4, "{}", outcome.stderr);
    }
}

#[test]
fn those_that_were_not_called_have_a_row_in_every_format() {
    for (format, said) in [
        ("table", "(not sent)"),
        ("json", "\"NOT_SENT\""),
        ("jsonl", "\"NOT_SENT\""),
        ("yaml", "NOT_SENT"),
    ] {
        let fleet = Fleet::new(3, 1, &[0]);
        let stop = ["--max-parallel", "1", "--stop-after-failures", "1"];
        let outcome = fleet.ctl(&[&["status", "-o", format], &stop[..]].concat());
        assert_eq!(outcome.exit, Exit::Failed);
        assert_eq!(outcome.out().matches(said).count(), 2, "{}", outcome.out());
        for node in fleet.nodes() {
            assert!(outcome.out().contains(&node), "{}", outcome.out());
        }
        assert!(
            outcome.stderr.contains("1 node failed, so 2 nodes were not called"),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn calls_that_go_on_when_enough_have_failed_are_waited_for() {
    let reload = ["config", "reload", "--yes", "-o", "json"];
    // The first fails at once, the two beside it take their time.
    let fleet = Fleet::with(4, 1, |number| Script {
        failing: if number == 0 { refusing() } else { HashMap::new() },
        delay: Duration::from_millis(if number == 0 { 0 } else { 500 }),
        ..Default::default()
    });
    let stop = ["--max-parallel", "3", "--stop-after-failures", "1"];
    let outcome = fleet.ctl(&[&reload[..], &stop].concat());
    let found = reasons(&fleet, &outcome);
    assert_eq!(found, ["FAILED_PRECONDITION ", "", "", "CANCELLED NOT_SENT"]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    assert_eq!(fleet.called(), [0, 1, 2]);

    // In batches, the one in which it failed is the last.
    let fleet = Fleet::new(6, 2, &[2]);
    let stop = ["--batch", "2", "--stop-after-failures", "1", "--gate", "0s"];
    let outcome = fleet.ctl(&[&reload[..], &stop].concat());
    let found = reasons(&fleet, &outcome);
    let not_sent = "CANCELLED NOT_SENT";
    assert_eq!(found, ["", "", "FAILED_PRECONDITION ", "", not_sent, not_sent]);
    assert_eq!(fleet.called(), [0, 1, 2, 3]);
}

/// How often each was called to change something.
fn changed(fleet: &Fleet) -> Vec<usize> {
    let calls = |agent: &Fake| agent.calls().iter().filter(|it| *it != "GetStatus").count();
    fleet.agents.iter().map(calls).collect()
}

#[test]
fn a_batch_that_leaves_a_node_ill_is_the_last() {
    use genesis_client::v1::Condition;

    let ill = |condition| Some(crate::of_condition(condition));
    let fleet = |after: fn(usize) -> Option<Condition>| {
        Fleet::with(6, 1, |number| Script {
            status: well(),
            after: after(number).and_then(ill),
            ..Default::default()
        })
    };
    let reload = ["config", "reload", "--yes", "-o", "json", "--batch", "1,34%,100%"];
    let gate = |limit| [&reload[..], &["--gate", "300ms", "--timeout", limit]].concat();
    let run =
        |fleet: &Fleet, limit| ctl(&[&gate(limit)[..], &["-n", &fleet.nodes().join(",")]].concat());

    let all = fleet(|_| None);
    let outcome = run(&all, "10s");
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(changed(&all), [1; 6]);
    let asked = all.agents[5].calls();
    assert_eq!(asked, ["ReloadConfig"], "after the last batch there is nobody to spare");
    let asked = all.agents[0].calls().len();
    assert!(asked >= 4, "before it, at once after it, and as long as it must be well: {asked}");

    for (condition, word) in [(Condition::Critical, "CRITICAL"), (Condition::Unknown, "UNKNOWN")] {
        let one = Fleet::with(6, 1, |number| Script {
            status: well(),
            after: if number == 2 { ill(condition) } else { None },
            ..Default::default()
        });
        let outcome = run(&one, "1s");
        assert_eq!(outcome.exit, Exit::SomeFailed, "{}", outcome.stderr);
        assert_eq!(changed(&one), [1, 1, 1, 0, 0, 0]);
        let not_sent = "CANCELLED NOT_SENT";
        assert_eq!(reasons(&one, &outcome), ["", "", "", not_sent, not_sent, not_sent]);
        let node = one.agents[2].node();
        let why = format!("{node}: logs is {word}: 2 sources");
        assert!(outcome.stderr.contains(&why), "{why}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("3 nodes were not called"), "{}", outcome.stderr);
    }

    // A warning, what was ill before, and a gate that is not wanted.
    let warned = fleet(|_| Some(Condition::Warn));
    assert_eq!(run(&warned, "1s").exit, Exit::Ok);
    let before = Fleet::with(6, 1, |_| Script {
        status: crate::of_condition(Condition::Critical),
        ..Default::default()
    });
    assert_eq!(run(&before, "1s").exit, Exit::Ok);
    let ill = fleet(|_| Some(Condition::Critical));
    let nodes = ill.nodes().join(",");
    let outcome = ctl(&[&reload[..], &["--gate", "0s", "-n", &nodes]].concat());
    assert_eq!((outcome.exit, changed(&ill)), (Exit::Ok, vec![1; 6]));
    // An emergency waits for nobody's health.
    ctl(&["emergency", "activate", "--yes", "--batch", "1", "-n", &nodes]);
    assert_eq!(changed(&ill), [2; 6]);
    assert_eq!(ill.agents[0].calls().len(), 2, "nor is it asked for");
}

#[test]
fn a_node_that_is_not_there_counts_as_failed_and_a_finding_does_not() {
    let fleet = Fleet::new(2, 1, &[]);
    let nodes = format!("/absent.sock,{}", fleet.nodes().join(","));
    let stop = ["--max-parallel", "1", "--stop-after-failures", "1", "-o", "json"];
    let outcome = ctl(&[&["status", "-n", &nodes], &stop[..]].concat());
    assert_eq!(outcome.exit, Exit::Failed, "unreachable and not sent are different");
    assert!(fleet.called().is_empty());

    let (first, second) = (folder(), folder());
    let ill = || Script {
        status: crate::of_condition(genesis_client::v1::Condition::Critical),
        ..Default::default()
    };
    let (one, two) = (Fake::start(first.path(), ill()), Fake::start(second.path(), ill()));
    let nodes = format!("{},{}", one.node(), two.node());
    let outcome = ctl(&[&["status", "-n", &nodes], &stop[..]].concat());
    assert_eq!(outcome.exit, Exit::Findings);
    assert_eq!(two.calls(), ["GetStatus"], "what is ill was asked all the same");
}

#[test]
fn numbers_that_mean_nothing_are_wrong_usage() {
    let fleet = Fleet::new(1, 1, &[]);
    for (flag, number) in [
        ("--max-parallel", "0"),
        ("--max-parallel", "-1"),
        ("--max-parallel", "4097"),
        ("--max-parallel", "many"),
        ("--batch", "0"),
        ("--batch", "1.5"),
        ("--batch", "1,101%"),
        ("--gate", "soon"),
        ("--batch", ""),
        ("--stop-after-failures", "0"),
        ("--stop-after-failures", "99999999999"),
    ] {
        let outcome = fleet.ctl(&["status", &format!("{flag}={number}")]);
        assert_eq!(outcome.exit, Exit::Usage, "{flag} {number}");
        assert!(outcome.stderr.contains(flag), "{}", outcome.stderr);
    }
    assert!(fleet.called().is_empty());
}
