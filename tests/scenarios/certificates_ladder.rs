//! What takes the place of a certificate that has ended: the one for need, and at last one that nobody trusts.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use genesis_tests::acme::{Fault, Kind, Pebble};
use genesis_tests::alerts::{channel, secret};
use genesis_tests::certificates::proxied;
use genesis_tests::clock::{Watch, now, wait_until, wait_until_within};
use genesis_tests::http_script::{Heard, HttpScript, says};
use genesis_tests::private_ca::{Leaf, PrivateCa};
use genesis_tests::tls_client::{certificates, fingerprint};
use jiff::SignedDuration;

use crate::certificates::{DOMAIN, Host};
use genesis_tests::wall_clock::WallClock;

/// A folder as certbot leaves it: links into its archive.
fn certbot(folder: &Path, leaf: &Leaf) -> PathBuf {
    let (live, archive) = (folder.join("live/gw"), folder.join("archive/gw"));
    std::fs::create_dir_all(&live).unwrap();
    std::fs::create_dir_all(&archive).unwrap();
    let text = std::fs::read_to_string(&leaf.fullchain).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    let split = text.find(end).unwrap() + end.len();
    let files = [
        ("cert", text[..split].to_owned()),
        ("chain", text[split..].to_owned()),
        ("fullchain", text.clone()),
        ("privkey", std::fs::read_to_string(&leaf.key).unwrap()),
    ];
    for (name, text) in files {
        std::fs::write(archive.join(format!("{name}3.pem")), text).unwrap();
        let link = live.join(format!("{name}.pem"));
        let _ = std::fs::remove_file(&link);
        symlink(format!("../../archive/gw/{name}3.pem"), link).unwrap();
    }
    live
}

fn of(leaf: &Leaf) -> String {
    fingerprint(&certificates(&leaf.fullchain)[0])
}

fn ends_in(ca: &PrivateCa, seconds: i64) -> (Leaf, jiff::Timestamp) {
    let ends = now() + SignedDuration::from_secs(seconds);
    (ca.issue_within("ends", &[DOMAIN], now() - SignedDuration::from_hours(1), ends), ends)
}

fn import(host: &Host, leaf: &Leaf, more: &[&str]) {
    let live = certbot(host.folder(), leaf);
    let import = ["cert", "import", "--from", live.to_str().unwrap(), "--yes"];
    host.agent.ctl(&[&import[..], more].concat()).ok();
    assert_eq!(host.shown(), of(leaf));
}

/// A host whose CA is down, and a page for those who are called.
fn without_a_ca(more: &str) -> (Host, genesis_tests::acme::FaultProxy, HttpScript, WallClock) {
    let pager = HttpScript::start([], says(202, "{}"));
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    let clock = WallClock::of(&mut host.agent);
    proxy.fail_always(Kind::Any, Fault::Status(503));
    let key = secret(host.folder(), "pd", "key");
    let lines = format!("url = {:?}\nsecret_file = {key:?}", pager.url("/"));
    let alerts = format!(
        "[alerts]\ngroup = \"0s\"\ncritical = [\"pd\"]\n{}",
        channel("pd", "pagerduty", &lines)
    );
    let cas = proxied(&host.pebble, &proxy, "");
    host.configure(more, &cas, "");
    let text = std::fs::read_to_string(host.agent.config()).unwrap();
    host.agent.configure(&format!("{text}\n{alerts}"));
    (host, proxy, pager, clock)
}

fn triggers(heard: &[Heard], word: &str) -> usize {
    let of = |it: &&Heard| it.json()["event_action"] == "trigger" && it.body.contains(word);
    heard.iter().filter(of).count()
}

