//! An agent with a part of everything: what each domain has to do is configured, and there is something to do it with.

#![allow(clippy::disallowed_methods)] // A benchmark reads the clock.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use genesis_tests::private_ca::PrivateCa;
use rusqlite::Connection;

use super::Outcome;
use super::agent::Agent;
use super::traffic::Traffic;
use super::watched::{Watched, for_agent};

/// The pace of the fifty checks.
const PACE: Duration = Duration::from_secs(30);
/// Series of which there is a matrix, and their rows of five minutes.
const SERIES: usize = 50;
const ROWS: u64 = 576;
/// Operations that have baselines' material, and calls of each.
const OPERATIONS: usize = 20;
const CALLS: usize = 5_000;

/// Certificates in service.
const CERTIFICATES: usize = 5;

/// Answers every request with 200 and a small exposition of Prometheus, for ever: what is scraped, and who is told.
pub(crate) fn answering() -> Outcome<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        let mut asked = 0_u64;
        for mut stream in listener.incoming().flatten() {
            asked += 1;
            // Who goes away meanwhile needs no answer.
            let _ = answer(&mut stream, asked);
        }
    });
    Ok(port)
}

fn answer(stream: &mut TcpStream, asked: u64) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (mut request, mut piece) = (Vec::new(), [0; 4_096]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&piece[..count]),
        }
    }
    let mut body = "# TYPE calls_seconds histogram\n".to_owned();
    for (bound, share) in [("0.01", 2), ("0.1", 8), ("1", 10), ("+Inf", 10)] {
        let _ = writeln!(body, "calls_seconds_bucket{{le=\"{bound}\"}} {}", asked * share);
    }
    let _ = writeln!(body, "calls_seconds_sum {}\ncalls_seconds_count {}", asked, asked * 10);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    )
}

/// Its configuration, with fifty checks beside the built-in ones. The folder has what it names.
pub(crate) fn config(folder: &Path, watched: &Watched, ca: &PrivateCa) -> Outcome<String> {
    let port = answering()?;
    let place = |name: &str| folder.join(name);
    for name in ["archive", "backups"] {
        fs::create_dir_all(place(name))?;
    }
    fs::write(place("trading.log"), "2026-01-01T00:00:00Z started\n")?;
    fs::write(place("orders.log"), "{\"ts\": \"2026-01-01T00:00:00Z\"}\n")?;
    let token = place("token");
    fs::write(&token, "bench\n")?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
    fs::create_dir_all(place("project"))?;
    fs::write(place("project/requirements.txt"), include_str!("pins.txt"))?;
    let database = place("journal.db");
    Connection::open(&database)?.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE orders (id INTEGER PRIMARY KEY, price INTEGER);
         INSERT INTO orders (price) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         SELECT i * 7919 % 10007 FROM n; CREATE INDEX orders_price ON orders (price);",
    )?;
    let advisories: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "../agent/advisories/tests/fixtures/osv"].iter().collect();
    let advisories = fs::canonicalize(advisories)?;
    let mut text = format!(
        r#"
[contacts]
on_call = "whoever is awake"

[logs.archive]
url = "file://{archive}"

[[logs.source]]
type = "trading"
paths = [{trading:?}]
reopen = "by-itself"

[[logs.source]]
type = "orders"
paths = [{orders:?}]
timestamp = {{ json = "ts" }}
reopen = "by-itself"

[[database.instance]]
name = "journal"
url = "sqlite:{database}"
trades_probe = "none"

[[database.instance.bench]]
name = "by-price"
sql = "SELECT count(*) FROM orders WHERE price = 5"

[backup]
folder = {backups:?}
level = "L2"

[[backup.source]]
name = "journal"
row_counts = ["orders"]

[certificates]
extra_roots_file = {roots:?}

[alerts]
critical = ["hook"]
high = ["hook"]
medium = ["hook"]
low = ["hook"]

[alerts.heartbeat]
channel = "hook"

[alerts.channel.hook]
kind = "webhook"
url = "http://127.0.0.1:{port}/"

[baselines]
otlp_token_file = {token:?}

[[baselines.scrape]]
url = "http://127.0.0.1:{port}/metrics"
metric = "calls_seconds"
operation = "scraped"

[matrices]
min_points = "100"

[dependencies]
advisories = [{advisories:?}]

[[dependencies.project]]
name = "strategies"
root = {project:?}
manifests = ["requirements.txt"]
"#,
        archive = place("archive").display(),
        trading = place("trading.log"),
        orders = place("orders.log"),
        database = database.display(),
        backups = place("backups"),
        project = place("project"),
        roots = ca.roots_file(),
    );
    for number in 0..CERTIFICATES {
        let _ = write!(
            text,
            "[[certificates.certificate]]\nname = \"c{number}\"\ndomains = [\"c{number}.example.test\"]\n\
             [[breaker.operation]]\nname = \"operation-{number}\"\nslow_after = \"100ms\"\n"
        );
    }
    Ok(text + &for_agent("c", &watched.well(), PACE))
}

/// Gives it something to do it with: an experiment, a matrix of series, and observations of a day.
pub(crate) fn fill(agent: &Agent, folder: &Path, ca: &PrivateCa) -> Outcome<()> {
    let why = ["--reason", "bench"];
    agent.ctl(&[&["param", "set", "--strategy", "mm", "threshold=1"], &why[..]].concat())?;
    let create = ["experiment", "create", "--strategy", "mm", "--param", "threshold:2"];
    agent.ctl(&[&create[..], &["--split", "50/50"], &why].concat())?;
    for number in 0..CERTIFICATES {
        let (name, from) = (format!("c{number}"), folder.join(format!("from-{number}")));
        let leaf = ca.issue(&name, &[&format!("{name}.example.test")]);
        fs::create_dir_all(&from)?;
        fs::copy(&leaf.fullchain, from.join("fullchain.pem"))?;
        fs::copy(&leaf.key, from.join("privkey.pem"))?;
        let from = from.to_string_lossy();
        agent.ctl(&[&["cert", "import", "--domain", &name, "--from", &from], &why[..]].concat())?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut traffic = Traffic::new(11);
    let mut calls = "operation,timestamp,latency_s\n".to_owned();
    for operation in 0..OPERATIONS {
        for call in 0..CALLS {
            let at = now - 3_600 + (call as u64 * 3_500 / CALLS as u64);
            let _ = writeln!(calls, "operation-{operation},{at},{:.6}", traffic.latency());
        }
    }
    let mut prices = "series,timestamp,value\n".to_owned();
    let mut price = [100.0; SERIES];
    for row in 0..ROWS {
        let at = now - (ROWS - row) * 300;
        for (series, price) in price.iter_mut().enumerate() {
            *price *= 1.0 + 0.002 * (traffic.uniform() - 0.5);
            let _ = writeln!(prices, "S{series},{at},{price:.6}");
        }
    }
    for (name, text, command) in
        [("calls.csv", calls, &["observe"][..]), ("prices.csv", prices, &["series", "push"])]
    {
        let path = folder.join(name);
        fs::write(&path, text)?;
        agent.ctl(&[command, &["--file", &path.to_string_lossy()]].concat())?;
    }
    agent.ctl(&[&["matrix", "update"], &why[..]].concat())?;
    agent.ctl(&["backup", "run", "--reason", "bench"]).map(drop)
}
