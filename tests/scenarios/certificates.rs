//! Certificates from a real CA: ordered, deployed, seen to be served, renewed, taken back.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use genesis_tests::TestAgent;
use genesis_tests::acme::{FaultProxy, Pebble};
use genesis_tests::certificates::{Served, certificate, pebble, proxied};
use genesis_tests::private_ca::PrivateCa;
use genesis_tests::tls_client::{certificates, fingerprint, handshake};
use genesis_tests::tls_server::TlsServer;

/// The name that most of these certificates are for.
pub(crate) const DOMAIN: &str = "gw.example.test";

/// A host with one certificate, which a server serves.
pub(crate) struct Host {
    pub(crate) pebble: Pebble,
    pub(crate) server: TlsServer,
    pub(crate) served: Served,
    pub(crate) agent: TestAgent,
    /// A CA whose root the agent knows, for what people give.
    pub(crate) private: PrivateCa,
    folder: tempfile::TempDir,
}

impl Host {
    /// `more` is what `[certificates]` says, `ca` what `[[certificates.acme]]` says besides.
    pub(crate) fn new(pebble_: Pebble, more: &str, ca: &str) -> Self {
        let ca = pebble(&pebble_, ca);
        Self::of_cas(pebble_, more, &ca)
    }

    /// As [`Host::new`], with the proxy between the agent and Pebble.
    pub(crate) fn proxied(pebble: Pebble, more: &str, ca: &str) -> (Self, FaultProxy) {
        let proxy = FaultProxy::start(&pebble);
        let ca = proxied(&pebble, &proxy, ca);
        (Self::of_cas(pebble, more, &ca), proxy)
    }

    /// A host with these `[[certificates.acme]]`; Pebble asks it for answers.
    pub(crate) fn of_cas(pebble: Pebble, more: &str, cas: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let served = Served::in_folder(folder.path(), &[DOMAIN]);
        let server = served.server();
        let agent = TestAgent::new(|_| String::new());
        let host = Self { pebble, server, served, agent, private: PrivateCa::new(), folder };
        host.configure(more, cas, "");
        host
    }

    /// Rewrites the configuration; `own` is what the certificate says besides.
    pub(crate) fn configure(&self, more: &str, cas: &str, own: &str) {
        let own = format!("{own}\n{}", self.served.deployed_to(Some(&self.server)));
        let own = certificate(&self.pebble, "gw", &[DOMAIN], &own);
        let known = format!("extra_roots_file = {:?}", self.private.roots_file());
        self.agent.configure(&format!("[certificates]\n{known}\n{more}\n{cas}{own}"));
    }