#[test]
fn what_certbot_has_ordered_comes_into_service_as_a_generation() {
    let mut host = Host::new(Pebble::start(), "", "");
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let leaf = host.private.issue("certbot", &[DOMAIN]);
    import(&host, &leaf, &[]);
    let stands = host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!(stands["current"]["number"], 2, "{stands:#}");
    assert_eq!(stands["current"]["origin"], "CERTIFICATE_ORIGIN_IMPORTED", "{stands:#}");
    assert_eq!(host.generation(2), of(&leaf));
    host.agent.ctl(&["cert", "rollback", "--yes"]).ok();
    assert_eq!((host.shown(), host.pebble.orders()), (host.generation(1), 1));
    // Its key in another's place is noticed before anything is written.
    let other = host.private.issue("other", &[DOMAIN]);
    let mixed = Leaf { fullchain: leaf.fullchain, key: other.key };
    let live = certbot(host.folder(), &mixed);
    host.agent.ctl(&["cert", "unpin"]).ok();
    let refused = host.agent.ctl(&["cert", "import", "--from", live.to_str().unwrap(), "--yes"]);
    refused.exits(4).says(&["CERTIFICATE_UNUSABLE"]);
}

#[test]
fn at_its_end_the_one_for_need_takes_over_within_seconds_until_a_ca_issues_another() {
    let (mut host, proxy, pager, clock) = without_a_ca("");
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    let backup = host.private.issue("backup", &[DOMAIN]);
    let install = ["cert", "install-backup", "--yes", "--fullchain"];
    let files = [backup.fullchain.to_str().unwrap(), "--key", backup.key.to_str().unwrap()];
    let (ending, ends) = ends_in(&host.private, 15);
    import(&host, &ending, &[]);
    host.agent.ctl(&[&install[..], &files[..]].concat()).ok();
    assert_eq!(host.shown(), of(&ending), "it is kept for need");
    wait_until("its end", || now() >= ends);
    let watch = Watch::start();
    wait_until("the one for need to be served", || host.shown() == of(&backup));
    assert!(watch.elapsed() < Duration::from_secs(12), "{:?}", watch.elapsed());
    wait_until("it to be noted", || {
        host.agent.certificate("gw")["current"]["origin"] == "CERTIFICATE_ORIGIN_BACKUP"
    });
    assert_eq!(triggers(&pager.heard(), "longer than"), 0);
    assert_eq!(host.pebble.orders(), 0);
    // It only stands in: what is to be had is ordered as soon as it is.
    host.agent.wait_certificate("gw", "BACKOFF");
    proxy.heal();
    clock.ahead(SignedDuration::from_mins(4));
    host.agent.wait_certificate("gw", "PROVEN");
    wait_until("an ordered one", || {
        host.agent.certificate("gw")["current"]["origin"] == "CERTIFICATE_ORIGIN_ACME"
    });
    host.agent.ctl(&["cert", "verify"]).ok();
    assert_eq!(host.pebble.orders(), 1);
}

