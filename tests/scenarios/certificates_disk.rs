//! A disk that is full in the middle of a renewal: what is in force stays as it is, and is served.

use std::path::Path;

use genesis_tests::acme::{Fault, Kind, Pebble};
use genesis_tests::tls_client::{certificates, fingerprint};
use genesis_tests::{Ballast, LoopDisk};
use std::time::Duration;

use crate::certificates::Host;

fn empty_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok) {
        let facts = entry.path().symlink_metadata().unwrap();
        if facts.is_dir() {
            found.extend(empty_files(&entry.path()));
        } else if facts.is_file() && facts.len() == 0 {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_disk_that_fills_up_leaves_what_is_in_force_alone_and_the_renewal_goes_through_with_room() {
    let (mut host, proxy) = Host::proxied(Pebble::start(), "", "");
    std::fs::create_dir(host.agent.state()).unwrap();
    let disk = LoopDisk::ext4_at(48, &host.agent.state());
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let (before, folder) = (host.shown(), host.agent.certificate_folder("gw"));
    let untouched = |host: &Host| {
        assert_eq!(host.shown(), before);
        assert_eq!(host.generation(1), before);
        assert_eq!(fingerprint(&certificates(&host.served.fullchain)[0]), before);
        assert_eq!(std::fs::read_link(folder.join("current")).unwrap(), Path::new("gen-1"));
        assert_eq!(empty_files(&folder), Vec::<std::path::PathBuf>::new());
    };
    // Before the key is written, and when the chain comes.
    for when in [None, Some(Kind::Certificate)] {
        let ballast = match when {
            None => {
                let ballast = Ballast::fill(disk.join("filler"));
                host.agent.ctl(&["cert", "renew", "--force"]).exits(1);
                ballast
            }
            Some(kind) => {
                let seen = proxy.requests_of(kind).len();
                proxy.fail(kind, 1, Fault::Delay(Duration::from_secs(3)));
                let asking = host.agent.ctl_command(&["cert", "renew", "--force"]).spawn().unwrap();
                proxy.wait_requests(kind, seen + 1);
                let ballast = Ballast::fill(disk.join("filler"));
                let ended = asking.wait_with_output().unwrap();
                assert_eq!(ended.status.code(), Some(1));
                ballast
            }
        };
        untouched(&host);
        host.agent.ctl(&["cert", "list"]).ok();
        ballast.release();
    }
    let orders = host.pebble.orders();
    host.agent.ctl(&["cert", "renew", "--force"]).ok();
    let stands = host.agent.wait_certificate("gw", "PROVEN");
    let number = stands["current"]["number"].as_u64().unwrap();
    assert!(number > 1, "{stands:#}");
    assert_eq!(host.shown(), host.generation(number.try_into().unwrap()));
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (orders, 2));
    assert_eq!(orders, 2, "the order of the second attempt is gone on with");
    assert_eq!(empty_files(&folder), Vec::<std::path::PathBuf>::new());
    host.agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    drop(host);
    drop(disk);
}
