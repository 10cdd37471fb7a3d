//! Without a terminal, and without a reader.

use std::collections::HashMap;
use std::io::{self, Cursor, Write};

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Status;

use crate::fake::{Fake, Script};
use crate::{Broken, ctl_with, folder, well};

const FORMATS: [&str; 4] = ["table", "json", "jsonl", "yaml"];

/// Takes one write, as `head -1` may, and then is gone.
struct Leaving(bool);

impl Write for Leaving {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match std::mem::replace(&mut self.0, true) {
            false => Ok(data.len()),
            true => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn agents(number: usize, script: impl Fn(usize) -> Script) -> (tempfile::TempDir, Vec<Fake>) {
    let folder = folder();
    let agent = |number: usize| {
        let home = folder.path().join(number.to_string());
        std::fs::create_dir(&home).unwrap();
        Fake::start(&home, script(number))
    };
    let agents = (0..number).map(agent).collect();
    (folder, agents)
}

fn nodes(agents: &[Fake]) -> String {
    agents.iter().map(Fake::node).collect::<Vec<_>>().join(",")
}

fn ended() -> Vec<Result<Run, Status>> {
    let state = |state: RunState| Ok(Run { state: state.into(), ..Default::default() });
    vec![state(RunState::Running), state(RunState::Succeeded)]
}

#[test]
fn a_reader_that_leaves_is_no_error_with_several_nodes_either() {
    let entry = OplogEntry { sequence: 1, ..Default::default() };
    let (_folder, agents) = agents(3, |_| Script {
        status: well(),
        entries: vec![entry.clone(); 3],
        watches: vec![ended()],
        ..Default::default()
    });
    let nodes = nodes(&agents);
    for command in [&["status"][..], &["version"], &["oplog", "list"], &["run", "watch", "last"]] {
        for format in FORMATS {
            for after_a_line in [false, true] {
                let arguments = [command, &["-o", format, "-n", &nodes]].concat();
                let outcome = ctl_with(&arguments, |console| match after_a_line {
                    true => console.stdout = Box::new(Leaving(false)),
                    false => console.stdout = Box::new(Broken(io::ErrorKind::BrokenPipe)),
                });
                assert_eq!(outcome.exit, Exit::Ok, "{command:?} {format}");
                assert!(!outcome.stderr.contains("error"), "{command:?}: {}", outcome.stderr);
            }
        }
    }
}

#[test]
fn a_change_goes_on_when_its_reader_has_left() {
    for format in FORMATS {
        let (_folder, agents) =
            agents(3, |_| Script { watches: vec![ended()], ..Default::default() });
        let nodes = nodes(&agents);
        for (sent, command) in [
            (1, &["config", "reload"][..]),
            // A rotation and its run.
            (3, &["logs", "rotate"]),
        ] {
            let one_by_one = ["--yes", "--max-parallel", "1", "-o", format, "-n", &nodes];
            let outcome = ctl_with(&[command, &one_by_one].concat(), |console| {
                console.stdout = Box::new(Broken(io::ErrorKind::BrokenPipe));
            });
            assert_eq!(outcome.exit, Exit::Ok, "{command:?} {format}: {}", outcome.stderr);
            for agent in &agents {
                assert_eq!(agent.calls().len(), sent, "{command:?} {format}: {:?}", agent.calls());
            }
        }
    }
}

#[test]
fn what_failed_unheard_still_decides_the_exit_code() {
    let (_folder, agents) = agents(3, |number| {
        let failure = Status::failed_precondition("not now");
        let failing =
            if number == 1 { HashMap::from([("ReloadConfig", failure)]) } else { HashMap::new() };
        Script { failing, ..Default::default() }
    });
    let nodes = nodes(&agents);
    let outcome = ctl_with(&["config", "reload", "--yes", "-n", &nodes], |console| {
        console.stdout = Box::new(Broken(io::ErrorKind::BrokenPipe));
    });
    assert_eq!(outcome.exit, Exit::SomeFailed);
    assert!(outcome.stderr.contains("not now"), "standard error is still read");
}

#[test]
fn nobody_is_asked_where_nobody_can_answer() {
    let destructive: Vec<_> = genesis_proto::method_policies()
        .into_iter()
        .filter(|(_, policy)| policy.destructive)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(destructive.len(), 10, "a new one belongs into this test: {destructive:?}");
    let (_folder, agents) = agents(1, |_| Script { watches: vec![ended()], ..Default::default() });
    let node = nodes(&agents);
    let cleanup = ["logs", "cleanup", "--older-than", "365d", "-n", &node];
    let early = [&cleanup[..], &["--override-retention", "--reason", "r"]].concat();
    let action = ["health", "run", "make-room", "-n", &node];
    let despite = [&action[..], &["--despite-trades", "--reason", "r"]].concat();
    let kill = ["db", "kill", "4711", "--reason", "r", "-n", &node];
    let mark = ["cert", "mark", "--compromised", "--reason", "r", "-n", &node];
    let update = ["deps", "update", "-n", &node];
    let back = ["deps", "rollback", "-n", &node];
    let close = ["emergency", "close-positions", "-n", &node];
    let accept = ["oplog", "accept-head", "--reason", "r", "-n", &node];
    for command in [&early[..], &action, &despite, &kill, &mark, &update, &back, &close, &accept] {
        let outcome = ctl_with(command, |_| {});
        assert_eq!(outcome.exit, Exit::Usage, "{command:?}");
        assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
    }
    for format in FORMATS {
        for (stdin, stderr) in [(false, false), (true, false), (false, true)] {
            for hash in [&[][..], &["--plan-hash", "c0ffee"]] {
                let arguments = [&cleanup[..], &["-o", format], hash].concat();
                let outcome = ctl_with(&arguments, |console| {
                    (console.stdin_terminal, console.stderr_terminal) = (stdin, stderr);
                    console.stdin = Box::new(Cursor::new("yes\n"));
                });
                assert_eq!(outcome.exit, Exit::Usage, "{stdin} {stderr} {format} {hash:?}");
                assert!(outcome.stderr.contains("--yes"), "{}", outcome.stderr);
                assert!(outcome.stdout.is_empty());
            }
        }
    }
    assert!(agents[0].calls().is_empty());
    let outcome = ctl_with(&[&cleanup[..], &["--yes"]].concat(), |_| {});
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert_eq!(agents[0].calls()[0], "CleanupArchives");
}
