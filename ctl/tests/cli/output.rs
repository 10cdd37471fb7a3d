//! The shape of JSON, broken pipes, hostile text, colours, help.

use std::io;

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::fake::{Fake, Script};
use crate::{Broken, at, ctl, ctl_with, folder, of_condition, well};

#[test]
fn json_has_its_stable_shape() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { status: well(), ..Default::default() });
    let expected = r#"[
  {
    "node": "NODE",
    "ok": true,
    "error": null,
    "response": {
      "condition": "CONDITION_OK",
      "configSource": "",
      "domains": [
        {
          "condition": "CONDITION_OK",
          "domain": "logs",
          "findings": [],
          "summary": "2 sources"
        }
      ],
      "emergency": false,
      "fleet": "",
      "hostId": "h1",
      "hostname": "web-1",
      "now": "1970-01-02T01:01:01Z",
      "pid": 7,
      "residentBytes": "9300000",
      "residentBytesMax": "0",
      "runsActive": 0,
      "runsFailed": 0,
      "startedAt": "1970-01-01T00:00:01Z",
      "version": "VERSION"
    }
  }
]
"#
    .replace("NODE", &fake.node())
    .replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(ctl(&["status", "-o", "json", "-n", &fake.node()]).out(), expected);

    let line = ctl(&["status", "-o", "jsonl", "-n", &fake.node()]);
    let value: serde_json::Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(line.json(), value[0]);
    assert_eq!(line.out().lines().count(), 1);

    let error = ctl(&["whoami", "-o", "json", "-n", &fake.node()]).json();
    let expected = serde_json::json!([{
        "node": fake.node(),
        "ok": false,
        "error": {
            "code": "PERMISSION_DENIED",
            "reason": "",
            "message": "nobody knows you",
            "details": [],
            "next": "see who you are with `genesisctl whoami`; ask for the role that the message names",
        },
        "response": null,
    }]);
    assert_eq!(error, expected);
}

#[test]
fn a_reader_that_leaves_is_no_error_and_a_full_disk_is() {
    let folder = folder();
    let entry = OplogEntry { sequence: 1, action: "x".into(), ..Default::default() };
    let script = Script {
        status: well(),
        entries: vec![entry; 3],
        retrieve: vec![Ok(retrieve_logs_response::Part::Data(b"line\n".to_vec()))],
        watches: vec![vec![Ok(Run { state: RunState::Running.into(), ..Default::default() })]],
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    let node = fake.node();
    let retrieve =
        ["logs", "retrieve", "--log-type", "app", "--date-range", "2024-01-01:2024-01-02"];
    for command in [
        &["status"][..],
        &["status", "-o", "json"],
        &["status", "-o", "jsonl"],
        &["oplog", "tail", "-f"],
        &["run", "watch", "last", "-o", "jsonl"],
        &retrieve,
        &["--help"],
    ] {
        let arguments = [command, &["-n", &node]].concat();
        let run = |kind| ctl_with(&arguments, |console| console.stdout = Box::new(Broken(kind)));
        let piped = run(io::ErrorKind::BrokenPipe);
        assert_eq!((piped.exit, piped.stderr.as_str()), (Exit::Ok, ""), "{command:?}");
        let full = run(io::ErrorKind::StorageFull);
        assert_eq!(full.exit, Exit::Failed, "{command:?}");
        assert!(
            command == ["--help"] || full.stderr.contains("standard output"),
            "{}",
            full.stderr
        );
    }
}

#[test]
fn hostile_text_from_an_agent_drives_no_terminal() {
    let folder = folder();
    let hostile = "/var/log/\u{1b}[2J\u{9b}31m\r\nfake: OK\u{202e}.log";
    let segment = Segment {
        log_type: hostile.into(),
        archive_name: hostile.into(),
        waiting: Some(Finding {
            code: "C".into(),
            subject: hostile.into(),
            message: hostile.into(),
        }),
        ..Default::default()
    };
    let entry = OplogEntry {
        actor: hostile.into(),
        reason: hostile.into(),
        at: at(0),
        ..Default::default()
    };
    let script = Script {
        status: of_condition(Condition::Warn),
        segments: vec![segment],
        entries: vec![entry],
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    let node = fake.node();
    for command in [
        &["status"][..],
        &["logs", "list"],
        &["oplog", "list"],
        &["oplog", "tail"],
        &["config", "show"],
    ] {
        for format in ["table", "json", "jsonl"] {
            let outcome = ctl(&[command, &["-o", format, "-n", &node]].concat());
            let text = format!("{}{}", outcome.out(), outcome.stderr);
            let driving = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
            assert!(!text.contains(driving), "{command:?} {format}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("fake")), "{command:?} {format}");
        }
    }
    let shown = ctl(&["status", "-n", &node]);
    assert!(shown.out().contains("LOG_STALLED /var/log/\\x1b]0;owned\\x07x.log: no space"));
    let list = ctl(&["logs", "list", "-o", "json", "-n", &node]).json();
    assert_eq!(list[0]["response"]["segments"][0]["logType"], hostile, "JSON keeps the value");
}

#[test]
fn a_search_that_ended_early_says_where_it_goes_on() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { searched_to: 4711, ..Default::default() });
    let shown = ctl(&["oplog", "list", "--action", "rare", "-n", &fake.node()]);
    assert_eq!(shown.exit, Exit::Ok, "{}", shown.stderr);
    let said = "entries before 4711 were not searched: --before 4711 goes on";
    assert!(shown.out().contains(said), "{}", shown.out());
    let json = ctl(&["oplog", "list", "-o", "json", "-n", &fake.node()]).json();
    assert_eq!(json[0]["response"]["searchedTo"], "4711");
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { status: well(), ..Default::default() });
    let coloured = |terminal: bool, environment: &[(&str, &str)]| {
        let outcome = ctl_with(&["status", "-n", &fake.node()], |console| {
            console.stdout_terminal = terminal;
            let pairs = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
            console.env.extend(pairs);
        });
        outcome.out().contains('\u{1b}')
    };
    assert!(coloured(true, &[]));
    assert!(coloured(true, &[("NO_COLOR", "")]));
    assert!(!coloured(true, &[("NO_COLOR", "1")]));
    assert!(!coloured(true, &[("TERM", "dumb")]));
    assert!(!coloured(false, &[]));
}

