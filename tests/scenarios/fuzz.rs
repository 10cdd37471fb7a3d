//! Whatever bytes come from outside, each parser of them holds what docs/architecture.md says of it.
//!
//! In every run: the corpus, nothing at all, and up to two thousand inputs near the corpus, in the same order each time.
//! `GENESIS_LONG=1` has libFuzzer look for a minute at each target.

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use genesis_tests::binaries;
use genesis_tests::clock::Watch;
use genesis_tests::fuzz::{REQUESTS, TARGETS, Target};
use genesis_tests::random::{Random, mix};

/// So many inputs near its corpus a target gets at most.
const NEAR: u64 = 2_000;
/// And for so long.
const SPENT: Duration = Duration::from_secs(1);
/// No input takes so long, on any machine.
const SLOW: Duration = Duration::from_secs(20);
/// Targets are given their inputs by so many threads.
const THREADS: usize = 4;
/// So many bytes an input has at most.
const INPUT: usize = 4_096;
/// And all files of the corpus.
const CORPUS: u64 = 300 << 10;

/// What parsers stumble over.
const WORDS: [&[u8]; 20] = [
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xc3(",
    b"\xe2\x80\xa8",
    b"-1",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e999",
    b"1e-999",
    b"NaN",
    b"\"",
    b"\\",
    b"{\"",
    b"[",
    b"\r\n",
    b"\n\n",
    b":",
    b"..",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The entries of a folder by name, in order.
fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let read = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut found: Vec<(String, PathBuf)> = read
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    found.sort();
    found
}

/// The inputs of a target that are committed, by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = root().join("tests/fuzz/corpus").join(name);
    entries(&folder).into_iter().map(|(name, path)| (name, fs::read(path).unwrap())).collect()
}

/// An input after some changes of the kinds that fuzzers make.
fn mutated(random: &mut Random, input: &[u8], corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut data = input.to_vec();
    for _ in 0..random.within(1, 6) {
        change(random, &mut data, corpus);
    }
    data.truncate(INPUT);
    data
}

fn change(random: &mut Random, data: &mut Vec<u8>, corpus: &[(String, Vec<u8>)]) {
    let mut below = |limit: usize| random.within(0, limit as u64) as usize;
    let at = below(data.len() + 1);
    let end = (at + 1 + below(24)).min(data.len());
    match below(8) {
        // Another bit.
        0 | 1 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << below(8);
            }
        }
        // One more byte.
        2 => data.insert(at, below(256) as u8),
        // The rest is cut off.
        3 => data.truncate(at),
        // A piece is gone.
        4 => drop(data.drain(at..end)),
        // A piece is there several times.
        5 => {
            let piece = data[at..end].repeat(1 + below(40));
            data.splice(at..at, piece);
        }
        // The rest is that of another input.
        6 => {
            let (_, other) = &corpus[below(corpus.len())];
            let from = below(other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        // A word in place of what was there.
        _ => {
            let word = WORDS[below(WORDS.len())];
            let end = (at + word.len()).min(data.len());
            data.splice(at..end, word.iter().copied());
        }
    }
}

fn said(why: &(dyn Any + Send)) -> &str {
    let text = why.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| why.downcast_ref::<&str>().copied()).unwrap_or("it says nothing")
}

/// Gives a target an input; `what` names that.
fn give(name: &str, target: Target, data: &[u8], what: &str) {
    let watch = Watch::start();
    if let Err(why) = catch_unwind(|| target(data)) {
        panic!(
            "fuzz target {name} fails on {what}: {}\nA file of these bytes in tests/fuzz/corpus/{name} makes it a test: {}",
            said(&*why),
            hex::encode(data)
        );
    }
    let took = watch.elapsed();
    assert!(took < SLOW, "fuzz target {name} takes {took:?} for {what}: {}", hex::encode(data));
}

fn exercise(name: &str, target: Target) {
    let corpus = corpus(name);
    give(name, target, b"", "nothing at all");
    for (entry, data) in &corpus {
        give(name, target, data, entry);
    }
    let own = name.bytes().fold(0, |sum, byte| mix(sum ^ u64::from(byte)));
    let watch = Watch::start();
    let rounds = (0..NEAR).take_while(|_| watch.elapsed() < SPENT);
    for (round, (entry, data)) in rounds.zip(corpus.iter().cycle()) {
        let seed = own.wrapping_add(round);
        let near = mutated(&mut Random::new(seed), data, &corpus);
        give(name, target, &near, &format!("{entry} changed by seed {seed}"));
    }
}

#[test]
fn each_target_holds_on_its_corpus_and_near_it() {
    thread::scope(|scope| {
        let shares = TARGETS.chunks(TARGETS.len().div_ceil(THREADS));
        let work = |share: &'static [(&'static str, Target)]| {
            move || share.iter().for_each(|(name, target)| exercise(name, *target))
        };
        let threads: Vec<_> = shares.map(|share| scope.spawn(work(share))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|why| resume_unwind(why));
        }
    });
}

