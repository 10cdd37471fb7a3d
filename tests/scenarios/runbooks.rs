//! Each alert leads to a page that is there, and each command of the agent that a page names is one that it has. (Those
//! of genesisctl are tried in ctl/src/runbooks.rs.)

use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_proto::runbook::{PAGES, page};
use genesis_tests::binaries;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The literal that begins `text`.
fn literal(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.split('"').next()
}

#[test]
fn every_alert_leads_to_a_page_that_is_there() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/src"), &mut found);
    let mut named = std::collections::BTreeSet::new();
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let beginnings = ["runbook: ", "runbook = ", "_PAGE: &str = ", "genesisctl runbook show "];
        for begin in beginnings {
            for (at, _) in text.match_indices(begin) {
                let rest = &text[at + begin.len()..];
                let name = match begin {
                    "genesisctl runbook show " => {
                        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
                        end.map(|end| &rest[..end])
                    }
                    _ => literal(rest),
                };
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    assert!(page(name).is_some(), "{} leads to {name:?}", path.display());
                    named.insert(name.to_owned());
                }
            }
        }
    }
    for wanted in ["alerts", "disk-space", "system-failure", "incident", "vulnerability"] {
        assert!(named.contains(wanted), "no alert leads to {wanted}: {named:?}");
    }
}

#[test]
fn every_command_of_the_agent_in_the_runbook_is_one_that_it_has() {
    let mut tried = 0;
    for page in PAGES {
        // A sentence of its own, which marks a file.
        let command = |part: &&str| {
            part.starts_with("genesis-agent ") && !part.starts_with("genesis-agent has ")
        };
        for part in page.text.split('`').filter(command) {
            let words = part.split_whitespace().skip(1);
            let words = words.take_while(|word| !["|", ">"].contains(word));
            // Nothing is done, and what is not there is told all the same.
            let asked = Command::new(binaries::agent()).args(words).arg("--help").output().unwrap();
            let said = String::from_utf8_lossy(&asked.stderr);
            assert!(asked.status.success(), "{}: {part}: {said}", page.name);
            tried += 1;
        }
    }
    assert!(tried >= 3, "{tried}");
}