#[test]
fn help_goes_to_stdout_and_wrong_usage_to_stderr() {
    let help = ctl(&["logs", "retrieve", "--help"]);
    assert_eq!(help.exit, Exit::Ok);
    assert!(help.out().contains("Examples:") && help.out().contains("--date-range"));
    for wrong in [
        &[][..],
        &["frobnicate"],
        &["logs", "retrieve"],
        &["status", "-n", "web-1"],
        &["status", "-n", "a:1,,b:1"],
        &["status", "--timeout", "0s"],
        &["status", "-o", "xml"],
        &["oplog", "tail", "-f", "-o", "yaml"],
        &["schedule", "list", "--next", "101"],
        &["schedule", "list", "--at", "tomorrow"],
        &["oplog", "verify", "--head", "12:beef"],
        &["oplog", "note", " "],
        &["oplog", "tail", "-f", "-o", "json"],
        &["logs", "list", "--after", "3"],
        &["rollback"],
        &["rollback", "--component", "config", "components"],
        &["status", "-n", "/no.sock", "-q", "-v"],
    ] {
        let outcome = ctl(wrong);
        assert_eq!(outcome.exit, Exit::Usage, "{wrong:?}");
        assert!(outcome.stdout.is_empty() && !outcome.stderr.is_empty(), "{wrong:?}");
    }
    let long = format!("/{}", "x".repeat(200));
    let outcome = ctl(&["status", "-n", &long]);
    assert!(outcome.exit == Exit::Usage && outcome.stderr.contains("107"));
}

#[test]
fn a_configuration_is_checked() {
    let folder = folder();
    let problem = ConfigProblem {
        line: 3,
        column: 0,
        key: "logs.rotat_size".into(),
        message: "unknown key, did you mean rotate_size?".into(),
    };
    let check = CheckConfigResponse { valid: false, problems: vec![problem], ..Default::default() };
    let fake = Fake::start(folder.path(), Script { check, ..Default::default() });
    let node = fake.node();
    let outcome = ctl(&["config", "check", "-n", &node]);
    assert_eq!(outcome.exit, Exit::Findings);
    assert!(outcome.out().starts_with("not valid: 1 problem\n"));
    assert!(outcome.out().contains("logs.rotat_size"));

    let file = folder.path().join("agent.toml");
    std::fs::write(&file, "").unwrap();
    ctl(&["config", "check", file.to_str().unwrap(), "-n", &node]);
    let calls = fake.calls();
    assert_eq!(
        calls,
        ["CheckConfig None", "CheckConfig Some(\"\")"],
        "an empty file is not the host's file"
    );
    let outcome = ctl(&["config", "check", "/absent.toml", "-n", &node]);
    assert!(outcome.exit == Exit::Usage && outcome.stderr.contains("/absent.toml"));
}
