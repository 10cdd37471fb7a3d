//! Files that others have a hand in: chains that are given, copies, links, and what stands in their place.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use genesis_tests::acme::Pebble;
use genesis_tests::ctl;
use genesis_tests::private_ca::{Leaf, PrivateCa};
use genesis_tests::tls_client::{certificates, fingerprint};

use crate::certificates::{DOMAIN, Host, mode};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder as another client leaves it, without links.
fn lineage(folder: &Path, leaf: &Leaf) -> PathBuf {
    let place = folder.join("lineage");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(&leaf.fullchain, place.join("fullchain.pem")).unwrap();
    std::fs::copy(&leaf.key, place.join("privkey.pem")).unwrap();
    place
}

#[test]
fn a_key_among_the_certificates_of_a_chain_is_refused_and_gets_nowhere() {
    let host = Host::started(Pebble::start());
    let from = lineage(host.folder(), &host.private.issue("mixed", &[DOMAIN]));
    let chain = std::fs::read_to_string(from.join("fullchain.pem")).unwrap();
    let key = std::fs::read_to_string(from.join("privkey.pem")).unwrap();
    std::fs::write(from.join("fullchain.pem"), format!("{chain}{key}")).unwrap();
    let import = host.agent.ctl(&["cert", "import", "--from", text(&from), "--yes"]);
    import.exits(4).says(&["CERTIFICATE_UNUSABLE", "private key among the certificates"]);
    assert_eq!(host.shown(), host.generation(1));
    let copy = std::fs::read_to_string(&host.served.fullchain).unwrap();
    assert!(!copy.contains("PRIVATE KEY"), "{copy}");
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_fifo_in_a_files_place_holds_nobody_and_is_put_right_by_the_daily_check() {
    let mut host = Host::started(Pebble::start());
    for copy in [&host.served.fullchain, &host.served.key] {
        std::fs::remove_file(copy).unwrap();
        fifo(copy);
    }
    // More than the agent has threads.
    for _ in 0..4 {
        let looked = host.agent.ctl(&["cert", "verify"]);
        looked.exits(3).says(&["deployed", "FAIL", "no regular file"]);
    }
    let from = lineage(host.folder(), &host.private.issue("fifo", &[DOMAIN]));
    for name in ["fullchain.pem", "privkey.pem"] {
        std::fs::remove_file(from.join(name)).unwrap();
        fifo(&from.join(name));
    }
    let import = host.agent.ctl(&["cert", "import", "--from", text(&from), "--yes"]);
    import.exits(4).says(&["CERTIFICATE_UNUSABLE", "no regular file"]);
    host.agent.ctl(&["schedule", "run", "certificates.check"]).ok();
    host.agent.ctl(&["cert", "verify"]).ok();
    assert_eq!(fingerprint(&certificates(&host.served.fullchain)[0]), host.generation(1));
    // Also in the place of the roots, and of a generation's own files.
    let roots = host.folder().join("roots.pem");
    fifo(&roots);
    let config = std::fs::read_to_string(host.agent.config()).unwrap();
    let line = |path: &Path| format!("issuer_roots_file = {:?}", text(path));
    let config = config.replace(&line(host.pebble.issuer_roots_file()), &line(&roots));
    host.agent.configure(&config);
    host.agent.restart();
    for _ in 0..4 {
        host.agent.ctl(&["cert", "verify"]).exits(5).says(&["chain", "no regular file"]);
    }
    let own = host.agent.certificate_folder("gw").join("gen-1/key.pem");
    std::fs::remove_file(&own).unwrap();
    fifo(&own);
    for _ in 0..4 {
        host.agent.ctl(&["cert", "verify"]).exits(3).says(&["key", "no regular file"]);
    }
    host.agent.ctl(&["cert", "list"]).ok();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_link_that_others_could_have_put_in_a_copys_place_is_not_followed() {
    let host = Host::started(Pebble::start());
    let theirs = host.folder().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let secret = host.folder().join("shadow");
    std::fs::write(&secret, "of somebody else").unwrap();
    let copy = theirs.join("gw.pem");
    symlink(&secret, &copy).unwrap();
    set_mode(&theirs, 0o777);
    let config = std::fs::read_to_string(host.agent.config()).unwrap();
    let line = |path: &Path| format!("path = {:?}", text(path));
    let config = config.replace(&line(&host.served.fullchain), &line(&copy));
    host.agent.configure(&config);
    host.agent.ctl(&["config", "reload"]).ok();
    let what_to_do = format!("chmod go-w {}", theirs.display());
    host.agent.ctl(&["cert", "verify"]).exits(3).says(&["deployed", &what_to_do]);
    let renewed = host.agent.ctl(&["cert", "renew", "--force"]);
    renewed.exits(1).says(&["DEPLOY_FAILED", &what_to_do]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of somebody else");
    // Into the agent's own folder no link leads, whoever made it.
    set_mode(&theirs, 0o755);
    std::fs::remove_file(&copy).unwrap();
    symlink(host.agent.database(), &copy).unwrap();
    let renewed = host.agent.ctl(&["cert", "renew", "--force"]);
    renewed.exits(1).says(&["DEPLOY_FAILED", "the agent's own folder"]);
    host.agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn a_copy_that_its_service_can_not_read_any_more_is_found_and_put_right() {
    let host = Host::started(Pebble::start());
    let (fullchain, key) = (&host.served.fullchain, &host.served.key);
    let root = std::fs::metadata(fullchain).unwrap().uid() == 0;
    if root {
        let config = std::fs::read_to_string(host.agent.config()).unwrap();
        let line = format!("path = {:?}", text(key));
        let owned = format!("{line}\nowner = \"daemon\"\ngroup = \"daemon\"");
        host.agent.configure(&config.replace(&line, &owned));
        host.agent.ctl(&["config", "reload"]).ok();
        host.agent.ctl(&["cert", "verify"]).exits(3).says(&["deployed", "\"daemon\""]);
        host.agent.ctl(&["schedule", "run", "certificates.check"]).ok();
        let facts = std::fs::metadata(key).unwrap();
        assert_eq!((facts.uid(), facts.gid(), mode(key)), (1, 1, 0o640));
        chown(key, Some(0), None).unwrap();
        host.agent.ctl(&["cert", "verify"]).exits(3).says(&["deployed", "is of user 0"]);
    }
    set_mode(fullchain, 0o600);
    host.agent.ctl(&["cert", "verify"]).exits(3).says(&["deployed", "has mode 0600"]);
    host.agent.ctl(&["schedule", "run", "certificates.check"]).ok();
    host.agent.ctl(&["cert", "verify"]).ok();
    assert_eq!(mode(fullchain), 0o644);
    assert_eq!(host.pebble.orders(), 1);
}

#[test]
fn what_was_planned_is_what_is_taken_over() {
    let host = Host::started(Pebble::start());
    let leaf = host.private.issue("planned", &[DOMAIN]);
    let from = lineage(host.folder(), &leaf);
    let import = ["cert", "import", "--from", text(&from), "--yes"];
    let [fullchain, key] = [&leaf.fullchain, &leaf.key].map(|path| text(path).to_owned());
    let install = ["cert", "install-backup", "--yes", "--fullchain", &fullchain, "--key", &key];
    let hash = |command: &[&str]| {
        let plan = host.agent.ctl(&[command, &["--plan", "-o", "json"]].concat()).response();
        plan["plan"]["hash"].as_str().unwrap().to_owned()
    };
    let (imports, installs) = (hash(&import), hash(&install));
    assert_eq!(imports, hash(&import));
    // The same leaf with more behind it: what would be served is another thing.
    let more = std::fs::read_to_string(&leaf.fullchain).unwrap()
        + &std::fs::read_to_string(PrivateCa::new().roots_file()).unwrap();
    for file in [&from.join("fullchain.pem"), &leaf.fullchain] {
        std::fs::write(file, &more).unwrap();
    }
    for (command, hash) in [(&import[..], &imports), (&install, &installs)] {
        let refused = host.agent.ctl(&[command, &["--plan-hash", hash]].concat());
        refused.says(&["PLAN_CHANGED"]);
    }
    assert_eq!(host.shown(), host.generation(1));
    let again = hash(&import);
    host.agent.ctl(&[&import[..], &["--plan-hash", &again]].concat()).ok();
    assert_eq!(host.shown(), fingerprint(&certificates(&leaf.fullchain)[0]));
}

#[test]
fn what_leads_to_no_root_that_is_known_here_is_refused_until_its_root_is_named() {
    let host = Host::started(Pebble::start());
    let (ca, backup_ca) = (PrivateCa::new(), PrivateCa::new());
    let (leaf, backup) = (ca.issue("stranger", &[DOMAIN]), backup_ca.issue("backup", &[DOMAIN]));
    let from = lineage(host.folder(), &leaf);
    let import = ["cert", "import", "--from", text(&from), "--yes"];
    let [fullchain, key] = [&backup.fullchain, &backup.key].map(|path| text(path).to_owned());
    let install = ["cert", "install-backup", "--yes", "--fullchain", &fullchain, "--key", &key];
    for command in [&import[..], &install] {
        let refused = host.agent.ctl(command);
        refused.exits(4).says(&["CERTIFICATE_UNTRUSTED", "extra_roots_file"]);
        host.agent.ctl(&[command, &["--plan"]].concat()).exits(4).says(&["CERTIFICATE_UNTRUSTED"]);
    }
    assert_eq!(host.shown(), host.generation(1));
    let roots = host.folder().join("roots.pem");
    let both = [&ca, &backup_ca].map(|ca| std::fs::read_to_string(ca.roots_file()).unwrap());
    std::fs::write(&roots, both.concat()).unwrap();
    let before = text(host.private.roots_file()).to_owned();
    let config = std::fs::read_to_string(host.agent.config()).unwrap();
    host.agent.configure(&config.replace(&before, text(&roots)));
    host.agent.ctl(&["config", "reload"]).ok();
    host.agent.ctl(&import).ok();
    host.agent.ctl(&install).ok();
    host.agent.ctl(&["cert", "verify"]).ok().says(&["chain", "backup", "genesis test root"]);
    // Once its root is not trusted any more, every look says so.
    std::fs::write(&roots, &both[0]).unwrap();
    host.agent.ctl(&["cert", "verify"]).exits(3).says(&["backup", "extra_roots_file"]);
    std::fs::remove_file(&roots).unwrap();
    host.agent.ctl(&["cert", "verify"]).exits(5).says(&["chain", "UNKNOWN", "not read"]);
}

#[test]
fn why_a_folder_can_not_be_imported_only_admins_hear() {
    let mut host = Host::new(Pebble::start(), "", "");
    let config = std::fs::read_to_string(host.agent.config()).unwrap();
    let listen = "[listen]\nplaintext_grpc = \"127.0.0.1:0\"\n";
    host.agent.configure(&config.replacen("[listen]\n", listen, 1));
    host.agent.start();
    host.agent.wait_certificate("gw", "PROVEN");
    let good = lineage(host.folder(), &host.private.issue("good", &[DOMAIN]));
    let keyless = host.folder().join("keyless");
    std::fs::create_dir(&keyless).unwrap();
    std::fs::copy(good.join("fullchain.pem"), keyless.join("fullchain.pem")).unwrap();
    let stranger = host.folder().join("stranger");
    std::fs::create_dir(&stranger).unwrap();
    let stranger = lineage(&stranger, &PrivateCa::new().issue("stranger", &[DOMAIN]));
    let node = host.agent.plaintext().to_string();
    let plan = |node: &str, from: &Path| {
        let plan = ["cert", "import", "--plan", "--from", text(from)];
        ctl(&[&["-n", node][..], &plan].concat())
    };
    plan(&node, &good).ok().says(&["gen-2"]);
    let answers = [&keyless, &stranger, &host.folder().join("nothing")].map(|from| {
        let admin = host.agent.ctl(&["cert", "import", "--plan", "--from", text(from)]);
        admin.exits(4);
        let viewer = plan(&node, from);
        assert_eq!(viewer.code, 4, "{}", viewer.stderr);
        assert!(viewer.stderr.contains("an admin who plans it sees why"), "{}", viewer.stderr);
        viewer.stderr
    });
    assert_eq!((&answers[0], &answers[0]), (&answers[1], &answers[2]));
    let why = host.agent.ctl(&["cert", "import", "--plan", "--from", text(&keyless)]);
    why.exits(4).says(&["privkey.pem", "No such file"]);
}
