//! Dependencies, by the agent's own service: 300 pins of Python and the crates of two locks held against what was imported,
//! beside pip-audit and the library of cargo-audit, which are given the same records; and an import of 20,000 records.
//!
//! `GENESIS_OSV=FOLDER cargo bench -p genesis-benches --bench dependencies`, where FOLDER has PyPI.zip and crates.io.zip
//! in OSV's format; without, the few records of the tests stand in, and the figures say little.

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use genesis_agent::emergency::Emergency;
use genesis_agent::events::Bell;
use genesis_agent::operations::dependencies::config::{Config, Managed, Project};
use genesis_agent::operations::dependencies::{Dependencies, Metrics, Scan};
use genesis_agent::outside::Outside;
use genesis_agent::runs::Runs;
use genesis_agent::scheduler::calendar::Schedule;
use genesis_agent::state::State;
use genesis_storage::{Options, Store};
use rustsec::database::Query;
use rustsec::{Collection, Database, Lockfile};
use serde_json::Value;
use support::figures::Figure;
use support::{Outcome, python, quantile};

const RECORDS: usize = 20_000;
const IMPORTS: usize = 5;
const SCANS: usize = 41;
/// The goals, in milliseconds.
const PINS: f64 = 50.0;
const CRATES: f64 = 100.0;
const IMPORT: f64 = 10_000.0;

