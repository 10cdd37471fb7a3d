//! Orders that come to a good end.

use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;

use super::*;
use crate::outside::Clock;

#[tokio::test]
async fn a_listener_answers_and_is_closed_again_within_a_second() {
    let (pebble, acme, clock) = (Pebble::start(&[]), acme(), SystemClock::new());
    let ca = pebble.ca();
    let answer = Answer::HttpListener(pebble.http);
    let directory = acme.directory(&ca).await.unwrap();
    assert!(!directory.renewal_info && !directory.external_account_required);
    let off = directory.date.unwrap().duration_since(clock.now()).abs();
    assert!(off < jiff::SignedDuration::from_secs(5), "{directory:?}");
    // The first one makes an account as well.
    let mut took = Vec::new();
    for names in [&["one.test", "two.test"][..], &["one.test"], &["three.test"]] {
        let begun = clock.monotonic();
        let pem = issued(&acme, &ca, names, &answer).await;
        took.push((clock.monotonic() - begun).as_millis());
        assert_eq!(names_of(&pem).len(), names.len());
        assert!(nobody_listens(pebble.http));
    }
    println!("order and finish: {took:?} ms");
    assert!(took.iter().all(|ms| *ms < 1_000), "{took:?}");

    // The account is in a file of its own, and is used again.
    let files = names_in(&pebble.accounts());
    assert_eq!(files.len(), 1, "{files:?}");
    let path = pebble.accounts().join(&files[0]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&pebble.accounts())), (0o600, 0o700));
    let before = std::fs::read(&path).unwrap();
    let again = super::acme();
    issued(&again, &ca, &["four.test"], &answer).await;
    // Other contacts are told to the CA and kept.
    let moved = Authority { contact: vec!["mailto:other@example.com".into()], ..ca.clone() };
    assert_eq!(std::fs::read(&path).unwrap(), before);
    issued(&again, &moved, &["four.test"], &answer).await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("other@example.com"));
    assert_eq!(names_in(&pebble.accounts()), files);

    // Others who may read it have made it worthless.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let trouble = super::acme().order(&ca, &wanted(&["a.test"])).await.unwrap_err();
    assert_eq!(trouble.class, Class::Local, "{trouble}");
}

#[tokio::test]
async fn tls_answers_for_names_and_addresses() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let answer = Answer::TlsAlpn(pebble.tls);
    let names = ["one.test", "two.test", "127.0.0.1"];
    let pem = issued(&acme, &pebble.ca(), &names, &answer).await;
    assert_eq!(names_of(&pem).len(), 3);
    assert!(nobody_listens(pebble.tls));
}

#[tokio::test]
async fn a_folder_of_a_web_server_answers() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let root = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]).arg(root.path());
    command.arg(pebble.http.port().to_string()).stdout(std::process::Stdio::null());
    let _web = server::Server::start(&mut command, pebble.http);
    let answer = Answer::HttpWebroot(root.path().to_owned());
    issued(&acme, &pebble.ca(), &["one.test", "two.test"], &answer).await;
    assert!(names_in(&root.path().join(".well-known/acme-challenge")).is_empty());
}

#[tokio::test]
async fn an_external_account_is_bound() {
    let (pebble, acme) = (Pebble::with(&[], true, free()), acme());
    let answer = Answer::HttpListener(pebble.http);
    let without = pebble.ca();
    assert!(acme.directory(&without).await.unwrap().external_account_required);
    let trouble = acme.order(&without, &wanted(&["one.test"])).await.unwrap_err();
    let kind = (trouble.class, trouble.kind.as_str());
    assert_eq!(kind, (Class::Policy, "externalAccountRequired"));
    let ca = Authority { external: Some(pebble.external(server::EXTERNAL)), ..without };
    issued(&acme, &ca, &["one.test"], &answer).await;
    // Another key is another secret; the CA does not take it, and nobody reads it in the error.
    let wrong = "A".repeat(64);
    let elsewhere = pebble.folder.path().join("elsewhere");
    let external = Some(pebble.external(&wrong));
    let ca = Authority { external, accounts: elsewhere, ..ca };
    let trouble = super::acme().order(&ca, &wanted(&["one.test"])).await.unwrap_err();
    assert_eq!(trouble.class, Class::Policy, "{trouble:?}");
    assert!(!format!("{trouble:?}").contains(&wrong));
}