#[test]
fn a_ca_that_hangs_in_the_middle_of_an_order_keeps_nothing_from_service() {
    let (mut host, proxy, _pager, _clock) = without_a_ca("");
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    let (ending, ends) = ends_in(&host.private, 40);
    import(&host, &ending, &[]);
    proxy.heal();
    proxy.fail_always(Kind::Authz, Fault::Hangs);
    let waiting = host.agent.ctl_command(&["cert", "renew", "--force"]).spawn();
    proxy.wait_requests(Kind::Authz, 1);
    wait_until_within(Duration::from_secs(60), "its end", || now() >= ends);
    wait_until_within(Duration::from_secs(20), "another to be served", || {
        host.shown() != of(&ending)
    });
    assert!(now() < ends + SignedDuration::from_secs(20));
    let mut waiting = waiting.unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

#[test]
fn with_nothing_else_left_people_are_called_once_again_after_a_while_and_no_more_when_it_is_over() {
    let (mut host, proxy, pager, clock) = without_a_ca("self_signed_for = \"60s\"");
    proxy.heal();
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    proxy.fail_always(Kind::Any, Fault::Status(503));
    let (ending, ends) = ends_in(&host.private, 12);
    import(&host, &ending, &["--allow-earlier-end"]);
    let mark = ["cert", "mark", "--compromised", "--reason", "it was in a ticket", "--yes"];
    host.agent.ctl(&[&mark[..], &["--generation", "1"]].concat());
    wait_until("its end", || now() >= ends);
    wait_until("another to be served", || host.shown() != of(&ending));
    let stands = host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    assert!(stands["selfSignedSince"].is_string(), "{stands:#}");
    host.agent.ctl(&["status"]).says(&["DEGRADED_SELF_SIGNED"]);
    let called = || triggers(&pager.heard(), "self-signed certificate is in service");
    wait_until("people to be called", || called() > 0);
    let calls = called();
    host.agent.restart();
    let again = || triggers(&pager.heard(), "longer than");
    wait_until_within(Duration::from_secs(100), "them to be called again", || again() > 0);
    assert_eq!((called(), again()), (calls, 1), "{:#?}", pager.heard());
    host.agent.restart();
    host.agent.wait_nothing_waits();
    assert_eq!((called(), again()), (calls, 1), "{:#?}", pager.heard());
    proxy.heal();
    clock.ahead(SignedDuration::from_mins(4));
    host.agent.wait_certificate("gw", "PROVEN");
    // The mark could not be told the CA, which was down.
    host.agent.ctl(&["schedule", "run", "certificates.check"]).ok();
    let over = || {
        let heard = pager.heard();
        heard.iter().filter(|it| it.json()["event_action"] == "resolve").count()
    };
    wait_until_within(Duration::from_secs(90), "the ends to be told", || over() >= 2);
    let watch = Watch::start();
    while let Some(firing) = host.agent.firing("gw") {
        // An attempt that fails again is the same alert, which has not come and gone by it.
        assert!(
            watch.elapsed() < Duration::from_secs(60) && firing["flapping"] != true,
            "{firing:#}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!((called(), again()), (1, 1), "{:#?}", pager.heard());
}

#[test]
fn what_is_damaged_on_the_disk_is_passed_over_and_the_ladder_goes_on() {
    let host = Host::started(Pebble::start());
    let backup = host.private.issue("backup", &[DOMAIN]);
    let files = [&backup.fullchain, &backup.key].map(|file| file.to_str().unwrap().to_owned());
    let install = ["cert", "install-backup", "--yes", "--fullchain", &files[0], "--key", &files[1]];
    host.agent.ctl(&install).ok();
    host.renew();
    let folder = host.agent.certificate_folder("gw");
    std::fs::write(folder.join("gen-1/key.pem"), "").unwrap();
    std::fs::remove_file(folder.join("backup/key.pem")).unwrap();
    let mark = ["cert", "mark", "--compromised", "--reason", "it was in a ticket", "--yes"];
    host.agent.ctl(&mark);
    wait_until("a new one", || {
        let stands = host.agent.certificate("gw");
        stands["current"]["origin"] == "CERTIFICATE_ORIGIN_ACME"
            && stands["current"]["number"].as_u64().unwrap() > 2
    });
    host.agent.wait_certificate("gw", "PROVEN");
    assert_eq!(host.pebble.orders(), 3);
    let back = host.agent.ctl(&["cert", "rollback", "--to", "1", "--yes"]);
    back.exits(4).says(&["GENERATION_UNUSABLE"]);
    // The one for need is not in service, and is no use on the day when it is to be.
    host.agent.ctl(&["cert", "verify"]).exits(3).says(&["backup", "No such file"]);
    host.agent.ctl(&install).ok();
    host.agent.ctl(&["cert", "verify"]).ok().says(&["backup", "until"]);
}

#[test]
fn killed_before_something_takes_its_place_it_is_taken_by_the_next_one() {
    let (mut host, _proxy, _pager, _clock) = without_a_ca("");
    host.agent.start_with_failpoint("step.self-sign", 1);
    host.agent.wait_killed();
    host.agent.start();
    host.agent.wait_certificate("gw", "DEGRADED_SELF_SIGNED");
    let backup = host.private.issue("backup", &[DOMAIN]);
    let (ending, ends) = ends_in(&host.private, 40);
    import(&host, &ending, &[]);
    let install = ["cert", "install-backup", "--yes", "--fullchain"];
    let files = [backup.fullchain.to_str().unwrap(), "--key", backup.key.to_str().unwrap()];
    host.agent.ctl(&[&install[..], &files[..]].concat()).ok();
    host.agent.terminate();
    host.agent.start_with_failpoint("step.take-backup", 1);
    wait_until("its end", || now() >= ends);
    host.agent.wait_killed();
    assert_eq!(host.shown(), of(&ending), "nothing has taken its place yet");
    host.agent.start();
    wait_until("the one for need to be served", || host.shown() == of(&backup));
    host.agent.ctl(&["oplog", "verify"]).ok();
}