#[test]
fn each_target_has_a_program_a_corpus_and_a_line_in_the_documentation() {
    let folder = root().join("tests/fuzz");
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "a target is there twice");

    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut programs = BTreeSet::new();
    for program in manifest.split("[[bin]]\n").skip(1) {
        let name = program.strip_prefix("name = \"").and_then(|rest| rest.split_once('"'));
        let (name, rest) = name.unwrap_or_else(|| panic!("a program without a name: {program}"));
        let expected = format!("\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(rest.starts_with(&expected), "{program}");
        programs.insert(name.to_owned());
    }
    assert_eq!(programs, names, "the programs of tests/fuzz/Cargo.toml");

    let files: BTreeSet<String> = entries(&folder.join("fuzz_targets"))
        .into_iter()
        .map(|(name, path)| {
            let name = name.strip_suffix(".rs").unwrap_or(&name).to_owned();
            let call = format!("fuzz_target!(|data: &[u8]| genesis_tests::fuzz::{name}(data));");
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains(&call), "fuzz_targets/{name}.rs calls its target");
            name
        })
        .collect();
    assert_eq!(files, names, "tests/fuzz/fuzz_targets");

    let folders: BTreeSet<String> =
        entries(&folder.join("corpus")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(folders, names, "tests/fuzz/corpus");
    let mut total = 0;
    for name in &names {
        let corpus = corpus(name);
        assert!(corpus.len() >= 3, "{name} has {} inputs", corpus.len());
        for (entry, data) in corpus {
            assert!(data.len() <= INPUT, "{name}/{entry} has {} bytes", data.len());
            total += data.len() as u64;
        }
    }
    assert!(total <= CORPUS, "the corpus has {total} bytes");

    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for name in &names {
        let lines = page.matches(&format!("\n| `{name}` |")).count();
        assert_eq!(lines, 1, "docs/architecture.md says what {name} holds");
    }
}

#[test]
fn the_request_of_every_rpc_is_looked_at() {
    let services = genesis_proto::pool().services();
    let own = services.filter(|service| service.full_name().starts_with("genesis.v1."));
    let taken: BTreeSet<String> = own
        .flat_map(|service| service.methods().map(|it| it.input()).collect::<Vec<_>>())
        .map(|request| request.name().to_owned())
        .collect();
    let known: BTreeSet<String> = REQUESTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known, taken, "tests/harness/fuzz/requests.rs");
    assert_eq!(known.len(), REQUESTS.len(), "a request is there twice");
}

fn long() -> bool {
    std::env::var_os("GENESIS_LONG").is_some_and(|value| value == "1")
}

/// cargo-fuzz as it is called by hand, but for where it builds.
fn cargo_fuzz(built: &Path) -> Command {
    let tool = binaries::foreign("tools/bin/cargo-fuzz");
    let path = format!("{}:{}", tool.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", "--target-dir"])
        .arg(built)
        // In the development profile: with assertions, and linked as nothing that is shipped.
        .args(["-D", "--strip-dead-code", "--no-cfg-fuzzing"])
        .current_dir(root())
        .env("PATH", path)
        // What lives until the end is no leak, and a sandbox may not let itself be looked through for others.
        .env("ASAN_OPTIONS", "detect_leaks=0");
    // What the toolchain of this test has set is for that one.
    for variable in
        ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "LD_LIBRARY_PATH"]
    {
        command.env_remove(variable);
    }
    command
}

/// Removes a program: each has some hundred megabytes, while what it is made of serves the next one.
fn remove_program(built: &Path, name: &str) {
    // Where nothing could be built, there may be no folder.
    let inside = if built.is_dir() { entries(built) } else { Vec::new() };
    for (_, triple) in inside.into_iter().filter(|(_, path)| path.is_dir()) {
        let folders = [triple.join("debug"), triple.join("debug/deps")];
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            for (file, path) in entries(folder) {
                let own = file == name || file.starts_with(&format!("{name}-"));
                if own && path.is_file() {
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

/// Lets libFuzzer look at a target for a minute; what it found.
fn looked_at(name: &str, built: &Path) -> Result<(), String> {
    // The first folder is the one that new inputs go to.
    let found = tempfile::tempdir().unwrap();
    let output = cargo_fuzz(built)
        .arg(name)
        .arg(found.path())
        .arg(format!("tests/fuzz/corpus/{name}"))
        .args(["--", "-max_total_time=60", "-timeout=10", "-rss_limit_mb=2048"])
        .output()
        .unwrap();
    remove_program(built, name);
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines[lines.len().saturating_sub(60)..].join("\n");
    let artifacts = format!("tests/fuzz/artifacts/{name}");
    let folder = root().join(&artifacts);
    let kept = if folder.is_dir() { entries(&folder) } else { Vec::new() };
    let kept: Vec<String> = kept.iter().map(|(file, _)| format!("{artifacts}/{file}")).collect();
    Err(format!(
        "fuzz target {name} failed ({}); what it failed on is in {kept:?}: mend it, and copy the file into \
         tests/fuzz/corpus/{name}, where it is a test\n{last}",
        output.status
    ))
}

#[test]
fn a_minute_of_each_target_finds_nothing() {
    if !long() {
        return;
    }
    let built = binaries::foreign("tools").ancestors().nth(2).unwrap().join("fuzz");
    // What is fuzzed is what is shipped; what libFuzzer needs beside that, cargo adds.
    fs::copy(root().join("Cargo.lock"), root().join("tests/fuzz/Cargo.lock")).unwrap();
    let failed: Vec<String> =
        TARGETS.iter().filter_map(|(name, _)| looked_at(name, &built).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
