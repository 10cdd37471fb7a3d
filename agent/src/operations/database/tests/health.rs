//! How a database is said to be.

use crate::operations::database::health::{Ways, identity};
use crate::operations::database::record::Truth;
use crate::outside::database::postgres::Proof;

fn open(host: &str) -> Result<Proof, String> {
    Ok(Proof::Nothing { host: host.to_owned(), mode: "require" })
}

#[test]
fn a_server_elsewhere_that_proves_nothing_is_found() {
    let here = || Ok(Proof::Here);
    let verified = || Ok(Proof::Certificate("verify-full"));
    let odd = || Err("odd".to_owned());
    for (direct, server, pooler, truth, value, says) in [
        (true, here(), None, Truth::Pass, "url: this host", ""),
        (true, verified(), Some(here()), Truth::Pass, "url: verify-full, pgbouncer: this host", ""),
        (true, open("db.example"), None, Truth::Fail, "url: require", "sslmode=verify-full"),
        (
            true,
            open("db.example"),
            Some(here()),
            Truth::Fail,
            "url: require",
            "as db.example (url)",
        ),
        (
            true,
            here(),
            Some(open("pool.example")),
            Truth::Fail,
            "pgbouncer: require",
            "as pool.example (pgbouncer)",
        ),
        // What is behind a pool is not known, and what is before it may be wrong all the same.
        (false, here(), None, Truth::Unknown, "url: this host", "a pool is there"),
        (false, verified(), None, Truth::Unknown, "url: verify-full", "a pool is there"),
        (false, open("db.example"), None, Truth::Fail, "url: require", "as db.example"),
        (true, odd(), None, Truth::Unknown, "", "odd"),
        (
            true,
            odd(),
            Some(open("pool.example")),
            Truth::Fail,
            "pgbouncer: require",
            "pool.example",
        ),
    ] {
        let ways = Ways { direct, server, pooler };
        let item = identity(&ways);
        assert_eq!((item.truth, item.value.as_str()), (truth, value), "{ways:?}: {item:?}");
        assert!(item.evidence.contains(says), "{item:?}");
        assert_eq!(item.name, "server-identity");
    }
}
