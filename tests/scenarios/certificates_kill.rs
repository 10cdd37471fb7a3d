//! `kill -9` at every step of an order: the agent that comes after goes on from there, and leaves nothing behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use genesis_tests::TestAgent;
use genesis_tests::acme::{Fault, Kind, Pebble};
use genesis_tests::clock::{wait_for, wait_until};
use genesis_tests::private_ca::Leaf;
use genesis_tests::tls_client::{certificates, fingerprint, handshake};
use serde_json::Value;

use crate::certificates::{DOMAIN, Host};

/// Where it is cut off, at which time it comes by there, and whether an order is placed by then.
const POINTS: [(&str, u64, bool); 12] = [
    ("run.started", 1, false),
    ("step.order", 1, false),
    ("step.issue", 1, true),
    ("step.stage", 1, true),
    ("certificates.chain-written", 1, true),
    ("step.deploy", 1, true),
    ("certificates.deploying", 1, true),
    ("certificates.switched", 1, true),
    ("certificates.copied", 1, true),
    ("certificates.copied", 2, true),
    ("certificates.placed", 1, true),
    ("run.before-end", 1, true),
];

fn public_key(arguments: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).arg("-in").arg(file).output().unwrap();
    assert!(output.status.success(), "{file:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A key and a certificate belong together, as somebody else's tool tells.
#[track_caller]
fn fits(fullchain: &Path, key: &Path) {
    let of_key = public_key(&["pkey", "-pubout"], key);
    let of_certificate = public_key(&["x509", "-noout", "-pubkey"], fullchain);
    assert_eq!(of_key, of_certificate, "{fullchain:?}");
}

fn numbers(certificate: &Value) -> BTreeSet<u64> {
    let earlier = certificate["earlier"].as_array().into_iter().flatten();
    let all = earlier.chain(std::iter::once(&certificate["current"]));
    all.filter_map(|it| it["number"].as_u64()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the link leads to is whole, whenever it is there.
#[track_caller]
fn current_is_whole(agent: &TestAgent) {
    let current = agent.certificate_folder("gw").join("current");
    if !current.exists() {
        assert!(current.symlink_metadata().is_err(), "a link that leads nowhere");
        return;
    }
    fits(&current.join("fullchain.pem"), &current.join("key.pem"));
    let meta = std::fs::read(current.join("meta.json")).unwrap();
    let meta: Value = serde_json::from_slice(&meta).unwrap();
    assert_eq!(meta["sha256"], fingerprint(&certificates(&current.join("fullchain.pem"))[0]));
}

/// All is as if nothing had happened, with a generation after this one, or, with `same`, with this one. Its number.
#[track_caller]
fn sound(host: &Host, before: u64, same: bool) -> u64 {
    let agent = &host.agent;
    let (stands, number) = wait_for(&format!("generation {before}, same: {same}"), || {
        let stands = agent.wait_certificate("gw", "PROVEN");
        let number = stands["current"]["number"].as_u64().unwrap();
        ((number == before) == same && number >= before).then_some((stands, number))
    });
    let folder = agent.certificate_folder("gw");
    let link = std::fs::read_link(folder.join("current")).unwrap();
    assert_eq!(link, Path::new(&format!("gen-{number}")));
    current_is_whole(agent);
    fits(&host.served.fullchain, &host.served.key);
    let in_force = fingerprint(&certificates(&folder.join("current/fullchain.pem"))[0]);
    assert_eq!(host.shown(), in_force);
    assert_eq!(fingerprint(&certificates(&host.served.fullchain)[0]), in_force);
    let mut wanted: BTreeSet<String> =
        numbers(&stands).iter().map(|number| format!("gen-{number}")).collect();
    for generation in &wanted {
        let mut files = names(&folder.join(generation));
        files.sort();
        assert_eq!(files, ["fullchain.pem", "key.pem", "meta.json"], "{generation}");
    }
    wanted.insert("current".to_owned());
    assert_eq!(names(&folder).into_iter().collect::<BTreeSet<_>>(), wanted);
    let left = names(host.folder()).into_iter().filter(|name| name.contains("new"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    number
}

fn renewing(agent: &TestAgent) -> Child {
    let mut renew = agent.ctl_command(&["cert", "renew", "--force"]);
    renew.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_first_order_that_is_cut_off_anywhere_is_gone_on_with() {
    for (point, nth, _) in POINTS {
        let mut host = Host::new(Pebble::start(), "", "");
        host.agent.start_with_failpoint(point, nth);
        host.agent.wait_killed();
        current_is_whole(&host.agent);
        host.agent.start();
        println!("{point}:{nth}");
        sound(&host, 0, false);
        assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (1, 1), "{point}:{nth}");
    }
}

#[test]
fn a_renewal_that_is_cut_off_anywhere_is_gone_on_with() {
    let mut host = Host::new(Pebble::start(), "keep = \"100\"", "limits = \"none\"");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let mut number = 1;
    for (point, nth, placed) in POINTS {
        println!("{point}:{nth}");
        let (orders, before) = (host.pebble.orders(), host.shown());
        host.agent.terminate();
        host.agent.start_with_failpoint(point, nth);
        host.agent.wait_ready();
        let mut asking = renewing(&host.agent);
        host.agent.wait_killed();
        // It may have ended by itself.
        let _ = asking.kill();
        asking.wait().unwrap();
        current_is_whole(&host.agent);
        handshake(host.server.address(), DOMAIN, Some(host.pebble.issuer_roots_file()));
        host.agent.start();
        number = sound(&host, number, !placed);
        assert_eq!(host.pebble.orders(), orders + usize::from(placed), "{point}:{nth}");
        assert_eq!(host.pebble.issued().len(), host.pebble.orders(), "{point}:{nth}");
        assert_eq!(host.shown() != before, placed, "{point}:{nth}");
    }
}

#[test]
fn a_rollback_that_is_cut_off_anywhere_is_gone_on_with_and_stays() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "limits = \"none\"");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    host.renew();
    sound(&host, 2, true);
    // A CA that fails, so that the next attempt waits, keeps nothing from service.
    proxy.fail_always(Kind::Any, Fault::Status(503));
    host.agent.ctl(&["cert", "renew", "--force"]).exits(1);
    host.agent.wait_certificate("gw", "BACKOFF");
    for (point, nth) in [
        ("certificates.deploying", 1),
        ("certificates.switched", 1),
        ("certificates.copied", 1),
        ("certificates.copied", 2),
        ("certificates.placed", 1),
    ] {
        println!("{point}:{nth}");
        host.agent.terminate();
        host.agent.start_with_failpoint(point, nth);
        host.agent.wait_ready();
        let mut rollback = host.agent.ctl_command(&["cert", "rollback", "--yes"]);
        let rollback = rollback.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(!rollback.success());
        host.agent.wait_killed();
        current_is_whole(&host.agent);
        host.agent.start();
        let stands = wait_for("generation 1", || {
            let stands = host.agent.wait_certificate("gw", "BACKOFF");
            (stands["current"]["number"] == 1).then_some(stands)
        });
        assert!(stands["pinnedAt"].is_string(), "{stands:#}");
        fits(&host.served.fullchain, &host.served.key);
        host.agent.ctl(&["schedule", "run", "certificates.check"]);
        assert_eq!(host.shown(), host.generation(1));
        let events = host.agent.certificate_events("gw");
        let last = events.iter().rfind(|it| ["deployed", "rolled-back"].contains(&it.as_str()));
        assert_eq!(last.map(String::as_str), Some("rolled-back"), "{events:?}");
        host.agent.ctl(&["cert", "unpin"]).ok();
        wait_until("the newest", || host.shown() == host.generation(2));
        wait_until("it to be noted", || host.agent.certificate("gw")["current"]["number"] == 2);
    }
    assert_eq!(host.pebble.orders(), 2);
}

#[test]
fn an_order_whose_answer_was_lost_with_the_agent_is_placed_once_more_and_its_key_is_not_left() {
    let pebble = Pebble::start();
    let (mut host, proxy) = Host::proxied(pebble, "", "");
    proxy.fail(Kind::NewOrder, 1, Fault::HoldsAnswer);
    host.agent.start();
    proxy.wait_requests(Kind::NewOrder, 1);
    wait_until("the order", || host.pebble.orders() == 1);
    host.agent.kill();
    host.agent.start();
    let number = sound(&host, 1, false);
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (2, 1));

    proxy.fail(Kind::NewOrder, 1, Fault::HoldsAnswer);
    let mut asking = renewing(&host.agent);
    wait_until("the order", || host.pebble.orders() == 3);
    host.agent.kill();
    asking.kill().unwrap();
    asking.wait().unwrap();
    let key = format!("gen-{}/key.pem", number + 1);
    assert!(host.agent.certificate_folder("gw").join(key).exists());
    host.agent.start();
    sound(&host, number, true);
    host.renew();
    sound(&host, number, false);
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (4, 2));
}

#[test]
fn one_for_need_is_left_when_its_replacement_is_cut_off() {
    let mut host = Host::started(Pebble::start());
    let ca = &host.private;
    let (first, second) = (ca.issue("first", &[DOMAIN]), ca.issue("second", &[DOMAIN]));
    let installing = |agent: &TestAgent, leaf: &Leaf| {
        let mut install = agent.ctl_command(&["cert", "install-backup", "--yes", "--fullchain"]);
        install.arg(&leaf.fullchain).arg("--key").arg(&leaf.key);
        install.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    assert!(installing(&host.agent, &first).wait().unwrap().success());
    let folder = host.agent.certificate_folder("gw");
    let kept = || {
        fits(&folder.join("backup/fullchain.pem"), &folder.join("backup/key.pem"));
        fingerprint(&certificates(&folder.join("backup/fullchain.pem"))[0])
    };
    let of = |leaf: &Leaf| fingerprint(&certificates(&leaf.fullchain)[0]);
    for (point, left) in
        [("certificates.written-beside", &first), ("certificates.put-in-place", &second)]
    {
        host.agent.terminate();
        host.agent.start_with_failpoint(point, 1);
        host.agent.wait_ready();
        let mut asking = installing(&host.agent, &second);
        host.agent.wait_killed();
        // It may have ended by itself.
        let _ = asking.kill();
        asking.wait().unwrap();
        assert_eq!(kept(), of(left), "{point}");
        host.agent.start();
        assert_eq!(kept(), of(left), "{point}");
        let mut there = names(&folder);
        there.sort();
        assert_eq!(there, ["backup", "current", "gen-1"], "{point}");
    }
    assert!(installing(&host.agent, &second).wait().unwrap().success());
    let noted = host.agent.certificate("gw")["backup"]["fingerprint"].clone();
    assert_eq!((noted, kept()), (of(&second).into(), of(&second)));
}

#[test]
fn what_a_crash_may_have_left_is_cleared_away_and_what_is_whole_stays() {
    let mut host = Host::started(Pebble::start());
    host.agent.terminate();
    let folder = host.agent.certificate_folder("gw");
    for place in [".new-7/gen-7", "gen-8"] {
        std::fs::create_dir_all(folder.join(place)).unwrap();
        std::fs::write(folder.join(place).join("key.pem"), "half a key").unwrap();
    }
    std::fs::write(folder.join("gen-1/.fullchain.pem.genesis-new"), "half").unwrap();
    std::os::unix::fs::symlink("gen-9", folder.join(".current.new")).unwrap();
    host.agent.start();
    sound(&host, 1, true);
}