fn main() -> Outcome<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let real = records()?;
    let archive = folder.path().join("20000.zip");
    repeat(&real, &archive)?;
    let projects = projects(folder.path())?;
    let mut good = true;

    let (mut times, mut last) = (Vec::new(), None);
    for round in 0..IMPORTS {
        let own = folder.path().join(round.to_string());
        let service = runtime.block_on(service(&own, &archive, &projects))?;
        let began = Instant::now();
        let imported = runtime.block_on(service.import_if_changed())?.ok_or("nothing to import")?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        let count = imported.iter().filter_map(|it| it.source.as_ref()).map(|it| it.records);
        assert_eq!(count.sum::<u64>(), RECORDS as u64);
        last = Some(service);
    }
    let service = last.ok_or("no import")?;
    good &= say(&format!("import of {RECORDS} records, one transaction"), &mut times, IMPORT);
    let imported = Figure::new("import of 20,000 records", quantile(&mut times, 0.5), "ms");
    imported.at_most(IMPORT).say()?;

    for (project, goal) in [("pins", PINS), ("crates", CRATES)] {
        let scan = || -> Outcome<Scan> { Ok(runtime.block_on(service.scan(project, None))?) };
        let first = scan()?;
        let [it] = &first.projects[..] else { return Err("no project".into()) };
        assert!(it.unjudged.is_empty(), "{:?}", it.unjudged);
        let what = format!("{} {project}, {} findings, warm", it.judged, it.findings.len());
        let mut times = Vec::new();
        for _ in 0..SCANS {
            let began = Instant::now();
            black_box(scan()?);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        good &= say(&what, &mut times, goal);
        let own = quantile(&mut times, 0.5);
        let root = folder.path().join(project);
        let (name, peer, theirs) = match project {
            "pins" => {
                ("a scan of 300 pins", "pip-audit", pip_audit(folder.path(), &real, &root, own)?)
            }
            _ => {
                let theirs = cargo_audit(folder.path(), &real, &root, own)?;
                ("a scan of two locks' crates", "the library of cargo-audit", Some(theirs))
            }
        };
        Figure::new(name, own, "ms").beside(peer, theirs).at_most(goal).say()?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn say(what: &str, times: &mut [f64], goal: f64) -> bool {
    let [least, median, most] = [0.0, 0.5, 1.0].map(|p| quantile(times, p));
    let met = if median <= goal { "met" } else { "NOT met" };
    println!("{what}: {median:.1} ms, {least:.1} to {most:.1} (goal: {goal:.0}, {met})");
    median <= goal
}

/// The tests' folder of records and locks.
fn fixtures() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../agent/advisories/tests/fixtures"].iter().collect()
}

/// All records of both ecosystems.
fn records() -> Outcome<Vec<Value>> {
    let mut records = Vec::new();
    if let Some(folder) = std::env::var_os("GENESIS_OSV").map(PathBuf::from) {
        for name in ["PyPI.zip", "crates.io.zip"] {
            let mut archive = zip::ZipArchive::new(File::open(folder.join(name))?)?;
            for at in 0..archive.len() {
                let mut text = Vec::new();
                archive.by_index(at)?.read_to_end(&mut text)?;
                records.push(serde_json::from_slice(&text)?);
            }
        }
    } else {
        println!("GENESIS_OSV is not set: few records concern the packages below");
        for entry in fs::read_dir(fixtures().join("osv"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "json") {
                records.push(serde_json::from_slice(&fs::read(path)?)?);
            }
        }
        let lines = fs::read_to_string(fixtures().join("locks/records.jsonl"))?;
        for line in lines.lines() {
            records.push(serde_json::from_str(line)?);
        }
    }
    Ok(records)
}

/// The records, and as many copies under other ids and names as there is room for.
fn repeat(records: &[Value], path: &Path) -> Outcome<()> {
    let mut archive = zip::ZipWriter::new(File::create(path)?);
    for (at, record) in records.iter().cycle().take(RECORDS).enumerate() {
        let (mut record, copy) = (record.clone(), at / records.len());
        if copy > 0 {
            let rename = |value: &mut Value| {
                if let Value::String(text) = value {
                    text.push_str(&format!("-copy{copy}"));
                }
            };
            rename(&mut record["id"]);
            record["aliases"].as_array_mut().into_iter().flatten().for_each(rename);
            let affected = record["affected"].as_array_mut().into_iter().flatten();
            affected.for_each(|it| rename(&mut it["package"]["name"]));
        }
        archive.start_file(format!("{at}.json"), zip::write::SimpleFileOptions::default())?;
        archive.write_all(&serde_json::to_vec(&record)?)?;
    }
    archive.finish()?;
    Ok(())
}

fn projects(folder: &Path) -> Outcome<Vec<Project>> {
    let (pins, crates) = (folder.join("pins"), folder.join("crates"));
    fs::create_dir_all(&pins)?;
    fs::write(pins.join("requirements.txt"), include_str!("support/pins.txt"))?;
    for (name, lock) in [
        ("own", PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")),
        ("miniserve", fixtures().join("locks/miniserve-0.10.3.lock")),
    ] {
        fs::create_dir_all(crates.join(name))?;
        fs::copy(lock, crates.join(name).join("Cargo.lock"))?;
    }
    let project = |name: &str, root: PathBuf, manifests: &[&str]| Project {
        name: name.to_owned(),
        root,
        manifests: manifests.iter().map(PathBuf::from).collect(),
        managed: Managed::default(),
        ignored: Vec::new(),
    };
    Ok(vec![
        project("pins", pins, &["requirements.txt"]),
        project("crates", crates, &["own/Cargo.lock", "miniserve/Cargo.lock"]),
    ])
}

/// The agent's own, on state of its own.
async fn service(
    folder: &Path,
    archive: &Path,
    projects: &[Project],
) -> Outcome<Arc<Dependencies>> {
    fs::create_dir_all(folder)?;
    let store = Store::open(&folder.join("state.redb"), Options::default())?;
    let state = State::new(Arc::new(store), tokio::sync::watch::channel(0).1);
    let always = Duration::from_secs(100 * 365 * 86_400);
    let config = Config {
        advisories: vec![archive.to_owned()],
        kev: None,
        epss: None,
        max_age: always,
        max_silence: always,
        schedule: Schedule::constant("Mon#1 04:00"),
        projects: projects.to_vec(),
    };
    let clock = Outside::real().clock;
    let flag = folder.join("emergency");
    let emergency = Emergency::open(state.clone(), Arc::clone(&clock), flag).await?;
    let runs = Runs::new(state.clone(), clock, emergency);
    Ok(Dependencies::open(
        (state, Outside::real(), runs),
        config,
        (&folder.join("advisories.redb"), folder.to_owned()),
        (Metrics::default(), Bell::default()),
    ))
}

/// A process that ends with this.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// pip-audit has no data of its own: it asks a server of OSV, which is one on this machine.
fn pip_audit(folder: &Path, records: &[Value], root: &Path, own: f64) -> Outcome<Option<f64>> {
    let Some(program) = python::within("pip-audit", &["pip-audit==2.10.1"])? else {
        println!("  pip-audit can't be had");
        return Ok(None);
    };
    let path = folder.join("PyPI.zip");
    let mut archive = zip::ZipWriter::new(File::create(&path)?);
    for (at, record) in records.iter().enumerate() {
        archive.start_file(format!("{at}.json"), zip::write::SimpleFileOptions::default())?;
        archive.write_all(&serde_json::to_vec(record)?)?;
    }
    archive.finish()?;
    let mut serving = Serving(
        Command::new(&program)
            .args(["-c", include_str!("support/osv.py")])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let mut address = String::new();
    let said = serving.0.stdout.take().ok_or("no output")?;
    BufReader::new(said).read_line(&mut address)?;
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..5 {
        let began = Instant::now();
        let output = Command::new(&program)
            .args(["-m", "pip_audit", "-s", "osv", "--osv-url", address.trim(), "-f", "json"])
            .args(["--disable-pip", "--no-deps", "--progress-spinner", "off", "-r"])
            .arg(root.join("requirements.txt"))
            .output()?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        // It exits with 0 too where it audited nothing.
        let report: Value = serde_json::from_slice(&output.stdout)?;
        let packages = report["dependencies"].as_array().ok_or("no report")?;
        assert!(packages.iter().all(|it| it["vulns"].is_array()), "{report}");
        found = packages.iter().filter_map(|it| it["vulns"].as_array()).map(Vec::len).sum();
    }
    let peer = quantile(&mut times, 0.5);
    println!(
        "  pip-audit, its questions answered on this machine: {peer:.0} ms, {found} findings, ratio {:.4}",
        own / peer
    );
    Ok(Some(peer))
}

/// The library of cargo-audit reads its folder of advisories at each start, and then the lock.
fn cargo_audit(folder: &Path, records: &[Value], root: &Path, own: f64) -> Outcome<f64> {
    let database = folder.join("advisory-db");
    for record in records {
        if let Some((name, text)) = markdown(record) {
            let own = database.join("crates").join(name);
            fs::create_dir_all(&own)?;
            fs::write(own.join(format!("{}.md", record["id"].as_str().ok_or("no id")?)), text)?;
        }
    }
    let (mut whole, mut judging, mut found) = (Vec::new(), Vec::new(), 0);
    for _ in 0..15 {
        let began = Instant::now();
        let database = Database::open(&database)?;
        let read = Instant::now();
        found = 0;
        for name in ["own", "miniserve"] {
            let lock = Lockfile::load(root.join(name).join("Cargo.lock"))?;
            let all = Query::new().collection(Collection::Crates).withdrawn(false);
            found += database.query_vulnerabilities(&lock, &all).len();
        }
        judging.push(read.elapsed().as_secs_f64() * 1e3);
        whole.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let (whole, judging) = (quantile(&mut whole, 0.5), quantile(&mut judging, 0.5));
    println!(
        "  the library of cargo-audit: {whole:.1} ms, of which {judging:.1} once its advisories are read, {found} findings, ratio {:.3}",
        own / whole
    );
    Ok(whole)
}

/// A record of RustSec, in order and of one range as they all are, in its own form.
fn markdown(record: &Value) -> Option<(&str, String)> {
    let affected = record["affected"].as_array()?.first()?;
    let name = affected["package"]["name"].as_str()?;
    if affected["package"]["ecosystem"] != "crates.io" {
        return None;
    }
    let (mut patched, mut unaffected, mut fixed) = (Vec::new(), Vec::new(), None);
    for event in affected["ranges"][0]["events"].as_array()? {
        match (event["introduced"].as_str(), fixed.take()) {
            (Some(from), Some(fixed)) if from != fixed => {
                patched.push(format!(">= {fixed}, < {from}"));
            }
            (Some(from), None) if from != "0.0.0-0" => unaffected.push(format!("< {from}")),
            _ => {}
        }
        fixed = event["fixed"].as_str();
    }
    patched.extend(fixed.map(|fixed| format!(">= {fixed}")));
    let word = |key: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("{key} = {value:?}\n"))
    };
    let withdrawn = record["withdrawn"].as_str().and_then(|time| time.get(..10));
    let text = format!(
        "```toml\n[advisory]\nid = {}\npackage = {name:?}\ndate = \"2020-01-01\"\n{}{}\n\
         [versions]\npatched = {patched:?}\nunaffected = {unaffected:?}\n```\n\n# A title\n\n{}\n",
        record["id"],
        word("informational", affected["database_specific"]["informational"].as_str()),
        word("withdrawn", withdrawn),
        record["details"].as_str().unwrap_or_default(),
    );
    Some((name, text))
}
