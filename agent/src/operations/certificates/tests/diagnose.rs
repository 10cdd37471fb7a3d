//! Why an attempt failed, also where not everything answers.

use super::super::failed::Failed;
use super::host::{GW, Host, trouble};
use super::*;
use crate::outside::acme::Class;

const SECOND: &str = "[[certificates.acme]]\nname = \"second\"\ndirectory = \"https://second.example/\"\nterms_agreed = true\n";

#[tokio::test]
async fn a_ca_that_hangs_keeps_nothing_else_from_being_found() {
    let host = Host::with(days(6), &format!("{SECOND}\n{GW}"), false).await;
    host.ca.set(|mood| mood.hangs = Some("ca"));
    let certificate = host.certificates.named("gw").unwrap();
    let config = host.certificates.config.load_full();
    let failed = Failed::at(config.ca("ca").unwrap(), trouble(Class::Server, None));
    let looked = host.certificates.diagnose(&certificate, &failed);
    let found = tokio::time::timeout(seconds(15), looked).await.expect("it takes no longer");
    let of = |code: &str, subject: &str| {
        found.iter().find(|it| it.0 == code && it.1 == subject).map(|it| it.2.as_str())
    };
    assert!(of("CA_UNREACHABLE", "ca").is_some_and(|it| it.contains("no answer within 6 s")));
    assert!(of("CA_REACHABLE", "second").is_some(), "{found:?}");
    assert!(of("BACKUP_CERTIFICATE_MISSING", "gw").is_some(), "{found:?}");
}
