//! Completions and man pages: what needs no agent and no context.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use genesisctl::Exit;

use crate::{ctl, ctl_with, folder};

/// Every command, groups included, as typed behind the program's name; the program itself first.
fn commands() -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        let help = help(&path);
        let Some((_, rest)) = help.split_once("\nCommands:\n") else { continue };
        let section = rest.split("\n\n").next().unwrap();
        for line in section.lines() {
            let name = line.strip_prefix("  ").unwrap().split(' ').next().unwrap();
            if !name.is_empty() && name != "help" {
                found.push([&path[..], &[name.to_owned()]].concat());
            }
        }
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

fn help(path: &[String]) -> String {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let outcome = ctl(&arguments);
    assert_eq!(outcome.exit, Exit::Ok, "{path:?}");
    outcome.out().to_owned()
}

/// The long flags that a help page explains.
fn flags(help: &str) -> BTreeSet<String> {
    let explained = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let words = explained.flat_map(|line| line.split([' ', ',', '=']));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn completions_name_every_command_and_flag() {
    let commands = commands();
    for shell in ["bash", "zsh", "fish"] {
        // Nothing is looked for that might be missing or damaged.
        let outcome = ctl_with(&["completions", shell], |console| {
            console.env.insert("GENESISCTL_CONTEXT".into(), "absent".into());
            console.env.insert("XDG_CONFIG_HOME".into(), "/absent".into());
        });
        assert_eq!((outcome.exit, outcome.stderr.as_str()), (Exit::Ok, ""), "{shell}");
        let beginning = match shell {
            "bash" => "_genesisctl() {",
            "zsh" => "#compdef genesisctl",
            _ => "complete -c genesisctl",
        };
        assert!(outcome.out().contains(beginning), "{shell}");
        let script = outcome.out();
        let words: BTreeSet<&str> = script
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .flat_map(|word| [word, word.trim_start_matches('-')])
            .collect();
        for path in &commands[1..] {
            let name = path.last().unwrap();
            assert!(words.contains(name.as_str()), "{shell} does not know {path:?}");
        }
        for flag in flags(&help(&[])) {
            let name = flag.trim_start_matches('-');
            assert!(words.contains(name), "{shell} does not know {flag}");
        }
        assert_eq!(ctl(&["completions", shell]).stdout, outcome.stdout, "{shell}");
    }
    for wrong in [&["completions"][..], &["completions", "csh"]] {
        assert_eq!(ctl(wrong).exit, Exit::Usage);
    }
}

#[test]
fn bash_completes_what_is_typed() {
    let folder = folder();
    let script = folder.path().join("genesisctl.bash");
    fs::write(&script, ctl(&["completions", "bash"]).stdout).unwrap();
    for (typed, wanted) in [
        (&["genesisctl", "emer"][..], &["emergency"][..]),
        (&["genesisctl", "emergency", ""], &["activate", "status", "release"]),
        (&["genesisctl", "emergency", "rel"], &["release"]),
        (&["genesisctl", "logs", "rotate", "--max-p"], &["--max-parallel"]),
        (&["genesisctl", "logs", "cleanup", "--older"], &["--older-than"]),
        (&["genesisctl", "-o", "ya"], &["yaml"]),
        (&["genesisctl", "completions", "z"], &["zsh"]),
        (&["genesisctl", "emergency", "frob"], &[]),
    ] {
        // As bash calls it: the command, the word under the cursor, the word before it.
        let quoted: Vec<String> = typed.iter().map(|word| format!("'{word}'")).collect();
        let [.., previous, current] = quoted.as_slice() else { panic!("two words at least") };
        let call = format!(
            "source '{}' && complete -p genesisctl >&2 && COMP_WORDS=({}) COMP_CWORD={} && \
             _genesisctl genesisctl {current} {previous} && printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            quoted.join(" "),
            typed.len() - 1,
        );
        let output = Command::new("bash").args(["--norc", "-c", &call]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let registered = String::from_utf8(output.stderr).unwrap();
        assert!(
            registered.starts_with("complete ") && registered.contains("-F _genesisctl"),
            "{registered}"
        );
        let found: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        match wanted {
            [only] => assert_eq!(found, [*only], "{typed:?}"),
            [] => assert!(found.is_empty(), "{typed:?}: {found:?}"),
            wanted => {
                let lacking: Vec<_> = wanted.iter().filter(|word| !found.contains(word)).collect();
                assert!(lacking.is_empty(), "{typed:?} lacks {lacking:?}: {found:?}");
            }
        }
    }
}

#[test]
fn each_command_has_its_man_page() {
    let (folder, again) = (folder(), folder());
    let pages = folder.path().join("share/man1");
    let outcome = ctl(&["man", "--out", pages.to_str().unwrap()]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.stderr);
    assert!(outcome.stdout.is_empty());
    let commands = commands();
    assert!(outcome.stderr.starts_with(&format!("{} pages are in ", commands.len())));
    let name = |path: &[String]| {
        let words = ["genesisctl".to_owned()].into_iter().chain(path.iter().cloned());
        words.collect::<Vec<_>>().join("-") + ".1"
    };
    let wanted: BTreeSet<String> = commands.iter().map(|path| name(path)).collect();
    let found: BTreeSet<String> = fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, wanted);
    for path in &commands {
        let page = fs::read_to_string(pages.join(name(path))).unwrap();
        let page = page.replace("\\-", "-");
        assert!(page.contains(".TH genesisctl"), "{path:?}");
        for flag in flags(&help(path)) {
            assert!(page.contains(&flag), "the page of {path:?} lacks {flag}");
        }
    }
    // The same again, over what is there and elsewhere, whenever that is.
    assert_eq!(ctl(&["man", "--out", pages.to_str().unwrap()]).exit, Exit::Ok);
    assert_eq!(ctl(&["man", "--out", again.path().to_str().unwrap()]).exit, Exit::Ok);
    for name in &found {
        let of = |folder: &std::path::Path| fs::read(folder.join(name)).unwrap();
        assert_eq!(of(&pages), of(again.path()), "{name}");
    }
    assert_eq!(fs::read_dir(&pages).unwrap().count(), found.len(), "nothing is left beside them");

    let main = ctl(&["man"]);
    assert_eq!(main.exit, Exit::Ok);
    assert_eq!(main.stdout, fs::read(pages.join("genesisctl.1")).unwrap());
    assert!(ctl(&["man", "-q", "--out", pages.to_str().unwrap()]).stderr.is_empty());
}

#[test]
fn pages_that_can_not_be_written_are_an_error() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let outcome = ctl(&["man", "--out", file.join("below").to_str().unwrap()]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.stderr.contains("--out"), "{}", outcome.stderr);
}
