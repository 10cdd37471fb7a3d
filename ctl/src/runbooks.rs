//! Every command in the runbook is one that this program has, with the flags that it has: whoever types it at 03:00 must
//! not be told otherwise.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use genesis_proto::runbook::{PAGES, Page};

use crate::cli::Cli;

/// The words of a command as a shell takes it, up to what ends it. What is in brackets may be left out, so it is.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut text = text.to_owned();
    while let Some((before, rest)) = text.split_once(" [") {
        let after = rest.split_once(']').map_or("", |(_, after)| after);
        text = format!("{before}{after}");
    }
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' | '"' => {
                let quoted: String = characters.by_ref().take_while(|end| *end != c).collect();
                word.get_or_insert_default().push_str(&quoted);
            }
            '|' | ';' | '&' | '>' | '<' | ')' => break,
            '#' if word.is_none() => break,
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.retain(|word| word != "..." && word != "…");
    words
}

/// Every call of `program` in a page: in blocks of code, and within the text.
fn calls(page: &Page, program: &str) -> Vec<Vec<String>> {
    let begin = format!("{program} ");
    let mut found = Vec::new();
    for (number, part) in page.text.split("```").enumerate() {
        let lines: Vec<String> = match number % 2 {
            // A block: lines, the longer ones continued.
            1 => part.replace("\\\n", " ").lines().map(str::to_owned).collect(),
            _ => part.split('`').skip(1).step_by(2).map(|it| it.replace('\n', " ")).collect(),
        };
        for line in lines {
            for (at, _) in line.match_indices(&begin) {
                let before = line[..at].chars().next_back();
                // `docs/genesisctl.md`, `systemctl restart genesis-agent`.
                if before.is_none_or(|c| c.is_whitespace() || "($".contains(c))
                    && !line[..at].contains("systemctl")
                {
                    found.push(words(&line[at..]));
                }
            }
        }
    }
    found
}

/// What is wrong with a command; that a value or a flag is missing is not, since text speaks of commands as well.
fn wrong(call: &[String]) -> Option<String> {
    let error = match Cli::try_parse_from(call) {
        Ok(_) => return None,
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand => None,
        // A value that stands for one: ID, NAME, MONTH.
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            match error.get(ContextKind::InvalidValue) {
                Some(ContextValue::String(value)) if !value.chars().any(char::is_lowercase) => None,
                _ => Some(error.to_string()),
            }
        }
        _ => Some(error.to_string()),
    }
}

#[test]
fn every_command_of_the_runbook_is_one_that_this_program_has() {
    let mut tried = 0;
    let mut bad = Vec::new();
    for page in PAGES {
        for call in calls(page, "genesisctl") {
            tried += 1;
            if let Some(why) = wrong(&call) {
                bad.push(format!("{}: {}: {}", page.name, call.join(" "), why.trim()));
            }
        }
    }
    assert!(tried > 300, "only {tried} commands were found");
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
}

/// Every command that a source names in backquotes, beside comments; what is filled in is "X".
fn named(source: &str) -> Vec<String> {
    let mut text = String::new();
    for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
        // A literal that is continued goes on behind the blanks of the next line.
        match line.strip_suffix('\\') {
            Some(begun) => text.push_str(begun.trim_start()),
            None => {
                text.push_str(line.trim_start());
                text.push('\n');
            }
        }
    }
    let mut found = Vec::new();
    for (at, _) in text.match_indices("`genesisctl ") {
        let call = text[at + 1..].split('`').next().unwrap_or_default();
        let mut shown = String::new();
        let mut rest = call;
        while let Some((before, after)) = rest.split_once('{') {
            shown.push_str(before);
            shown.push('X');
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
        shown.push_str(rest);
        found.push(shown);
    }
    found
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn every_command_that_a_message_names_is_one_that_this_program_has() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "client/src", "../agent/src"] {
        sources(&own.join(folder), &mut files);
    }
    let (mut tried, mut bad) = (0, Vec::new());
    // This file has some that are wrong, on purpose.
    for file in files.iter().filter(|file| !file.ends_with("runbooks.rs")) {
        let calls = named(&std::fs::read_to_string(file).unwrap());
        // Where the command itself is filled in, nothing is named.
        for call in calls.into_iter().filter(|call| !call.starts_with("genesisctl X")) {
            tried += 1;
            if let Some(why) = wrong(&words(&call)) {
                bad.push(format!("{}: {call}: {}", file.display(), why.trim()));
            }
        }
    }
    assert!(tried > 150, "only {tried} commands were found");
    assert!(bad.is_empty(), "{}", bad.join("\n\n"));
    // What is looked for is found.
    let source = "x(\"see `genesisctl \\\n        oplog lst {a}` or\");\n// `genesisctl comment`\n";
    assert_eq!(named(source), ["genesisctl oplog lst X"]);
}

#[test]
fn what_no_program_has_is_noticed() {
    let call = |text: &str| wrong(&words(text));
    for good in [
        "genesisctl incident close last",
        "genesisctl incident close ID --lesson TEXT | less",
        "genesisctl health explain",
        "genesisctl health check --level deep # comment",
        "genesisctl backup list [SOURCE]",
        "genesisctl oplog note 'it is over'",
        "genesisctl logs rotate [--log-type TYPE] --reason TEXT",
    ] {
        assert_eq!(call(good), None, "{good}");
    }
    for bad in [
        "genesisctl incident solve last",
        "genesisctl incident close last --lessen TEXT",
        "genesisctl health check --level deeper",
        "genesisctl incident open",
    ] {
        let missing = bad.ends_with("open");
        assert_eq!(call(bad).is_none(), missing, "{bad}");
    }
}

#[test]
fn every_page_is_reached_from_another_one() {
    for page in PAGES {
        let link = format!("]({}.md", page.name);
        let from = PAGES.iter().filter(|other| other.name != page.name);
        let from: Vec<_> = from.filter(|other| other.text.contains(&link)).collect();
        assert!(!from.is_empty() || page.name == "on-call", "nothing leads to {}", page.name);
        let index = PAGES.iter().any(|it| it.name == "on-call" && it.text.contains(&link));
        assert!(index || page.name == "on-call", "on-call.md has no row for {}", page.name);
    }
}

#[test]
fn every_page_says_what_to_do_and_when_to_call_whom() {
    for page in PAGES {
        assert!(page.text.starts_with("# "), "{}", page.name);
        assert!(page.text.contains("genesisctl "), "{} names no command", page.name);
    }
    for name in [
        "on-call",
        "incident",
        "system-failure",
        "performance-degradation",
        "certificate-expired",
        "certificate-renewal",
        "vulnerability",
    ] {
        let page = PAGES.iter().find(|page| page.name == name).unwrap();
        for section in ["## How to know that it", "## When to call whom"] {
            assert!(page.text.contains(section), "{name} lacks {section}");
        }
        assert!(page.text.lines().count() < 100, "{name} is too long for 03:00");
    }
}
