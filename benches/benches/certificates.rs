//! From an order to the served certificate, beside certbot at the same authority; a rollback; the swap at the agent's own
//! listener; and what a look at a thousand certificates costs.
//!
//! The authority is Debian's pebble, which waits for nothing. certbot is measured where it is installed (`apt-get install
//! certbot`); it does less, since it looks at nothing that is served.
//!
//! `cargo bench -p genesis-benches --bench certificates`

#![allow(clippy::print_stdout, clippy::disallowed_methods)] // Its output, and a benchmark reads the clock.

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use genesis_agent::config::TlsFiles;
use genesis_agent::operations::certificates::disk::Folder;
use genesis_agent::outside::{Clock, SystemClock};
use genesis_agent::server::connection::Connections;
use genesis_agent::server::tls::Tls;
use genesis_tests::acme::Pebble;
use genesis_tests::certificates::{Served, certificate, pebble};
use genesis_tests::private_ca::PrivateCa;
use support::agent::Agent;
use support::cpu::Cpu;
use support::figures::Figure;
use support::{Outcome, quantile};

const DOMAIN: &str = "gw.example.test";
const ORDERS: usize = 20;
const CERTIFICATES: usize = 1_000;
/// How long a look at a thousand certificates is watched.
const WATCHED: Duration = Duration::from_secs(60);
/// The agent looks so often.
const LOOK: f64 = 5.0;
/// Seconds.
const ORDER_GOAL: f64 = 2.0;
const ROLLBACK_GOAL: f64 = 1.0;
const SWAPS: usize = 500;
const SWAP_GOAL: f64 = 0.001;
const LOOK_GOAL: f64 = 0.2;

