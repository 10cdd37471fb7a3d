//! Hosts that archive in one place: each finds the others' lines, those of hosts that are gone as well.

use std::path::Path;

use genesis_tests::s3::S3;
use genesis_tests::{TestAgent, lines, source};

fn host(name: &str, s3: &S3, more: &[&str]) -> TestAgent {
    let archive = s3.config("fleet", "5s");
    let mut agent = TestAgent::new(|log| {
        let sources = ["trading"].iter().chain(more);
        let sources = sources.map(|it| source(it, &log.join(format!("{it}.log")), "1GB"));
        archive + &sources.collect::<String>()
    });
    agent.hostname(name);
    agent.start();
    agent
}

/// Archives these lines as segments of their own.
fn archive(agent: &TestAgent, log_type: &str, parts: &[(u64, u64)]) -> String {
    let mut all = String::new();
    let before = agent.segments(log_type).len();
    for (from, until) in parts {
        let text = lines::text(*from..*until);
        let path = agent.log(&format!("{log_type}.log"));
        std::fs::write(&path, &text).unwrap();
        agent.rotate(log_type);
        all.push_str(&text);
    }
    agent.wait_verified(log_type, before + parts.len());
    all
}

fn retrieve(agent: &TestAgent, log_type: &str, more: &[&str]) -> genesis_tests::Output {
    let what = ["logs", "retrieve", "--log-type", log_type, "--date-range", lines::DAY];
    agent.ctl(&[&what[..], more].concat())
}

/// Each line behind its host's name.
fn named(host: &str, text: &str) -> String {
    text.lines().map(|line| format!("{host}: {line}\n")).collect()
}

#[test]
fn any_host_finds_the_lines_of_all_that_archive_in_one_bucket() {
    let s3 = S3::start();
    let one = host("web-1", &s3, &[]);
    let mut two = host("web-2", &s3, &["orders"]);
    let mut three = host("web-3", &s3, &[]);
    retrieve(&one, "trading", &["--all-hosts"]).ok().says(&["no archived lines"]);
    let of_one = archive(&one, "trading", &[(0, 300), (300, 500)]);
    let of_two = archive(&two, "trading", &[(100, 400), (400, 900)]);
    let orders = archive(&two, "orders", &[(0, 50)]);
    let of_three = archive(&three, "trading", &[(7, 9)]);
    // Two of them are gone for good; the archive is what is left of them.
    two.kill();
    three.kill();
    drop((two, three));

    let got = retrieve(&one, "trading", &["--host", "web-2"]).ok();
    assert!(got.text() == of_two, "byte for byte");
    let got = retrieve(&one, "trading", &["--host", "web-1"]).ok();
    assert!(got.text() == of_one, "its own, from its catalogue");
    let all = retrieve(&one, "trading", &["--all-hosts"]).ok().says(&["of 2 other hosts only"]);
    let wanted = named("web-1", &of_one) + &named("web-2", &of_two) + &named("web-3", &of_three);
    assert!(all.text() == wanted, "{}", &all.text()[..200]);
    // A type that this host has no source of.
    let got = retrieve(&one, "orders", &["--host", "web-2"]).ok();
    assert!(got.text() == orders);
    retrieve(&one, "orders", &[]).exits(1).says(&["LOG_TYPE_UNKNOWN"]);
    // A part of the range, into a file.
    let out = one.folder().join("all.log");
    let range = "2024-03-01T00:00:00.004Z..2024-03-01T00:00:00.0042Z";
    let part = ["logs", "retrieve", "--log-type", "trading", "--date-range", range];
    let into = ["--all-hosts", "--out", out.to_str().unwrap(), "-o", "json"];
    let said = one.ctl(&[&part[..], &into].concat()).ok().response();
    let part = lines::text(200..210);
    let wanted = named("web-1", &part) + &named("web-2", &part);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), wanted);
    assert_eq!((&said["archivedOnly"], &said["lines"]), (&"2".into(), &"20".into()), "{said}");
    let plan = retrieve(&one, "trading", &["--all-hosts", "--plan", "-o", "json"]).ok().response();
    assert_eq!(plan["segments"], "5", "{plan}");

    let said = retrieve(&one, "trading", &["--host", "web-9"]).exits(1);
    said.says(&["HOST_UNKNOWN", "web-1, web-2, web-3"]);
    retrieve(&one, "trades", &["--host", "web-2"]).exits(1).says(&["LOG_TYPE_UNKNOWN", "nobody"]);
    retrieve(&one, "../orders", &["--host", "web-2"]).exits(1).says(&["LOG_TYPE_UNKNOWN"]);
    retrieve(&one, "trading", &["--host", "web-2", "--all-hosts"]).exits(2);
}

