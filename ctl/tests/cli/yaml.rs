//! `-o yaml`: the objects of json, for people who read and programs that parse.

use genesis_client::v1::*;
use genesisctl::Exit;
use proptest::prelude::*;
use serde_json::Value;

use crate::fake::{Fake, Script};
use crate::{at, ctl, folder, of_condition, well};

/// Texts that YAML takes for something else if nobody keeps it from doing so, and those that terminals obey.
const HOSTILE: [&str; 40] = [
    "",
    " ",
    "~",
    "null",
    "yes",
    "No",
    "on",
    "true",
    "0x1f",
    "0o17",
    "017",
    "1_000",
    "1e3",
    ".inf",
    ".NaN",
    "2024-01-01",
    "12:30:45",
    "- a",
    "a: b",
    "a #b",
    "#c",
    "? k",
    "*alias",
    "&anchor",
    "!!str x",
    "!tag",
    "<<",
    "=",
    "---",
    "...",
    "%YAML 1.2",
    "{a: b}",
    "[a, b]",
    "| x",
    "'",
    "\"\\\u{1b}[2J\"",
    "two\nlines\n",
    "\ttab\r\n end ",
    "\u{85}\u{2028}\u{2029}\u{feff}\u{202e}x\u{0}",
    "日本 ünï 🦀",
];

fn parsed(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn yaml_says_what_json_says() {
    let folder = folder();
    let entry = |text: &&str| OplogEntry {
        sequence: 9_007_199_254_740_993,
        at: at(5),
        actor: (*text).into(),
        reason: format!("{text}{text}"),
        detail: format!("x {text}"),
        ..Default::default()
    };
    let script = Script {
        status: of_condition(Condition::Critical),
        entries: HOSTILE.iter().map(entry).collect(),
        config: format!("[logs]\n# a comment\nx = \"\"\"\n{}\n\"\"\"\n", HOSTILE[..35].join("\n")),
        pki: GetPkiResponse { items: vec![PkiItem::default()], ..Default::default() },
        ..Default::default()
    };
    let fake = Fake::start(folder.path(), script);
    for command in [
        &["status"][..],
        &["version"],
        &["whoami"],
        &["oplog", "list"],
        &["config", "show"],
        &["config", "reload", "--plan"],
        &["pki", "list"],
        &["emergency", "status"],
        &["schedule", "list"],
        &["health", "dashboard", "--merge"],
        &["runbook", "list"],
    ] {
        let of = |format| ctl(&[command, &["-o", format, "-n", &fake.node()]].concat());
        let (json, yaml) = (of("json"), of("yaml"));
        assert_eq!(yaml.exit, json.exit, "{command:?}");
        assert_eq!(parsed(yaml.out()), json.json(), "{command:?}");
        let driving =
            |c: char| c.is_control() && c != '\n' || ('\u{2028}'..='\u{202e}').contains(&c);
        assert!(!yaml.out().contains(driving), "{command:?}: {:?}", yaml.out());
    }
}

#[test]
fn each_node_is_one_item_of_one_sequence() {
    let (one, two) = (folder(), folder());
    let fake = Fake::start(one.path(), Script { status: well(), ..Default::default() });
    let status = GetStatusResponse { hostname: "a\u{1b}[31mb: - c\n".into(), ..well() };
    let hostile = Fake::start(two.path(), Script { status, ..Default::default() });
    let nodes = format!("/absent.sock,{},{}", fake.node(), hostile.node());
    let outcome = ctl(&["status", "-o", "yaml", "-n", &nodes]);
    assert_eq!(outcome.exit, Exit::SomeFailed);
    let rows = parsed(outcome.out());
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3, "{}", outcome.out());
    let row = |node: &str| rows.iter().find(|row| row["node"] == node).unwrap();
    assert_eq!(row("unix:/absent.sock")["error"]["reason"], "AGENT_UNREACHABLE");
    assert_eq!(row(&fake.node())["response"]["residentBytes"], "9300000", "int64 stays text");
    assert_eq!(row(&hostile.node())["response"]["hostname"], "a\u{1b}[31mb: - c\n");
    assert!(!outcome.out().contains('\u{1b}'));
    // Items stand at the beginning of a line, as in any sequence.
    assert_eq!(outcome.out().lines().filter(|line| line.starts_with("- ")).count(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_comes_back_from_yaml(texts in proptest::collection::vec(any::<String>(), 1..20)) {
        let folder = folder();
        let entries = texts.iter().map(|text| OplogEntry { detail: text.clone(), ..Default::default() });
        let script = Script { entries: entries.collect(), ..Default::default() };
        let fake = Fake::start(folder.path(), script);
        let outcome = ctl(&["oplog", "list", "-o", "yaml", "-n", &fake.node()]);
        let rows = parsed(outcome.out());
        let back: Vec<&str> = rows[0]["response"]["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["detail"].as_str().unwrap())
            .collect();
        prop_assert_eq!(back, texts);
    }
}