fn main() -> Outcome<ExitCode> {
    let mut good = swaps()?;
    good &= orders()?;
    good &= a_thousand()?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(what: &str, samples: &mut [f64]) -> (f64, f64) {
    let (median, most) = (quantile(samples, 0.5), quantile(samples, 1.0));
    println!("{what}: {:.0} ms median, {:.0} ms at most", median * 1e3, most * 1e3);
    (median, most)
}

/// Another generation comes into force at the agent's own listener: its files are read and checked, and take the place of
/// the ones before. The link's switch, which waits for the disk, is shown by itself.
fn swaps() -> Outcome<bool> {
    let (ca, state) = (PrivateCa::new(), tempfile::tempdir()?);
    let folder = Folder::of(state.path(), "own");
    for number in [1, 2] {
        let leaf = ca.issue(&format!("gen-{number}"), &[DOMAIN]);
        let place = folder.generation(number);
        fs::create_dir_all(&place)?;
        fs::copy(&leaf.fullchain, place.join("fullchain.pem"))?;
        fs::copy(&leaf.key, place.join("key.pem"))?;
    }
    folder.switch(1)?;
    let current = folder.0.join("current");
    let files = TlsFiles {
        certificate: current.join("fullchain.pem"),
        key: current.join("key.pem"),
        client_ca: ca.roots_file().to_owned(),
        revocation_list: None,
        managed: Some("own".to_owned()),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let connections = Connections::new(16, Arc::clone(&clock));
    let tls = Tls::open(files, "127.0.0.1:0".to_owned(), clock, connections);
    let (mut links, mut swaps) = (Vec::new(), Vec::new());
    for round in 0..SWAPS {
        let began = Instant::now();
        folder.switch(if round % 2 == 0 { 2 } else { 1 })?;
        links.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        if !tls.reload()? {
            return Err("the other generation was not taken over".into());
        }
        swaps.push(began.elapsed().as_secs_f64());
    }
    let micros = |samples: &mut [f64], share| quantile(samples, share) * 1e6;
    println!(
        "the link switched and flushed: {:.0} us median, {:.0} us p99",
        micros(&mut links, 0.5),
        micros(&mut links, 0.99)
    );
    println!(
        "swapped at the listener: {:.0} us median, {:.0} us p99, {:.0} us at most",
        micros(&mut swaps, 0.5),
        micros(&mut swaps, 0.99),
        micros(&mut swaps, 1.0)
    );
    let p99 = quantile(&mut swaps, 0.99);
    Figure::new("swap at the listener, p99", p99 * 1e6, "us").at_most(SWAP_GOAL * 1e6).say()?;
    let link = Figure::new("the link switched and flushed, p99", micros(&mut links, 0.99), "us");
    link.say()?;
    Ok(p99 < SWAP_GOAL)
}

fn orders() -> Outcome<bool> {
    let (authority, folder) = (Pebble::start(), tempfile::tempdir()?);
    let served = Served::in_folder(folder.path(), &[DOMAIN]);
    let server = served.server();
    let own = certificate(&authority, "gw", &[DOMAIN], &served.deployed_to(Some(&server)));
    let config = format!("[certificates]\n{}{own}", pebble(&authority, "limits = \"none\""));
    let agent = Agent::start(folder.path(), &config)?;
    let timed = |arguments: &[&str]| -> Outcome<f64> {
        let began = Instant::now();
        agent.ctl(arguments)?;
        Ok(began.elapsed().as_secs_f64())
    };
    // The first one comes by itself, and is attached to.
    timed(&["cert", "renew"])?;
    let mut ours = Vec::new();
    for _ in 0..ORDERS {
        ours.push(timed(&["cert", "renew", "--force"])?);
    }
    let (median, most) =
        shown("ordered, deployed and seen to be served, by the client's clock", &mut ours);
    let mut back = Vec::new();
    for round in 0..ORDERS {
        let to = if round % 2 == 0 { ORDERS } else { ORDERS + 1 };
        back.push(timed(&["cert", "rollback", "--to", &to.to_string()])?);
    }
    let (_, slowest) = shown("rolled back and seen to be served", &mut back);
    let theirs = certbot(&authority, folder.path())?;
    let order = Figure::new("order to served certificate, median", median * 1e3, "ms");
    order.beside("certbot", theirs.map(|it| it * 1e3)).say()?;
    Figure::new("order to served certificate, at worst", most, "s").at_most(ORDER_GOAL).say()?;
    Figure::new("rolled back and seen to be served, at worst", slowest, "s")
        .at_most(ROLLBACK_GOAL)
        .say()?;
    match theirs {
        Some(theirs) => println!("certbot: {:.0} ms; ratio {:.2}", theirs * 1e3, median / theirs),
        None => println!("certbot is not installed"),
    }
    Ok(most < ORDER_GOAL && slowest < ROLLBACK_GOAL)
}

/// Seconds of a forced renewal by certbot, the median of some.
fn certbot(authority: &Pebble, folder: &Path) -> Outcome<Option<f64>> {
    if Command::new("certbot").arg("--version").output().is_err() {
        return Ok(None);
    }
    let own = folder.join("certbot");
    let mut took = Vec::new();
    for round in 0..6 {
        let began = Instant::now();
        let ended = Command::new("certbot")
            .args([
                "certonly",
                "--standalone",
                "--non-interactive",
                "--agree-tos",
                "--force-renewal",
            ])
            .args(["--register-unsafely-without-email", "--no-random-sleep-on-renew", "-d", DOMAIN])
            .args(["--server", &authority.directory()])
            .args(["--http-01-port", &authority.http_port().to_string()])
            .arg("--config-dir")
            .arg(own.join("config"))
            .arg("--work-dir")
            .arg(own.join("work"))
            .arg("--logs-dir")
            .arg(own.join("logs"))
            .env("REQUESTS_CA_BUNDLE", authority.roots_file())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()?;
        if !ended.status.success() {
            return Err(String::from_utf8_lossy(&ended.stderr).into_owned().into());
        }
        // The first one makes the account.
        if round > 0 {
            took.push(began.elapsed().as_secs_f64());
        }
    }
    Ok(Some(quantile(&mut took, 0.5)))
}

/// What a look at a thousand costs beside an agent without any.
fn a_thousand() -> Outcome<bool> {
    let watch = |agent: &Agent| -> Outcome<f64> {
        let before = Cpu::of_process(agent.pid())?.all();
        std::thread::sleep(WATCHED);
        let used = Cpu::of_process(agent.pid())?.all() - before;
        Ok(used / (WATCHED.as_secs_f64() / LOOK))
    };
    let quiet = "[health]\ndefaults = false\n";
    let bare = tempfile::tempdir()?;
    let without = watch(&Agent::start(bare.path(), quiet)?)?;
    let folder = tempfile::tempdir()?;
    let mut config = quiet.to_owned();
    for number in 0..CERTIFICATES {
        // Without a CA each has one that the agent made itself.
        write!(
            config,
            "[[certificates.certificate]]\nname = \"c{number}\"\ndomains = [\"c{number}.example.test\"]\n"
        )?;
    }
    let agent = Agent::start(folder.path(), &config)?;
    let began = Instant::now();
    loop {
        let listed = agent.ctl(&["cert", "history", "--limit", "1000", "-o", "json"])?;
        let deployed = String::from_utf8_lossy(&listed).matches("\"deployed\"").count();
        // There is no folder before the first one.
        let folders = fs::read_dir(folder.path().join("state/certs")).map_or(0, Iterator::count);
        // The last ones are on their way.
        if folders >= CERTIFICATES && deployed > 0 {
            break;
        }
        if began.elapsed() > Duration::from_secs(900) {
            return Err(format!("{folders} of {CERTIFICATES} after 15 minutes").into());
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    println!(
        "{CERTIFICATES} made, looked at and deployed within {:.0} s",
        began.elapsed().as_secs_f64()
    );
    std::thread::sleep(Duration::from_secs(20));
    let with = watch(&agent)?;
    println!(
        "a look at {CERTIFICATES} certificates: {:.0} ms of CPU, {:.1} ms without any",
        with * 1e3,
        without * 1e3
    );
    Figure::new("a look at 1,000 certificates, added", (with - without) * 1e3, "ms of CPU")
        .at_most(LOOK_GOAL * 1e3)
        .say()?;
    Ok(with - without < LOOK_GOAL)
}