#[tokio::test]
async fn half_of_all_nonces_are_not_taken_and_all_orders_succeed() {
    let (pebble, acme) = (Pebble::start(&[("PEBBLE_WFE_NONCEREJECT", "50")]), acme());
    let (ca, answer) = (pebble.ca(), Answer::HttpListener(pebble.http));
    let names: Vec<String> = (0..20).map(|each| format!("n{each}.test")).collect();
    let all = names.iter().map(|name| {
        let (acme, ca, answer) = (&acme, &ca, &answer);
        async move { issued(acme, ca, &[name.as_str()], answer).await }
    });
    assert_eq!(join_all(all).await.len(), 20);
    assert_eq!(names_in(&pebble.accounts()).len(), 1, "one account for all of them");
    assert!(nobody_listens(pebble.http));
}

#[tokio::test]
async fn what_is_authorized_already_is_not_answered_again() {
    let (pebble, acme) = (Pebble::start(&[("PEBBLE_AUTHZREUSE", "100")]), acme());
    let ca = pebble.ca();
    issued(&acme, &ca, &["one.test"], &Answer::HttpListener(pebble.http)).await;
    // This could not answer.
    let nowhere = Answer::HttpWebroot("/nowhere".into());
    issued(&acme, &ca, &["one.test"], &nowhere).await;
}

#[tokio::test]
async fn an_order_that_was_cut_off_goes_on_where_it_was() {
    // Nothing is left to be seen after the first order: who drops that order takes its answers away.
    let (pebble, acme) = (Pebble::start(&[("PEBBLE_AUTHZREUSE", "100")]), acme());
    let (ca, answer) = (pebble.ca(), Answer::HttpListener(pebble.http));
    issued(&acme, &ca, &["one.test"], &answer).await;
    let csr = csr(&["one.test"]);
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    // Dropped at many places, each a little later.
    let mut millis = 0;
    let first = loop {
        let finish = acme.finish(&ca, &order.url, &answer, &csr, PATIENCE);
        if let Ok(finished) = tokio::time::timeout(Duration::from_millis(millis), finish).await {
            break finished.unwrap();
        }
        millis += 1;
    };
    // As when the answer was lost: the same again, also from another process.
    let again = acme.finish(&ca, &order.url, &answer, &csr, PATIENCE).await.unwrap();
    let other = super::acme().finish(&ca, &order.url, &answer, &csr, PATIENCE).await.unwrap();
    assert!(first == again && first == other);
    let log = std::fs::read_to_string(pebble.folder.path().join("pebble.log")).unwrap();
    let issued = log.matches("Issued certificate serial").count();
    assert_eq!(issued, 2, "once for each order");
    acme.revoke(&ca, &leaf(&first)).await.unwrap();
    acme.revoke(&ca, &leaf(&first)).await.unwrap();
}

#[tokio::test]
async fn an_account_that_the_ca_has_forgotten_is_made_anew() {
    let (pebble, acme) = (Pebble::start(&[]), acme());
    let ca = pebble.ca();
    let order = acme.order(&ca, &wanted(&["one.test"])).await.unwrap();
    let files = names_in(&pebble.accounts());
    // Another pebble, which knows nobody; as if it were the same CA.
    let other = Pebble::start(&[]);
    let path = pebble.accounts().join(&files[0]);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::create_dir_all(other.accounts()).unwrap();
    let (moved, answer) = (other.ca(), Answer::HttpListener(other.http));
    let made = super::acme().order(&moved, &wanted(&["x.test"])).await.unwrap();
    let place = other.accounts().join(&names_in(&other.accounts())[0]);
    let base = |ca: &Authority| ca.directory.trim_end_matches("/dir").to_owned();
    let text = text.replace(&base(&ca), &base(&moved));
    server::secret(&place, &text);
    let acme = super::acme();
    let trouble = acme.finish(&moved, &made.url, &answer, &csr(&["x.test"]), PATIENCE).await;
    assert_eq!(trouble.unwrap_err().class, Class::OrderGone);
    issued(&acme, &moved, &["one.test"], &answer).await;
    assert_ne!(std::fs::read_to_string(&place).unwrap(), text);
    // Of another account, or of nobody.
    for url in [made.url, order.url.replace(&base(&ca), &base(&moved))] {
        let gone = acme.finish(&moved, &url, &answer, &csr(&["x.test"]), PATIENCE).await;
        assert_eq!(gone.unwrap_err().class, Class::OrderGone, "{url}");
    }
}