/// The objects of a host's segments with this ending, in order.
fn objects(root: &Path, host: &str, ending: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = walk(root)
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&format!("{host}-")) && name.ends_with(ending)
        })
        .collect();
    found.sort();
    found
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn what_is_damaged_of_another_host_is_named_and_the_rest_is_there() {
    let s3 = S3::start();
    let one = host("web-1", &s3, &[]);
    let two = host("web-2", &s3, &[]);
    archive(&two, "trading", &[(0, 100), (100, 200), (200, 300), (300, 400)]);
    let root = s3.objects().join("fleet");
    let manifests = objects(&root, "web-2", ".manifest.json");
    let data = objects(&root, "web-2", ".log.gz");
    assert_eq!((manifests.len(), data.len()), (4, 4));
    std::fs::remove_file(&manifests[0]).unwrap();
    // Another one's manifest in its place, and bytes that are not those that were sealed.
    std::fs::copy(&manifests[3], &manifests[1]).unwrap();
    let mut bytes = std::fs::read(&data[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&data[2], bytes).unwrap();
    let got = retrieve(&one, "trading", &["--host", "web-2"]).exits(5);
    assert!(got.text() == lines::text(300..400), "{}", got.text().lines().count());
    got.says(&[
        "3 gaps",
        "MANIFEST_MISSING",
        "MANIFEST_DAMAGED",
        "SEGMENT_DAMAGED",
        "web-2-trading",
    ]);
}

#[test]
fn what_another_host_of_this_name_has_archived_is_neither_hidden_nor_taken_for_ones_own() {
    let s3 = S3::start();
    let one = host("twin", &s3, &[]);
    let other = host("twin", &s3, &[]);
    // Their segments have names of their own by the times of their first lines.
    let of_one = archive(&one, "trading", &[(0, 100)]);
    let of_other = archive(&other, "trading", &[(100, 200)]);
    for more in [&["--all-hosts"][..], &["--host", "twin"]] {
        let said = retrieve(&one, "trading", more).ok();
        said.clone().says(&["2 hosts have the name twin", "rebuild-catalog"]);
        let prefix = if more.len() == 1 { "twin: " } else { "" };
        for line in of_one.lines().chain(of_other.lines()) {
            assert!(said.text().contains(&format!("{prefix}{line}\n")), "{line}");
        }
        assert_eq!(said.text().lines().count(), 200);
    }
    assert!(retrieve(&one, "trading", &[]).ok().text() == of_one, "its own are its own");
}

#[test]
fn a_host_that_is_a_copy_of_another_is_noticed() {
    let s3 = S3::start();
    let mut one = host("web-1", &s3, &[]);
    archive(&one, "trading", &[(0, 100)]);
    one.kill();
    let mut copy = TestAgent::new(|log| {
        s3.config("fleet", "5s") + &source("trading", &log.join("trading.log"), "1GB")
    });
    std::fs::create_dir(copy.state()).unwrap();
    std::fs::copy(one.state().join("state.redb"), copy.state().join("state.redb")).unwrap();
    copy.hostname("web-2");
    copy.start();
    archive(&copy, "trading", &[(100, 200)]);
    one.start();
    let said = retrieve(&one, "trading", &["--all-hosts"]).ok();
    said.says(&["web-1 and web-2 have one identity"]);
}
