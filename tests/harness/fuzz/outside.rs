//! What other programs say: certificates, the tools of backups, the trading system.

use genesis_agent::operations::backup::plan::Tool;
use genesis_agent::operations::backup::tools::{checked, parse, restore_command};
use genesis_agent::operations::certificates::material;
use genesis_agent::outside::control::{VENUES, book_printed, orders_printed};
use genesis_agent::server::tls::identity;
use jiff::Timestamp;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::{NOW, text};

/// So many bytes of certificates are read.
const CERTIFICATES: usize = 64 << 10;
/// So many letters of an issuer are kept.
const ISSUER: usize = 200;

/// Certificates and keys, in PEM or one in DER: what is a chain is one as it is written, and what a certificate says is
/// sorted, short, and fit for a terminal. Nobody vouches for it.
pub fn certificates(data: &[u8]) {
    if data.len() > CERTIFICATES {
        return;
    }
    let now = Timestamp::from_second(NOW).expect("it is a time");
    let nobody = RootCertStore::empty();
    leaf(&CertificateDer::from(data));
    let _ = (identity::read(data), material::chain_alone(data));
    let key = material::key(data);
    let Ok(chain) = material::chain(data) else { return };
    assert_eq!(material::chain(&material::text(&chain)).as_ref(), Ok(&chain));
    for certificate in &chain {
        leaf(certificate);
        let _ = identity::read(certificate);
    }
    assert!(material::verifies(&chain, &nobody, now).is_err());
    assert!(material::is_revoked(&chain, &nobody, data, now).is_err());
    if let Ok(key) = key {
        let _ = material::matches(&chain, &key);
    }
}

fn leaf(certificate: &CertificateDer<'_>) {
    let Ok(leaf) = material::leaf(certificate) else { return };
    assert!(leaf.identifiers.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", leaf.identifiers);
    assert!(leaf.issuer.chars().count() <= ISSUER);
    assert!(!leaf.issuer.chars().any(char::is_control), "{:?}", leaf.issuer);
    assert_eq!(leaf.fingerprint, material::fingerprint(certificate));
    for name in leaf.identifiers.iter().map(String::as_str).chain(["localhost", "*.a.test"]) {
        let _ = material::is_for(certificate, name);
    }
}

/// A byte that names a tool, then what it prints: what it does not prove is not taken for proven.
pub fn backup_tools(data: &[u8]) {
    let Some((which, printed)) = data.split_first() else { return };
    let tool = Tool::ALL[usize::from(*which) % Tool::ALL.len()];
    if let Err(why) = parse(tool, printed) {
        assert!(why.contains(tool.name()), "{why}");
    }
    let text = text(printed);
    let place = "20261122-010000F";
    for succeeded in [false, true] {
        let _ = checked(tool, place, succeeded, printed, &text);
    }
    if let Some(command) = restore_command(&text) {
        let written = format!("a = 'b'\nrestore_command = '{}'\n", command.replace('\'', "''"));
        assert_eq!(restore_command(&written), Some(command));
    }
}

/// What a trading system's command prints of its positions and orders: a position is of the venue that was asked about,
/// not flat, there once, and the same as it is written; and of orders exactly those are told that were asked about.
pub fn control_answers(data: &[u8]) {
    if let Ok(book) = book_printed(data, "a") {
        assert!(book.venues.len() <= VENUES && book.venues.iter().any(|venue| venue == "a"));
        let mut symbols: Vec<&str> = Vec::new();
        for position in &book.positions {
            assert_eq!(position.venue, "a");
            assert!(!position.quantity.is_zero());
            symbols.push(&position.symbol);
        }
        symbols.sort_unstable();
        assert!(symbols.windows(2).all(|pair| pair[0] != pair[1]), "{symbols:?}");
        let rows = book.positions.iter().map(|position| {
            let quantity = position.quantity.to_string();
            json!({ "venue": position.venue, "symbol": position.symbol, "quantity": quantity })
        });
        let rows: Vec<_> = rows.collect();
        let again = json!({ "positions": rows, "venues": ["a"] }).to_string();
        let again = book_printed(again.as_bytes(), "a").expect("it reads as it is written");
        assert_eq!(again.positions, book.positions);
        assert!(again.odd.is_empty(), "{:?}", again.odd);
    }
    let _ = book_printed(data, "");
    if let Ok(told) = orders_printed(data, &["1", "2"]) {
        let mut ids: Vec<&str> = told.iter().map(|order| order.id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["1", "2"]);
        assert!(told.iter().all(|order| !order.why.chars().any(char::is_control)));
    }
}
