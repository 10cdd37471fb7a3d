//! The invariants of docs/architecture.md, held against the sources. Each failure names file and line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source line with its place.
pub(crate) struct Line {
    path: String,
    number: usize,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != ".git") {
                walk(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The Rust files below `folder`, relative to the root, without generated ones.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let relative = |path: PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let files: Vec<String> =
        found.into_iter().map(relative).filter(|path| !path.contains("/gen/")).collect();
    assert!(!files.is_empty(), "{folder} holds sources");
    files
}

pub(crate) fn is_test(path: &str) -> bool {
    path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.starts_with("tests/")
        || path.starts_with("benches/")
}

/// The lines of a file outside comments and outside its test module.
pub(crate) fn code(path: &str) -> Vec<Line> {
    let text = fs::read_to_string(root().join(path)).unwrap();
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| Line {
            path: path.to_owned(),
            number: index + 1,
            text: line.to_owned(),
        })
        .collect()
}

/// Fails with every line of `paths` that holds one of `words`.
fn forbid(paths: impl IntoIterator<Item = String>, words: &[&str], why: &str) {
    let mut broken = Vec::new();
    for path in paths {
        for line in code(&path) {
            if words.iter().any(|word| line.text.contains(word)) {
                broken.push(format!("{}:{}: {}", line.path, line.number, line.text.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{why}:\n{}", broken.join("\n"));
}

fn agent_sources() -> Vec<String> {
    files("agent/src").into_iter().filter(|path| !is_test(path)).collect()
}

#[test]
fn a_domain_never_imports_another() {
    let domains = [
        "logs",
        "baselines",
        "experiments",
        "dependencies",
        "matrices",
        "certificates",
        "database",
        "health",
        "breaker",
        "backup",
        "recovery",
        "storage",
        "config_history",
        "vitals",
    ];
    for domain in domains {
        let own: Vec<String> = agent_sources()
            .into_iter()
            .filter(|path| {
                path.contains(&format!("operations/{domain}/"))
                    || path.ends_with(&format!("operations/{domain}.rs"))
            })
            .collect();
        assert!(!own.is_empty(), "operations/{domain} is there");
        for other in domains.iter().filter(|other| **other != domain) {
            forbid(own.clone(), &[&format!("operations::{other}")], "a domain imports another");
        }
    }
}

#[test]
fn wire_types_stop_at_the_edge() {
    let inner = agent_sources().into_iter().filter(|path| {
        let edge = path.ends_with("/rpc.rs") || path.contains("/rpc/");
        !(edge || path.contains("/server/") || path.contains("/outside/"))
    });
    forbid(
        inner,
        &["genesis_proto", "tonic::"],
        "only rpc.rs, server/ and outside/ name the contract or tonic",
    );
    let inner = agent_sources().into_iter().filter(|path| !path.contains("/outside/"));
    let foreign = ["object_store::", "sqlx::", "instant_acme::", "reqwest::", "hyper::client"];
    forbid(inner, &foreign, "only outside/ names libraries that reach the world");
}

#[test]
fn plans_and_statistics_are_pure() {
    let mut pure = files("agent/stats/src");
    pure.extend(files("agent/advisories/src"));
    pure.extend(agent_sources().into_iter().filter(|path| {
        let pure = [
            "/plan.rs",
            "/calendar.rs",
            "/life.rs",
            "/judge.rs",
            "/gates.rs",
            "/matrix.rs",
            "/check.rs",
            "/blockers.rs",
            "database/preflight.rs",
            "database/verify.rs",
            "database/health.rs",
            "database/indexes.rs",
            "certificates/backoff.rs",
            "certificates/due.rs",
            "certificates/budget.rs",
            "certificates/material.rs",
            "baselines/prepare.rs",
            "baselines/calibration.rs",
            "baselines/raw.rs",
            "baselines/export.rs",
            "baselines/exposition.rs",
            "baselines/native.rs",
            "baselines/otlp.rs",
            "baselines/source.rs",
            "experiments/prepare.rs",
            "experiments/tally.rs",
            "matrices/prepare.rs",
            "matrices/hours.rs",
            "matrices/columns.rs",
            "matrices/gaps.rs",
            "matrices/found.rs",
            "matrices/stage.rs",
            "paper/book.rs",
            "paper/desk.rs",
            "paper/quantity.rs",
            "rollback/choose.rs",
            "rollback/diff.rs",
            "recovery/closing.rs",
            "recovery/report.rs",
            "recovery/timeline.rs",
        ];
        pure.iter().any(|end| path.ends_with(end)) || path.contains("/segment/")
    }));
    let words =
        ["async ", ".await", "tracing::", "std::fs", "fs::", "::now()", "std::env", "tokio::"];
    forbid(pure, &words, "pure code holds no async, clock, file system, environment or tracing");
}

#[test]
fn nobody_but_the_clock_reads_time() {
    let sources = [
        "agent/src",
        "agent/stats/src",
        "agent/advisories/src",
        "storage/src",
        "proto/src",
        "ctl/src",
        "ctl/client/src",
    ];
    let others = sources
        .into_iter()
        .flat_map(files)
        .filter(|path| !is_test(path) && !path.ends_with("outside/clock.rs"));
    forbid(
        others,
        &["SystemTime::now", "Instant::now", "Timestamp::now", "env::set_var"],
        "only outside/clock.rs reads time",
    );
    let banned = fs::read_to_string(root().join(".clippy.toml")).unwrap();
    for method in [
        "std::time::SystemTime::now",
        "std::time::Instant::now",
        "std::env::set_var",
        "std::process::exit",
    ] {
        assert!(banned.contains(method), ".clippy.toml bans {method}");
    }
}

#[test]
fn the_database_stays_behind_its_crate() {
    let others = ["agent/src", "ctl/src", "ctl/client/src", "proto/src", "agent/stats/src"];
    forbid(
        others.into_iter().flat_map(files),
        &["redb::"],
        "redb types never leave genesis-storage",
    );
    forbid(
        files("storage/src"),
        &["tokio", "savepoint("],
        "storage knows no runtime, and rollback is by generation",
    );
    let manifests =
        ["agent/Cargo.toml", "ctl/Cargo.toml", "ctl/client/Cargo.toml", "proto/Cargo.toml"];
    for manifest in manifests {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        assert!(
            !text.lines().any(|line| line.starts_with("redb")),
            "{manifest} does not depend on redb"
        );
    }
}

#[test]
fn dependencies_point_one_way() {
    let depends = |manifest: &str, on: &str| {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        text.split("[dev-dependencies]").next().unwrap().lines().any(|line| line.starts_with(on))
    };
    for (manifest, forbidden) in [
        (
            "proto/Cargo.toml",
            &["genesis-storage", "genesis-agent", "genesisctl", "genesis-client", "genesis-stats"]
                [..],
        ),
        (
            "storage/Cargo.toml",
            &["genesis-proto", "genesis-agent", "genesisctl", "genesis-client", "tokio"],
        ),
        ("ctl/Cargo.toml", &["genesis-agent", "genesis-storage"]),
        ("ctl/client/Cargo.toml", &["genesis-agent", "genesis-storage", "genesisctl"]),
        ("agent/Cargo.toml", &["genesisctl", "genesis-client"]),
        ("agent/stats/Cargo.toml", &["genesis-", "tokio"]),
        ("agent/advisories/Cargo.toml", &["genesis-", "tokio"]),
    ] {
        for on in forbidden {
            assert!(!depends(manifest, on), "{manifest} must not depend on {on}");
        }
    }
    let others = agent_sources()
        .into_iter()
        .filter(|path| !path.ends_with("/agent.rs") && !path.ends_with("/main_loop.rs"));
    forbid(others, &["crate::agent::"], "nothing names the composition root");
}

#[test]
fn the_registry_is_walked_without_leaving_out_a_domain() {
    let registry = fs::read_to_string(root().join("agent/src/operations/mod.rs")).unwrap();
    let composition = fs::read_to_string(root().join("agent/src/agent.rs")).unwrap();
    assert!(registry.contains("let Self {"), "operations/mod.rs destructures the registry");
    for text in [&registry, &composition] {
        for pattern in text.split("let ").skip(1).filter_map(|rest| rest.split('=').next()) {
            let registry = pattern.starts_with("Self {") || pattern.starts_with("Operations {");
            assert!(
                !(registry && pattern.contains("..")),
                "the registry is destructured without `..`: {pattern}"
            );
        }
    }
}

#[test]
fn only_render_writes_data_and_nobody_prints() {
    let sources = ["agent/src", "ctl/src", "ctl/client/src", "storage/src"];
    let words = ["println!(", "eprintln!(", "print!(", "dbg!("];
    let found = sources.into_iter().flat_map(files).filter(|path| !is_test(path));
    let mut broken = Vec::new();
    for path in found {
        for line in code(&path) {
            // `print(` of our own is no macro.
            if words.iter().any(|word| line.text.trim_start().starts_with(word)) {
                broken.push(format!("{}:{}", line.path, line.number));
            }
        }
    }
    assert!(broken.is_empty(), "printing goes through a writer: {broken:?}");
}

#[test]
fn files_have_at_most_500_lines() {
    let sources = ["agent", "ctl", "proto", "storage"];
    let long: Vec<String> = sources
        .into_iter()
        .flat_map(files)
        .filter(|path| !is_test(path))
        .map(|path| (fs::read_to_string(root().join(&path)).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > 500)
        .map(|(lines, path)| format!("{path}: {lines}"))
        .collect();
    assert!(long.is_empty(), "split these: {long:?}");
}

#[test]
fn one_crypto_provider() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for banned in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "{banned} is in Cargo.lock");
    }
}

#[test]
fn the_crates_that_were_asked_for_are_used() {
    let all: Vec<String> = ["agent", "ctl", "proto", "storage"]
        .into_iter()
        .flat_map(files)
        .filter(|path| !is_test(path))
        .collect();
    for (name, call) in [
        ("tonic", "Server::builder()"),
        ("prost", "prost::Message"),
        ("tokio", "tokio::spawn("),
        ("redb", "begin_write"),
        ("tracing", "tracing::warn!("),
        ("flate2", "flate2::"),
        ("tower", "tower::{Layer, Service}"),
    ] {
        let used = all.iter().any(|path| code(path).iter().any(|line| line.text.contains(call)));
        assert!(used, "{name} has no call site ({call})");
    }
}

#[test]
fn the_top_level_is_fixed() {
    let folders: BTreeSet<&str> =
        ["agent", "benches", "ctl", "docs", "proto", "storage", "target", "tests"].into();
    let names: BTreeSet<&str> = [
        "CHANGELOG.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "rust-toolchain.toml",
    ]
    .into();
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let known = name.starts_with('.')
            || folders.contains(name.as_str())
            || names.contains(name.as_str());
        assert!(known, "{name} has no place at the top level");
    }
}

#[test]
fn no_test_is_switched_off() {
    let all = ["agent", "ctl", "proto", "storage", "tests", "benches"];
    let needle = concat!("#[", "ignore");
    for path in all.into_iter().flat_map(files) {
        for line in code(&path) {
            assert!(!line.text.trim_start().starts_with(needle), "{}:{}", line.path, line.number);
        }
    }
}

#[test]
fn the_help_of_a_silence_names_every_source_of_alerts() {
    let help = fs::read_to_string(root().join("ctl/src/commands/alerts.rs")).unwrap();
    let listed =
        help.lines().find_map(|line| line.trim().strip_prefix("/// Alerts of this source: "));
    let listed: BTreeSet<&str> = listed.unwrap().trim_end_matches('.').split(", ").collect();
    // What alerting says of itself.
    let mut found = BTreeSet::from(["alerts".to_owned()]);
    for path in files("agent/src").into_iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(root().join(path)).unwrap();
        for block in text.split("Source for ").skip(1) {
            let name = block.split_once("fn name(&self) -> &'static str {");
            let name = name.and_then(|(_, rest)| rest.split('"').nth(1));
            found.extend(name.map(str::to_owned));
        }
    }
    assert!(found.contains("certificate"), "{found:?}");
    assert_eq!(listed, found.iter().map(String::as_str).collect());
}
