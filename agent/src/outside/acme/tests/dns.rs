//! dns-01, at pebble's own name server and at a real one.

use std::process::Command;

use super::*;
use crate::outside::hooks::Hook;

/// Sets and clears records at pebble's name server, as an operator's script would.
const SCRIPT: &str = r#"
case "$GENESIS_ACTION" in present) what=set-txt;; *) what=clear-txt;; esac
echo "$GENESIS_ACTION $GENESIS_NAME" >> "$1"
exec curl -sf -d "{\"host\":\"$GENESIS_NAME.\",\"value\":\"$GENESIS_VALUE\"}" "http://$2/$what"
"#;

#[tokio::test]
async fn a_command_sets_the_record_and_clears_it() {
    let names = free();
    let (pebble, acme) = (Pebble::with(&[], false, names), acme());
    let log = pebble.folder.path().join("log");
    let management = pebble.management.to_string();
    let command = ["sh", "-c", SCRIPT, "hook", log.to_str().unwrap(), &management];
    let hook =
        Hook { command: command.map(str::to_owned).to_vec(), timeout: Duration::from_secs(10) };
    for (wait, resolvers) in [(PATIENCE, vec![names]), (Duration::ZERO, vec![])] {
        let answer = Answer::DnsHook { hook: hook.clone(), wait, resolvers };
        issued(&acme, &pebble.ca(), &["*.one.test"], &answer).await;
    }
    let name = "_acme-challenge.one.test";
    let once = format!("present {name}\ncleanup {name}\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), once.repeat(2));
    // One that says it has, and has not.
    let idle = Hook { command: vec!["true".into()], ..hook.clone() };
    let wait = Duration::from_millis(100);
    let answer = Answer::DnsHook { hook: idle, wait, resolvers: vec![names] };
    let order = acme.order(&pebble.ca(), &wanted(&["two.test"])).await.unwrap();
    let finish = acme.finish(&pebble.ca(), &order.url, &answer, &[], PATIENCE).await;
    let trouble = finish.unwrap_err();
    assert_eq!((trouble.class, trouble.identifiers.len()), (Class::Local, 1), "{trouble}");
    assert!(trouble.message.contains("does not have it"), "{trouble}");
}

const KEY: &str = "bm90IGEgc2VjcmV0IGF0IGFsbCwganVzdCBhIHRlc3Q=";

/// BIND, with a zone for names, and one that they are delegated to.
struct Bind {
    address: SocketAddr,
    folder: tempfile::TempDir,
    _server: server::Server,
}

impl Bind {
    fn start() -> Self {
        let (address, folder) = (free(), tempfile::tempdir().unwrap());
        let path = folder.path().display();
        let mut config = format!(
            "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; recursion yes; dnssec-validation no; pid-file none; session-keyfile none; \
             managed-keys-directory \"{path}\"; }}; controls {{}};\n\
             key \"genesis\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n",
            port = address.port()
        );
        let head = "$TTL 60\n@ SOA ns.one.test. ops.one.test. 1 60 60 60 60\n@ NS ns.one.test.\n";
        let zones = [
            (
                "one.test",
                "@ A 127.0.0.1\n* A 127.0.0.1\nns A 127.0.0.1\n\
                          _acme-challenge.moved CNAME moved.updates.test.\n",
            ),
            ("updates.test", "@ A 127.0.0.1\n"),
            // So that it asks nobody else.
            (".", ""),
        ];
        for (zone, records) in zones {
            let file = format!("{zone}.zone");
            std::fs::write(folder.path().join(&file), format!("{head}{records}")).unwrap();
            config.push_str(&format!(
                "zone \"{zone}\" {{ type primary; file \"{file}\"; \
                 update-policy {{ grant genesis zonesub TXT; }}; }};\n"
            ));
        }
        let file = folder.path().join("named.conf");
        std::fs::write(&file, config).unwrap();
        server::secret(&folder.path().join("key"), KEY);
        let mut command = Command::new("/usr/sbin/named");
        command.args(["-f", "-n", "1", "-c"]).arg(&file).stdout(std::process::Stdio::null());
        let server = server::Server::start(&mut command, address);
        Self { address, folder, _server: server }
    }

    fn update(&self) -> DnsUpdate {
        DnsUpdate {
            server: self.address,
            zone: None,
            key_name: "genesis".into(),
            algorithm: "hmac-sha256".into(),
            key_file: self.folder.path().join("key"),
            wait: Duration::from_secs(5),
        }
    }
}

#[tokio::test]
async fn a_name_server_takes_signed_updates() {
    let bind = Bind::start();
    let (pebble, acme) = (Pebble::with(&[], false, bind.address), acme());
    let (ca, answer) = (pebble.ca(), Answer::DnsUpdate(bind.update()));
    // Two values of one name; and one that leads elsewhere.
    let names = ["one.test", "*.one.test", "moved.one.test"];
    let pem = issued(&acme, &ca, &names, &answer).await;
    assert_eq!(names_of(&pem).len(), 3);
    let zone = Answer::DnsUpdate(DnsUpdate { zone: Some("one.test".into()), ..bind.update() });
    issued(&acme, &ca, &["a.one.test"], &zone).await;
    // Nothing is left behind.
    let port = bind.address.port().to_string();
    let dig = Command::new("dig")
        .args(["+short", "@127.0.0.1", "-p", &port, "TXT", "_acme-challenge.one.test"])
        .args(["TXT", "moved.updates.test", "TXT", "_acme-challenge.a.one.test"])
        .output();
    if let Ok(dig) = dig {
        assert_eq!(String::from_utf8_lossy(&dig.stdout), "");
    }

    // The zone's own servers, as this host's resolver would find them.
    for (asked, name) in [
        ("_acme-challenge.a.one.test", "_acme-challenge.a.one.test."),
        ("_acme-challenge.moved.one.test", "moved.updates.test."),
    ] {
        let (found, servers) = answers::dns_hook::servers_of(asked, bind.address).await.unwrap();
        assert_eq!(
            (found.as_str(), servers.as_slice()),
            (name, &[([127, 0, 0, 1], 53).into()][..])
        );
    }
    assert!(
        answers::dns_hook::servers_of("_acme-challenge.x.nowhere", bind.address).await.is_err()
    );

    let other = bind.folder.path().join("other");
    server::secret(&other, "b3RoZXIgdGhhbiB0aGUga2V5");
    let open = bind.folder.path().join("one.test.zone");
    for (wrong, said) in [
        (DnsUpdate { key_file: other.clone(), ..bind.update() }, "refuses the key: BadSig"),
        (DnsUpdate { key_name: "nobody".into(), ..bind.update() }, "refuses the key: BadKey"),
        (DnsUpdate { algorithm: "hmac-md5".into(), ..bind.update() }, "is no algorithm"),
        (DnsUpdate { key_file: open, ..bind.update() }, "open to others"),
        (DnsUpdate { zone: Some("x.test".into()), ..bind.update() }, "is not in the zone"),
        (DnsUpdate { server: free(), ..bind.update() }, "does not answer"),
    ] {
        let order = acme.order(&ca, &wanted(&["b.one.test"])).await.unwrap();
        let answer = Answer::DnsUpdate(wrong);
        let trouble = acme.finish(&ca, &order.url, &answer, &[], PATIENCE).await.unwrap_err();
        assert_eq!((trouble.class, trouble.identifiers.len()), (Class::Local, 1), "{trouble}");
        assert!(trouble.message.contains(said), "{trouble}");
        assert!(!trouble.message.contains(KEY));
    }
}
