//! The daily check: what it says it knows, it knows; and nothing keeps it from the rest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use genesis_storage::RunState;
use tokio::net::TcpListener;

use super::super::Config;
use super::host::{GW, Host};
use super::*;

#[tokio::test]
async fn what_could_not_be_seen_is_not_said_to_be_well() {
    let named = GW.replace("192.0.2.7", "gw.example.com");
    let host = Host::with(days(90), &named, false).await;
    host.look().await;
    assert_eq!(host.check().await.state, RunState::Succeeded);
    // Nobody listens there.
    host.certificates.is_served_by_us("gw".to_owned(), "127.0.0.1:1".to_owned());
    let ended = host.check().await;
    assert_eq!(ended.state, RunState::Unknown, "{ended:?}");
    assert!(ended.summary.contains("not known: gw: served: "), "{ended:?}");
}

#[tokio::test]
async fn a_certificate_that_a_reload_removes_ends_no_check_of_the_others() {
    let other = "[[certificates.certificate]]\nname = \"a\"\ndomains = [\"192.0.2.8\"]\n\n";
    let host = Host::with(days(90), &format!("{other}{GW}"), false).await;
    host.look().await;
    assert_eq!(host.ca.issued().len(), 2);
    host.clock.advance(days(60) + seconds(HOUR));
    let shut = host.ca.gate.write().await;
    let reload = async {
        let waits = |name: &str| host.runs.active_with_key(&super::super::key(name)).is_some();
        while !(waits("a") && waits("gw")) {
            tokio::task::yield_now().await;
        }
        let mut config = Config::clone(&host.certificates.config.load_full());
        config.certificates.retain(|it| it.name == "gw");
        host.certificates.config.store(Arc::new(config));
        drop(shut);
    };
    let (ended, ()) = tokio::join!(host.check(), reload);
    assert_eq!(ended.state, RunState::Succeeded, "{ended:?}");
    assert_eq!(host.standing().record.generation, 2, "{ended:?}");
}

#[tokio::test]
async fn lists_are_looked_at_after_what_is_due_and_each_has_its_turn() {
    let one = |n: usize| {
        format!("[[certificates.certificate]]\nname = \"c{n}\"\ndomains = [\"192.0.2.{n}\"]\n\n")
    };
    let all = (100..159).map(one).collect::<String>() + GW;
    let host = Host::with(days(90), &all, false).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/list/{{n}}", listener.local_addr().unwrap());
    host.ca.set(|mood| mood.list = Some(url));
    // Which lists were asked for, and how many certificates there were then.
    let seen = Arc::<Mutex<Vec<(String, usize)>>>::default();
    let (noted, ca) = (Arc::clone(&seen), Arc::clone(&host.ca));
    let asked = move |Path(n): Path<String>| async move {
        noted.lock().unwrap().push((n, ca.issued().len()));
        "no list"
    };
    let pages = Router::new().route("/list/{n}", get(asked));
    let server = tokio::spawn(async move { axum::serve(listener, pages).await });
    let ended = host.check().await;
    assert_eq!(host.ca.issued().len(), 60, "{ended:?}");
    assert!(ended.summary.contains("10 revocation lists were not looked at"), "{ended:?}");
    let first = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(first.len(), 50);
    assert!(first.iter().all(|(_, issued)| *issued == 60), "the renewals come first: {first:?}");
    host.clock.advance(days(1));
    host.check().await;
    server.abort();
    let both: BTreeSet<String> =
        first.into_iter().chain(seen.lock().unwrap().drain(..)).map(|(n, _)| n).collect();
    assert_eq!(both.len(), 60, "each within two days");
}
