//! The agent's own listeners serve a managed certificate, and take over another one while clients come and go.

use std::time::Duration;

use genesis_agent::pki::Role;
use genesis_tests::TestAgent;
use genesis_tests::acme::Pebble;
use genesis_tests::certificates::{certificate, pebble};
use genesis_tests::clock::wait_until;
use genesis_tests::pki::Authority;
use genesis_tests::tls_client::{TlsClient, certificates, fingerprint};

use super::certificates::DOMAIN;

/// An agent whose gRPC and HTTPS serve the certificate "own".
fn host(pebble_: &Pebble, clients: &Authority) -> TestAgent {
    let own = certificate(pebble_, "own", &[DOMAIN, "127.0.0.1"], "");
    let quoted = |path: std::path::PathBuf| format!("{:?}", path.display().to_string());
    let text = format!(
        "[listen]\nhttp = \"127.0.0.1:0\"\nhttps = \"127.0.0.1:0\"\ngrpc = \"127.0.0.1:0\"\n[fleet]\nname = \"test\"\n[tls]\n\
         managed = \"own\"\nclient_ca = {}\nrevocation_list = {}\n{}{own}",
        quoted(clients.dir().join("ca.pem")),
        quoted(clients.revocation_list()),
        pebble(pebble_, "limits = \"none\""),
    );
    TestAgent::started(|_| text)
}

fn leaf(agent: &TestAgent, number: u32) -> String {
    let file = agent.certificate_folder("own").join(format!("gen-{number}/fullchain.pem"));
    fingerprint(&certificates(&file)[0])
}

#[test]
fn the_agents_own_listeners_serve_it_and_swap_it_under_load() {
    let six_days = Duration::from_secs(6 * 86_400);
    let pebble = Pebble::options().validity(six_days).start();
    let clients = Authority::new("test");
    let agent = host(&pebble, &clients);
    // Seen at its own listener, which was without a certificate before.
    agent.wait_certificate("own", "PROVEN");
    // A life of six days is no emergency from its first second on.
    let listed = agent.ctl(&["pki", "list", "-o", "json"]);
    assert!(!listed.text().contains("PKI_EXPIRING"), "{}", listed.text());
    let viewer = clients.client(Role::Viewer);
    let client = |address| {
        TlsClient::new(address, DOMAIN)
            .trusting(pebble.issuer_roots_file())
            .showing(&viewer.certificate_pem, &viewer.key_pem)
    };
    let page = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client(agent.https()).asking(page).handshake().unwrap();
    // Who shows none is not served.
    let stranger = TlsClient::new(agent.https(), DOMAIN).asking(page).handshake();
    assert!(stranger.is_err(), "{stranger:?}");
    agent.ctl(&["cert", "renew", "--force"]).ok();
    wait_until("the second to be served", || {
        client(agent.grpc()).handshake().is_ok_and(|der| fingerprint(&der) == leaf(&agent, 2))
    });
    // Swaps while clients come and go: each sees the one or the other.
    let swaps = if std::env::var_os("GENESIS_LONG").is_some() { 100 } else { 20 };
    let hammers = [client(agent.grpc()).hammer(2), client(agent.https()).hammer(2)];
    for swap in 0..swaps {
        let to = if swap % 2 == 0 { "1" } else { "2" };
        agent.ctl(&["cert", "rollback", "--to", to]).ok();
        for hammer in &hammers {
            hammer.wait_more(if swaps == 100 { 100 } else { 10 });
        }
    }
    let both = [leaf(&agent, 1), leaf(&agent, 2)];
    for hammer in hammers {
        let seen = hammer.stop();
        assert!(seen.failures.is_empty(), "{:?}", seen.failures);
        assert_eq!(seen.leaves.iter().cloned().collect::<Vec<_>>(), {
            let mut both = both.to_vec();
            both.sort();
            both
        });
        println!("{} handshakes during {swaps} swaps", seen.handshakes);
    }
}
