//! Orders that are late, given up, or can't be looked at; and deployments that nobody takes.

use std::sync::atomic::Ordering;

use genesis_storage::{CertificateOrigin, CertificateTrouble};

use super::super::budget::{ORDERED, UNUSABLE};
use super::host::{GW, Host, trouble};
use super::*;
use crate::outside::acme::Class;

/// A second CA whose certificates lead to no root; `cas` of the certificate follows.
const SECOND: &str = "[[certificates.acme]]\nname = \"second\"\ndirectory = \"https://second.example/\"\nterms_agreed = true\n";

#[tokio::test]
async fn each_ca_keeps_the_order_that_is_late_there() {
    let host = Host::with(days(6), &format!("{SECOND}\n{GW}"), false).await;
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::Server, None)));
    host.look().await;
    assert_eq!(host.ca.ordered(), 2, "one after the other");
    for _ in 0..24 {
        host.on(HOUR).await;
    }
    assert_eq!(host.ca.ordered(), 2, "both are gone on with");
    let standing = host.standing();
    let mut numbers: Vec<u32> = standing.record.orders.iter().map(|it| it.generation).collect();
    numbers.extend(standing.generations.iter().map(|it| it.number));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "each has a number of its own, and so has what stands in");
    host.ca.set(|mood| mood.stuck = None);
    host.on(HOUR).await;
    assert_eq!((host.ca.ordered(), host.ca.issued().len()), (2, 1));
    let standing = host.standing();
    assert_eq!(standing.current().map(|it| it.origin), Some(CertificateOrigin::Acme));
    assert_eq!(standing.record.orders, [], "one is enough");
    // What the other CA may have issued all the same counts there.
    let used = host.certificates.budget("").unwrap();
    let sets: Vec<u32> =
        used.iter().filter(|it| it.2.limit == "identifier-set").map(|it| it.2.used).collect();
    assert_eq!(sets, [1, 1]);
}

#[tokio::test]
async fn an_order_that_is_late_outlives_the_refusal_of_another_ca() {
    // The one that is late is asked first, the other one refuses each time.
    let gw = format!("{GW}acme = [\"second\", \"ca\"]\n");
    let host = Host::with(days(6), &format!("{SECOND}\n{gw}"), false).await;
    host.ca.set(|mood| {
        mood.stuck = Some(trouble(Class::Server, None));
        mood.refuses = Some(trouble(Class::Server, None));
    });
    host.look().await;
    for _ in 0..24 {
        host.on(HOUR).await;
    }
    assert_eq!(host.events(ORDERED).len(), 1);
    let order = host.standing().record.orders.first().map(|it| it.generation);
    let order = order.unwrap_or_else(|| panic!("{:#?}", host.standing()));
    let numbers = super::numbers(&host.certificates.folder("gw"));
    assert!(numbers.contains(&order), "its key is there: {numbers:?}");
}

#[tokio::test]
async fn what_can_t_be_looked_at_is_neither_ordered_nor_thrown_away() {
    let host = Host::new(days(6)).await;
    let roots = host.roots();
    let aside = roots.with_extension("aside");
    std::fs::rename(&roots, &aside).unwrap();
    host.look().await;
    assert_eq!(host.ca.ordered(), 0, "without roots nothing could be looked at");
    let backoff = host.standing().record.backoff.unwrap();
    assert_eq!(backoff.trouble, CertificateTrouble::Local, "{backoff:?}");
    std::fs::rename(&aside, &roots).unwrap();
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::Server, None)));
    host.on(HOUR).await;
    assert_eq!(host.ca.ordered(), 1);
    // Meanwhile somebody renews the roots, and it is issued.
    std::fs::rename(&roots, &aside).unwrap();
    host.ca.set(|mood| mood.stuck = None);
    host.on(HOUR).await;
    assert_eq!(host.events(UNUSABLE).len(), 0);
    std::fs::rename(&aside, &roots).unwrap();
    host.on(HOUR).await;
    assert_eq!((host.ca.ordered(), host.ca.issued().len()), (1, 1), "the same order");
    assert_eq!(host.standing().current().map(|it| it.origin), Some(CertificateOrigin::Acme));
}

#[tokio::test]
async fn an_order_whose_key_is_gone_is_placed_anew() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.stuck = Some(trouble(Class::Server, None)));
    host.look().await;
    let order = host.standing().record.orders[0].generation;
    std::fs::remove_file(host.certificates.folder("gw").generation(order).join("key.pem")).unwrap();
    host.ca.set(|mood| mood.stuck = None);
    host.on(HOUR).await;
    assert_eq!((host.ca.ordered(), host.ca.issued().len()), (2, 1));
    assert!(host.standing().record.generation > order);
}

#[tokio::test]
async fn a_state_that_was_lost_gives_no_number_that_is_on_the_disk() {
    let host = Host::new(days(6)).await;
    let folder = host.certificates.folder("gw");
    std::fs::create_dir_all(folder.generation(7)).unwrap();
    std::fs::write(folder.generation(7).join("key.pem"), "of before").unwrap();
    host.look().await;
    assert_eq!(host.standing().record.generation, 8);
    assert_eq!(std::fs::read(folder.generation(7).join("key.pem")).unwrap(), b"of before");
}

#[tokio::test]
async fn a_failure_counts_for_the_configuration_that_it_was_of() {
    let host = Host::new(days(6)).await;
    host.ca.set(|mood| mood.refuses = Some(trouble(Class::Policy, None)));
    // It is mended while the CA is still thinking about it.
    let shut = host.ca.gate.write().await;
    host.certificates.look_once().await.unwrap();
    while host.ca.directories.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    host.configure(&GW.replace("renew_before = \"30d\"", "renew_before = \"20d\"")).await;
    drop(shut);
    host.idle().await;
    assert_eq!(host.ca.ordered(), 1);
    host.ca.set(|mood| mood.refuses = None);
    host.on(60).await;
    assert_eq!(host.ca.issued().len(), 1, "it is tried at once");
}

#[tokio::test]
async fn where_nobody_takes_what_signs_itself_people_are_called_again_all_the_same() {
    let hook = "hook = { command = [\"/bin/false\"], timeout = \"5s\" }\n";
    let host = Host::with(days(6), &format!("{GW}{hook}"), false).await;
    host.ca.set(|mood| mood.down = true);
    host.look().await;
    host.on(60).await;
    let origin = host.standing().current().map(|it| it.origin);
    assert_eq!(origin, Some(CertificateOrigin::SelfSigned));
    assert!(host.standing().record.deploying.is_some_and(|it| it.failed));
    for _ in 0..4 {
        host.on(HOUR).await;
    }
    let told = host.told();
    for key in ["self-signed", "self-signed-escalated"] {
        assert!(told.contains(&key.to_owned()), "{told:?}");
    }
    // A real one stays in place, though nobody takes it either: it is no worse. Hooks are asked ever less.
    host.ca.set(|mood| mood.down = false);
    for _ in 0..6 {
        host.on(HOUR).await;
    }
    let standing = host.standing();
    assert_eq!(standing.current().map(|it| it.origin), Some(CertificateOrigin::Acme));
    assert_eq!(host.ca.issued().len(), 1);
    let before = host.events("deploy-failed").len();
    for _ in 0..6 * 12 {
        host.on(300).await;
    }
    let more = host.events("deploy-failed").len() - before;
    assert!((4..=8).contains(&more), "{more} in six hours: {:#?}", host.standing());
}