    /// The folder in which the service has its copies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn started(pebble: Pebble) -> Self {
        let mut host = Self::new(pebble, "", "");
        host.agent.start();
        host.agent.wait_certificate("gw", "PROVEN");
        host
    }

    /// The fingerprint of what is served.
    pub(crate) fn shown(&self) -> String {
        fingerprint(&handshake(self.server.address(), DOMAIN, None))
    }

    /// The fingerprint of a generation on the disk.
    pub(crate) fn generation(&self, number: u32) -> String {
        let file = self.agent.certificate_folder("gw").join(format!("gen-{number}/fullchain.pem"));
        fingerprint(&certificates(&file)[0])
    }

    pub(crate) fn renew(&self) {
        self.agent.ctl(&["cert", "renew", "--force"]).ok();
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn one_is_ordered_deployed_and_proven_by_itself_and_renewed_by_force() {
    let host = Host::started(Pebble::start());
    let agent = &host.agent;
    assert_eq!(host.shown(), host.generation(1));
    handshake(host.server.address(), DOMAIN, Some(host.pebble.issuer_roots_file()));
    let folder = agent.certificate_folder("gw");
    assert_eq!(mode(&folder.join("gen-1/key.pem")), 0o600);
    assert_eq!(mode(&folder.join("gen-1")), 0o700);
    assert_eq!((mode(&host.served.key), mode(&host.served.fullchain)), (0o640, 0o644));
    assert_eq!(std::fs::read_link(folder.join("current")).unwrap(), Path::new("gen-1"));
    agent.ctl(&["cert", "renew"]).ok().says(&["is due at"]);
    agent.ctl(&["cert", "verify"]).ok().says(&["served", "chain", "PASS"]);
    assert_eq!(host.pebble.orders(), 1);
    host.renew();
    assert_eq!(host.shown(), host.generation(2));
    assert_ne!(host.generation(1), host.generation(2));
    let keys = [1, 2].map(|it| std::fs::read(folder.join(format!("gen-{it}/key.pem"))).unwrap());
    assert_ne!(keys[0], keys[1], "each has a key of its own");
    assert_eq!((host.pebble.orders(), host.pebble.issued().len()), (2, 2));
    agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn a_rollback_is_pinned_until_it_is_unpinned() {
    let host = Host::started(Pebble::start());
    host.renew();
    let agent = &host.agent;
    agent.ctl(&["cert", "rollback"]).ok().says(&["2", "1", "pinned"]);
    assert_eq!(host.shown(), host.generation(1));
    agent.ctl(&["schedule", "run", "certificates.check"]).ok();
    assert_eq!(host.shown(), host.generation(1));
    agent.ctl(&["cert", "renew", "--force"]).exits(4).says(&["CERTIFICATE_PINNED"]);
    agent.ctl(&["cert", "unpin"]).ok();
    agent.wait_certificate("gw", "PROVEN");
    genesis_tests::clock::wait_until("the newest to be served", || {
        host.shown() == host.generation(2)
    });
    agent.wait_certificate("gw", "PROVEN");
    // What is in force can be kept there as well; twice is once.
    for _ in 0..2 {
        agent.ctl(&["cert", "pin", "--reason", "a release is on"]).ok().says(&["2", "pinned"]);
    }
    agent.ctl(&["cert", "renew", "--force"]).exits(4).says(&["CERTIFICATE_PINNED"]);
    agent.ctl(&["cert", "show", "gw"]).ok().says(&["pinned", "unix:uid="]);
    agent.ctl(&["cert", "history"]).ok().says(&["pinned", "a release is on"]);
    agent.ctl(&["cert", "unpin"]).ok();
    assert_eq!(host.pebble.orders(), 2);
}

#[test]
fn its_figures_are_in_the_metrics_on_the_page_and_in_health() {
    let mut host = Host::new(Pebble::start(), "", "");
    let check = format!(
        "[[health.check]]\nid = \"shown\"\nprobe = \"certificate\"\ntarget = {:?}\nserver_name = {DOMAIN:?}\ninterval = \"1s\"\n\
         timeout = \"900ms\"\n",
        host.server.address().to_string()
    );
    let text = std::fs::read_to_string(host.agent.config()).unwrap();
    std::fs::write(host.agent.config(), format!("{text}\n{check}")).unwrap();
    host.agent.start();
    let agent = &host.agent;
    agent.wait_certificate("gw", "PROVEN");
    let (_, metrics) = genesis_tests::http::get(agent.http(), "/metrics");
    for line in [
        "genesis_certificates_generation{name=\"gw\"} 1",
        "genesis_certificates_served{name=\"gw\"} 1",
        "genesis_certificates_last_outcome{name=\"gw\"} 1",
        "genesis_certificates_self_signed{name=\"gw\"} 0",
        "genesis_certificates_attempts_total{outcome=\"issued\"} 1",
        "genesis_certificates_attempts_total{outcome=\"deployed\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(metrics.contains("genesis_certificates_expiry_seconds{name=\"gw\"} 77"), "{metrics}");
    let (_, page) = genesis_tests::http::get(agent.http(), "/api/operations/certificates/status");
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["certificates"][0]["state"], "CERTIFICATE_STATE_PROVEN", "{page:#}");
    assert!(page["splay"].is_string() && page["nextCheckAt"].is_string(), "{page:#}");
    agent.ctl(&["schedule", "list"]).ok().says(&["certificates.check", "02:00"]);
    agent.ctl(&["health", "check", "--check", "shown"]).ok().says(&["shown", "OK"]);
}
