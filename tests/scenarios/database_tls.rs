//! A database behind TLS and a password, cared for by the role of the documentation.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use genesis_tests::TestAgent;
use genesis_tests::postgres::{self, Postgres};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::database::{fill, last, optimize};

const PASSWORD: &str = "c0rrect:h0rse";

/// A CA, and a certificate of it for "localhost", as files that the server may read.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    ca.distinguished_name.push(DnType::CommonName, "the CA of a test");
    let certificate = ca.self_signed(&key).unwrap();
    std::fs::write(folder.join("ca.pem"), certificate.pem()).unwrap();
    let issuer = Issuer::new(ca, key);
    let own = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = server.signed_by(&own, &issuer).unwrap();
    std::fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("server.key"), own.serialize_pem()).unwrap();
    let (user, group) = postgres::owner();
    for name in ["server.pem", "server.key"] {
        let path = folder.join(name);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&path, Some(user), Some(group)).unwrap();
    }
}

#[test]
fn it_is_cared_for_over_tls_by_a_role_that_owns_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    certificates(folder.path());
    std::fs::write(
        folder.path().join("hba"),
        "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    std::fs::set_permissions(folder.path().join("hba"), PermissionsExt::from_mode(0o644)).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings = format!(
        "log_connections = on\nlisten_addresses = '127.0.0.1'\nport = {port}\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nhba_file = '{}'\n",
        at("server.pem"),
        at("server.key"),
        at("hba")
    );
    let server = Postgres::start(&settings);
    fill(&server);
    server.sql("trades", "CREATE ROLE trading; ALTER TABLE orders OWNER TO trading; ALTER TABLE venues OWNER TO trading");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql/genesis_role.sql");
    let mut psql = server.client("psql");
    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-v", "owner_role=trading", "-d", "trades", "-f"]);
    assert!(psql.arg(&script).output().unwrap().status.success());
    // As the script says for an agent that makes the backups itself.
    server.sql("trades", &format!("ALTER ROLE genesis REPLICATION PASSWORD '{PASSWORD}'"));
    let passwords = folder.path().join("pgpass");
    let escaped = PASSWORD.replace(':', "\\:");
    std::fs::write(&passwords, format!("localhost:{port}:*:genesis:{escaped}\n")).unwrap();
    std::fs::set_permissions(&passwords, PermissionsExt::from_mode(0o600)).unwrap();
    let with = |query: &str| {
        format!(
            "[[database.instance]]\nname = \"trades\"\nurl = \"postgres://genesis@localhost:{port}/trades?{query}\"\npassword_file = \"{}\"\n\
             schedule = \"never\"\ntrades_probe = \"none\"\nmin_free = \"0%\"\nbloat_smallest = \"0B\"\n",
            passwords.display()
        )
    };
    let verified = format!("sslmode=verify-full&sslrootcert={}", at("ca.pem"));
    let good = with(&verified);
    let agent = TestAgent::started(|_| good.clone());
    agent.ctl(&["backup", "run", "trades"]).ok();
    optimize(&agent, &[]).ok();
    let care = last(&agent);
    assert_eq!(care["outcome"], "CARE_OUTCOME_DONE", "{care:#}");
    assert!(care["steps"].to_string().contains("reindex"), "{care:#}");
    let log = server.log();
    let ours = log.lines().filter(|line| line.contains("authorized: user=genesis"));
    assert!(ours.clone().count() > 5);
    ours.for_each(|line| assert!(line.contains("SSL enabled"), "{line}"));
    // What can't be verified, or is not encrypted, gets nothing.
    for (query, words) in [
        (format!("sslmode=verify-full&sslrootcert={}", at("server.pem")), "can't be reached"),
        ("sslmode=verify-full".to_owned(), "can't be reached"),
        ("sslmode=disable".to_owned(), "no pg_hba.conf entry"),
    ] {
        agent.configure(&with(&query));
        agent.ctl(&["config", "reload"]).ok();
        agent.ctl(&["db", "health"]).exits(7).says(&[words]);
    }
    agent.configure(&good);
    agent.ctl(&["config", "reload"]).ok();
    std::fs::set_permissions(&passwords, PermissionsExt::from_mode(0o644)).unwrap();
    agent.ctl(&["db", "health"]).exits(7).says(&["chmod 600"]);
    // A password in the configuration is refused, and nobody ever says the one that there is.
    let bad = good.replace("genesis@", "genesis:secret@");
    agent.configure(&bad);
    agent.ctl(&["config", "check"]).exits(3).says(&["must hold no password"]);
    for path in ["state/agent.log", "agent.log"] {
        let said = std::fs::read_to_string(agent.folder().join(path)).unwrap_or_default();
        assert!(!said.contains(PASSWORD), "{path}");
    }
    let shown = agent.ctl(&["run", "list", "-o", "json"]).text()
        + &agent.ctl(&["oplog", "list", "-o", "json"]).text();
    assert!(!shown.contains(PASSWORD));
}
