//! Each way in which a host shows that a name is its own.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use genesis_tests::TestAgent;
use genesis_tests::acme::{Bind9, Pebble};
use genesis_tests::certificates::{by_updates, pebble};
use genesis_tests::clock::wait_until;

use crate::certificates::DOMAIN;

/// A host with one certificate for these names, shown in this way; once it is there.
fn issued(server: &Pebble, domains: &[&str], way: &str) -> TestAgent {
    let text = format!(
        "{}[[certificates.certificate]]\nname = \"gw\"\ndomains = {domains:?}\n{way}\n",
        pebble(server, "")
    );
    let agent = TestAgent::started(|_| text);
    let stands = agent.wait_certificate("gw", "DEPLOYED");
    let mut wanted: Vec<_> = domains.to_vec();
    wanted.sort_unstable();
    assert_eq!(stands["current"]["identifiers"], serde_json::json!(wanted), "{stands:#}");
    let chain = agent.certificate_folder("gw").join("current/fullchain.pem");
    let text = Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(chain).output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    for domain in domains {
        assert!(text.contains(&format!("DNS:{domain}")), "{text}");
    }
    assert_eq!((server.orders(), server.issued().len(), server.failed_validations()), (1, 1, 0));
    agent
}

#[test]
fn tls_alpn_01_by_the_agents_own_listener() {
    let server = Pebble::start();
    let at = format!("127.0.0.1:{}", server.tls_port());
    let way = format!("challenge = \"tls-alpn-01\"\nlisten = {at:?}");
    issued(&server, &[DOMAIN, "b.example.test"], &way);
    std::net::TcpStream::connect(at).expect_err("nobody listens any more");
}

#[test]
fn dns_01_by_signed_updates_also_for_a_wildcard_and_its_base_at_once() {
    let bind = Bind9::start("example.test");
    let server = Pebble::options().dns_server(bind.server()).start();
    let names = ["example.test", "*.example.test", "a.example.test"];
    let agent = issued(&server, &names, &by_updates(&bind));
    for name in ["example.test", "a.example.test"] {
        let left = bind.query_txt(&format!("_acme-challenge.{name}"));
        assert_eq!(left, Vec::<String>::new(), "{name}");
    }
    // A name that only the wildcard stands for.
    agent.ctl(&["cert", "renew", "--domain", "z.example.test", "--force"]).ok();
    assert_eq!(server.orders(), 2);
}

#[test]
fn dns_01_by_a_command() {
    let server = Pebble::start();
    let folder = tempfile::tempdir().unwrap();
    let (script, log) = (folder.path().join("hook"), folder.path().join("log"));
    let text = format!(
        "#!/bin/sh\nset -e\necho \"$GENESIS_ACTION $GENESIS_NAME\" >> {}\n\
         case $GENESIS_ACTION in present) to=set-txt;; *) to=clear-txt;; esac\n\
         exec curl -sf -d \"{{\\\"host\\\":\\\"${{GENESIS_NAME%.}}.\\\",\\\"value\\\":\\\"$GENESIS_VALUE\\\"}}\" http://{}/$to\n",
        log.display(),
        server.names().management()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let way = format!(
        "challenge = \"dns-01\"\ndns_hook = {{ command = [{script:?}], timeout = \"10s\" }}\ndns_resolvers = [{:?}]",
        server.dns_server().to_string()
    );
    issued(&server, &["*.example.test"], &way);
    let read = || std::fs::read_to_string(&log).unwrap();
    wait_until("the record to be taken away", || read().contains("cleanup"));
    assert_eq!(
        read().lines().collect::<Vec<_>>(),
        ["present _acme-challenge.example.test", "cleanup _acme-challenge.example.test"]
    );
}

struct WebServer(Child);

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn http_01_by_the_folder_of_a_web_server() {
    let server = Pebble::start();
    let folder = tempfile::tempdir().unwrap();
    let port = server.http_port().to_string();
    let mut python = Command::new("python3");
    python.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
    python.arg(folder.path()).arg(&port).stdout(Stdio::null()).stderr(Stdio::null());
    let _web = WebServer(python.spawn().unwrap());
    wait_until("the web server", || {
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).is_ok()
    });
    issued(&server, &[DOMAIN], &format!("webroot = {:?}", folder.path()));
    let challenges = folder.path().join(".well-known/acme-challenge");
    let left = std::fs::read_dir(challenges).map(|files| files.count()).unwrap_or_default();
    assert_eq!(left, 0);
}
