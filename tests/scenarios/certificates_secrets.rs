//! Keys stay in the folder of the certificates and in the copies: in no log, no answer, no bundle, no database.

use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_tests::acme::Pebble;

use crate::certificates::{DOMAIN, Host};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok) {
        let facts = entry.path().symlink_metadata().unwrap();
        if facts.is_dir() {
            files(&entry.path(), found);
        } else if facts.is_file() {
            found.push(entry.path());
        }
    }
}

/// What of a key would be seen of it anywhere: the armour, and a piece of what is in it.
fn pieces(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    files(folder, &mut all);
    let keys = all.into_iter().filter(|it| it.file_name().is_some_and(|name| name == "key.pem"));
    let mut pieces: Vec<String> = keys
        .flat_map(|key| {
            let text = std::fs::read_to_string(key).unwrap();
            let inside = text.lines().filter(|line| !line.starts_with("-----"));
            // The first line of each is the same for all keys of a kind.
            inside.skip(1).filter(|line| line.len() > 20).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(pieces.len() >= 5, "{pieces:?}");
    pieces.push("PRIVATE KEY".to_owned());
    pieces
}

#[track_caller]
fn clean(what: &str, bytes: &[u8], pieces: &[String]) {
    for piece in pieces {
        let found = bytes.windows(piece.len()).any(|window| window == piece.as_bytes());
        assert!(!found, "{what} holds {piece:?}");
    }
}

#[test]
fn keys_are_in_no_log_no_answer_no_bundle_and_no_database() {
    let mut host = Host::started(Pebble::start());
    let folder = tempfile::tempdir().unwrap();
    let ca = &host.private;
    let (imported, backup) = (ca.issue("imported", &[DOMAIN]), ca.issue("backup", &[DOMAIN]));
    std::fs::copy(&imported.fullchain, folder.path().join("fullchain.pem")).unwrap();
    std::fs::copy(&imported.key, folder.path().join("privkey.pem")).unwrap();
    let agent = &host.agent;
    host.renew();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let import = ["cert", "import", "--from", &text(folder.path()), "--yes"];
    agent.ctl(&[&import[..], &["--allow-earlier-end"]].concat()).ok();
    let (fullchain, key) = (text(&backup.fullchain), text(&backup.key));
    let install = ["cert", "install-backup", "--yes", "--fullchain", &fullchain, "--key", &key];
    agent.ctl(&install).ok();
    agent.ctl(&["cert", "rollback", "--yes"]).ok();
    agent.ctl(&["cert", "unpin"]).ok();
    // A key where a chain belongs: what is refused is not repeated.
    let wrong = ["cert", "install-backup", "--yes", "--fullchain", &key, "--key", &key];
    let refused = agent.ctl(&wrong).exits(2);
    host.server.ignore_reloads(true);
    let failed = agent.ctl(&["cert", "renew", "--force"]);
    let mark = agent.ctl(&[
        "cert",
        "mark",
        "--compromised",
        "--reason",
        "seen",
        "--generation",
        "1",
        "--yes",
    ]);
    let pieces = pieces(&agent.state().join("certs"));
    for output in [refused, failed, mark] {
        clean("an answer", &output.stdout, &pieces);
        clean("an answer", output.stderr.as_bytes(), &pieces);
    }
    let last = ["run", "show", "last"];
    for command in [
        &["cert", "list"][..],
        &["cert", "show", "gw"],
        &["cert", "history"],
        &["cert", "verify"],
        &["cert", "budget"],
        &["status"],
        &["oplog", "list", "--limit", "1000"],
        &last,
    ] {
        for format in ["json", "text"] {
            let said = match format {
                "json" => agent.ctl(&[command, &["-o", "json"]].concat()),
                _ => agent.ctl(command),
            };
            assert!(said.text().len() > 10, "{command:?}: {}", said.stderr);
            clean(&format!("{command:?}"), said.text().as_bytes(), &pieces);
        }
    }
    let bundle = folder.path().join("bundle.tar.gz");
    agent.ctl(&["support", "bundle", "--out", bundle.to_str().unwrap()]).ok();
    let inside = Command::new("tar").arg("-xzOf").arg(&bundle).output().unwrap();
    assert!(inside.status.success() && inside.stdout.len() > 1_000);
    clean("the bundle", &inside.stdout, &pieces);
    clean("standard error", agent.stderr().as_bytes(), &pieces);
    host.agent.terminate();
    let mut all = Vec::new();
    files(&host.agent.state(), &mut all);
    let certs = host.agent.state().join("certs");
    let others: Vec<_> = all.into_iter().filter(|file| !file.starts_with(&certs)).collect();
    assert!(others.contains(&host.agent.database()));
    for file in others {
        clean(&file.display().to_string(), &std::fs::read(&file).unwrap(), &pieces);
    }
}
