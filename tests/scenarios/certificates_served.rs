//! What is served decides: a hook that says that all is well is not believed, and what may never be served again is not.

use genesis_tests::acme::Pebble;
use genesis_tests::clock::{now, wait_until};
use genesis_tests::tls_client::{certificates, fingerprint};
use genesis_tests::tls_server::Reload;
use jiff::SignedDuration;

use crate::certificates::{DOMAIN, Host};
use genesis_tests::wall_clock::WallClock;

#[test]
fn a_hook_that_lies_is_found_out_what_was_served_comes_back_and_what_was_issued_is_kept() {
    let mut host = Host::new(Pebble::start(), "", "");
    let clock = WallClock::of(&mut host.agent);
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let agent = &host.agent;
    let folder = agent.certificate_folder("gw");
    host.server.ignore_reloads(true);
    let reloads = host.server.reloads();
    agent.ctl(&["cert", "renew", "--force"]).exits(1).says(&["DEPLOY_FAILED", "another one"]);
    // Three times for the new one, once for the one that is back.
    assert_eq!(host.server.reloads() - reloads, 4);
    let back = |host: &Host| {
        assert_eq!(
            std::fs::read_link(folder.join("current")).unwrap(),
            std::path::Path::new("gen-1")
        );
        assert_eq!(host.shown(), host.generation(1));
        assert_eq!(fingerprint(&certificates(&host.served.fullchain)[0]), host.generation(1));
        assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (2, 2));
    };
    back(&host);
    agent.wait_certificate("gw", "STAGED");
    assert!(agent.certificate_events("gw").contains(&"deploy-failed".to_owned()));
    agent.ctl(&["status"]).says(&["CERTIFICATE_NOT_RENEWED", "another one is served"]);
    wait_until("an alert", || agent.firing("gw").is_some());
    // Also by force it is the one that was issued.
    agent.ctl(&["cert", "renew", "--plan", "--force"]).ok().says(&["gen-2", "on the disk"]);
    host.server.reloads_are(Reload::Fails);
    agent.ctl(&["cert", "renew", "--force"]).exits(1).says(&["DEPLOY_FAILED"]);
    back(&host);
    host.server.reloads_are(Reload::Works);
    clock.ahead(SignedDuration::from_mins(4));
    wait_until("the second to be served", || host.shown() == host.generation(2));
    let stands = agent.wait_certificate("gw", "PROVEN");
    assert_eq!(stands["current"]["number"], 2);
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (2, 2));
    agent.ctl(&["cert", "verify"]).ok();
}

#[test]
fn what_has_ended_or_is_compromised_is_never_rolled_back_to_and_is_revoked_and_replaced() {
    let host = Host::started(Pebble::start());
    let agent = &host.agent;
    let ca = &host.private;
    let ends = now() + SignedDuration::from_secs(10);
    let lineage = tempfile::tempdir().unwrap();
    let leaf = ca.issue_within("short", &[DOMAIN], now() - SignedDuration::from_hours(1), ends);
    std::fs::copy(&leaf.fullchain, lineage.path().join("fullchain.pem")).unwrap();
    std::fs::copy(&leaf.key, lineage.path().join("privkey.pem")).unwrap();
    let import = ["cert", "import", "--from", lineage.path().to_str().unwrap(), "--yes"];
    agent.ctl(&import).exits(4).says(&["CERTIFICATE_ENDS_EARLIER", "generation 1", "until"]);
    agent.ctl(&[&import[..], &["--allow-earlier-end"]].concat()).ok();
    assert_eq!(host.shown(), host.generation(2));
    host.renew();
    assert_eq!(host.shown(), host.generation(3));
    wait_until("its end", || now() > ends);
    let to = |number: &str| agent.ctl(&["cert", "rollback", "--to", number, "--yes"]);
    to("2").exits(4).says(&["GENERATION_UNUSABLE", "it ended at", "those that may be: 1"]);

    let serial = |number: usize| host.pebble.issued()[number].clone();
    let mark = ["cert", "mark", "--compromised", "--reason", "it was in a ticket", "--yes"];
    agent.ctl(&mark).ok().says(&["revoked"]);
    assert_eq!(host.pebble.status_of(&serial(1)), "Revoked");
    wait_until("the first to be served", || host.shown() == host.generation(1));
    for number in ["2", "3"] {
        to(number).exits(4).says(&["GENERATION_UNUSABLE", "none of the others may be: "]);
    }
    agent.ctl(&["cert", "rollback", "--yes"]).exits(4).says(&["GENERATION_UNUSABLE"]);
    assert_eq!(host.pebble.status_of(&serial(0)), "Valid");
    assert_eq!(host.pebble.orders(), 2);

    // Now there is none left.
    let before = host.shown();
    agent.ctl(&mark).ok();
    assert_eq!(host.pebble.status_of(&serial(0)), "Revoked");
    let stands = agent.wait_certificate("gw", "PROVEN");
    assert_eq!(stands["current"]["origin"], "CERTIFICATE_ORIGIN_ACME", "{stands:#}");
    wait_until("a new one", || ![&before, &host.generation(3)].contains(&&host.shown()));
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (3, 3));
    to("1").exits(4).says(&["GENERATION_UNUSABLE", "compromised"]);
}
