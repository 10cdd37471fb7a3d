//! Backups that a tool keeps: the real restic, and a script that stands for what other tools may do wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_proto::v1::{BackupLevel, BackupState, RunState, Truth};
use genesis_tests::TestAgent;
use genesis_tests::backups::{Open, sqlite};
use genesis_tests::postgres::Postgres;

fn restic(repository: &Path, password: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    ["restic", "--no-cache", "-r", &path(repository), "--password-file", &path(password)]
        .map(str::to_owned)
        .into()
}

/// A repository of restic, and how it is called.
fn repository(open: &Open) -> Vec<String> {
    let (repository, password) = (open.join("repository"), open.join("password"));
    fs::write(&password, "secret\n").unwrap();
    let call = restic(&repository, &password);
    let output = Command::new(&call[0]).args(&call[1..]).arg("init").output();
    let output = output.expect("restic is installed: tests/run does it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    call
}

#[test]
fn restic_keeps_what_the_agent_makes_and_gives_it_back() {
    let open = Open::new();
    let (call, path) = (repository(&open), open.join("orders.db"));
    sqlite(&path, "CREATE TABLE orders(id INTEGER, note TEXT); INSERT INTO orders VALUES (1, 'x')");
    let agent = TestAgent::started(|_| {
        format!(
            "[backup]\nscratch = {:?}\n[[database.instance]]\nname = \"orders\"\nurl = \"sqlite:{}\"\n\
             [[backup.source]]\nname = \"orders\"\ntool = \"restic\"\ncommand = {call:?}\n",
            open.join("s"),
            path.display()
        )
    });
    let (run, backup) = agent.backup("orders");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!((backup.tool.as_str(), backup.place.len()), ("restic", 64), "{backup:?}");
    assert_eq!(backup.level(), BackupLevel::Checksums);
    assert_eq!(agent.backups("orders").sources[0].verified(), Truth::Pass);
    let run = agent.verify_backup("orders", BackupLevel::Restored);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    agent.assert_nothing_left(&open.join("s"));
    let into = open.join("restored.db");
    let run = agent.begin_restore("orders", into.to_str().unwrap(), "to see").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!(sqlite(&into, "SELECT note FROM orders"), "x");
    // What is damaged where restic keeps it.
    let mut packs = Vec::new();
    for folder in fs::read_dir(open.join("repository/data")).unwrap().flatten() {
        packs.extend(fs::read_dir(folder.path()).unwrap().flatten().map(|it| it.path()));
    }
    for pack in packs {
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        genesis_tests::backups::flip(&pack);
    }
    let run = agent.verify_backup("orders", BackupLevel::Checksums);
    assert_eq!(run.error_code, "BACKUP_BROKEN", "{run:?}");
    // What can't be asked is not known.
    fs::rename(open.join("repository"), open.join("away")).unwrap();
    let run = agent.verify_backup("orders", BackupLevel::Checksums);
    assert_eq!(run.state(), RunState::Unknown, "{run:?}");
}

const LIST: &str = r#"[{"name":"main","status":{"code":0,"message":"ok"},"db":[{"id":1,"system-id":SYSTEM}],
"backup":[{"label":"20260101-010000F","timestamp":{"start":1767229200,"stop":1767229260},"info":{"size":1000},"database":{"id":1}}NEW]}]"#;

/// A script that stands for pgBackRest: it lists one backup, and with `makes` another once it was asked for it.
fn script(open: &Open, system: &str, makes: bool) -> PathBuf {
    let (path, list) = (open.join("pgbackrest"), LIST.replace("SYSTEM", system));
    let more = r#",{"label":"20260102-010000F","timestamp":{"start":1767315600,"stop":1767315660},"info":{"size":1000},"database":{"id":1}}"#;
    fs::write(open.join("before"), list.replace("NEW", "")).unwrap();
    fs::write(open.join("after"), list.replace("NEW", more)).unwrap();
    let made = if makes { "touch \"$0.made\"" } else { "true" };
    let text = format!(
        "#!/bin/sh\ncase \"$1\" in\ninfo) if [ -e \"$0.made\" ]; then cat {after}; else cat {before}; fi ;;\n\
         backup) {made} ;;\nverify) echo 'backup: 20260102-010000F, status: valid, total files checked: 9' ;;\nesac\n",
        after = open.join("after").display(),
        before = open.join("before").display(),
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn tool_host(server: &Postgres, open: &Open, script: &Path) -> TestAgent {
    TestAgent::new(|_| {
        format!(
            "[backup]\nscratch = {:?}\n[[database.instance]]\nname = \"trades\"\nurl = \"postgres:///postgres?host={}&user=postgres\"\n\
             backup_max_age = \"365d\"\n[[backup.source]]\nname = \"trades\"\ntool = \"pgbackrest\"\ncommand = [{script:?}]\n",
            open.join("s"),
            server.socket().display()
        )
    })
}

#[test]
fn a_tool_that_says_it_went_well_is_believed_only_when_its_list_says_so() {
    let (server, open) = (Postgres::start(""), Open::new());
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    let mut agent = tool_host(&server, &open, &script(&open, &system, false));
    agent.start();
    // What the tool has is known before the agent makes any.
    let known = agent.newest_backup("trades");
    assert_eq!((known.place.as_str(), known.level()), ("20260101-010000F", BackupLevel::Recorded));
    let (run, _) = agent.backup("trades");
    assert_eq!((run.state(), run.error_code.as_str()), (RunState::Failed, "BACKUP_TOOL_FAILED"));
    assert!(run.summary.contains("names no new backup"), "{}", run.summary);
    script(&open, &system, true);
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!(
        (backup.place.as_str(), backup.level()),
        ("20260102-010000F", BackupLevel::Checksums)
    );
    let said = agent.begin_verify("trades", BackupLevel::Queried).unwrap_err();
    assert!(said.contains("LEVEL_NOT_POSSIBLE"), "{said}");
    // What its check does not name is not proven.
    let older =
        agent.backups("trades").backups.into_iter().find(|it| it.place == "20260101-010000F");
    let run = agent.verify_backup(&older.unwrap().id, BackupLevel::Checksums);
    assert_eq!(run.state(), RunState::Unknown, "{run:?}");
    // What it does not list any more is gone.
    fs::remove_file(open.join("pgbackrest.made")).unwrap();
    agent.restart();
    assert_eq!(agent.newest_backup("trades").state(), BackupState::Expired);
    // A list that is not understood is none.
    fs::write(open.join("before"), "{").unwrap();
    agent.restart();
    let source = agent.backups("trades").sources[0].clone();
    assert_eq!(source.verified(), Truth::Unknown, "{source:?}");
    assert!(source.evidence.contains("not understood"), "{source:?}");
}

#[test]
fn killed_once_the_tool_has_run_its_own_list_tells() {
    let (server, open) = (Postgres::start(""), Open::new());
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    let mut agent = tool_host(&server, &open, &script(&open, &system, true));
    agent.start_with_failpoint("backup.tool-ran", 1);
    agent.wait_ready();
    let _ = agent.begin_backup("trades");
    agent.wait_killed();
    agent.start();
    let states: Vec<_> = agent
        .backups("trades")
        .backups
        .into_iter()
        .map(|it| (it.state(), it.place.contains("20260102")))
        .collect();
    assert!(states.contains(&(BackupState::Complete, true)), "{states:?}");
    assert!(states.contains(&(BackupState::Failed, false)), "{states:?}");
}

/// A server that archives its WAL by the real pgBackRest, and how that is called.
fn pgbackrest(open: &Open) -> (Postgres, Vec<String>) {
    let (config, home) = (open.join("pgbackrest.conf"), open.join("pgbackrest"));
    let (user, group) = genesis_tests::postgres::owner();
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(user), Some(group)).unwrap();
    let call = format!("pgbackrest --config={} --stanza=main", config.display());
    let server = Postgres::start(&format!(
        "archive_mode = on\narchive_timeout = 0\narchive_command = '{call} archive-push %p'\n"
    ));
    let text = format!(
        "[global]\nrepo1-path={home}/repo\nrepo1-retention-full=5\nlog-path={home}\nlock-path={home}/lock\nstart-fast=y\n\
         log-level-console=warn\n[main]\npg1-path={}\npg1-socket-path={}\n",
        server.data().display(),
        server.socket().display(),
        home = home.display(),
    );
    fs::write(&config, text).unwrap();
    let user = format!("setpriv --reuid={user} --regid={group} --clear-groups");
    let call: Vec<String> = format!("{user} {call}").split(' ').map(str::to_owned).collect();
    let created = Command::new(&call[0]).args(&call[1..]).arg("stanza-create").output().unwrap();
    assert!(created.status.success(), "{created:?}");
    (server, call)
}

/// The largest file of a table in the repository.
fn largest(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => found.push((entry.metadata().unwrap().len(), path)),
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn the_real_pgbackrest_is_believed_as_far_as_it_proves_and_restored_to_see() {
    let open = Open::new();
    let (server, call) = pgbackrest(&open);
    server.sql("postgres", "CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id");
    let agent = TestAgent::started(|_| {
        format!(
            "[backup]\nscratch = {:?}\n[[database.instance]]\nname = \"trades\"\nurl = {:?}\n\
             [[backup.source]]\nname = \"trades\"\ntool = \"pgbackrest\"\nlevel = \"L3\"\nrow_counts = [\"orders 1%\"]\n\
             command = {call:?}\n",
            open.join("s"),
            server.url("postgres")
        )
    });
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!((backup.tool.as_str(), backup.level()), ("pgbackrest", BackupLevel::Queried));
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(backup.system_identifier, system);
    agent.assert_nothing_left(&open.join("s"));

    // It is restored with the owner that a server has, and is of this system.
    let into = open.join("restored");
    let run = agent.begin_restore("trades", into.to_str().unwrap(), "to see").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(into.join("PG_VERSION")).unwrap());
    assert_eq!(owner, genesis_tests::postgres::owner().0);

    // A tablespace stands elsewhere; what is tried out stays away from there.
    let space = open.join("pgbackrest/space");
    let mut made = Command::new(&call[0]);
    made.args(&call[1..4]).arg("mkdir").arg(&space);
    assert!(made.status().unwrap().success());
    server.sql("postgres", &format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
    server.sql("postgres", "CREATE TABLE fills TABLESPACE space AS SELECT * FROM orders");
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!(backup.level(), BackupLevel::Queried);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM fills"), "1000");
    let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
    assert_eq!(server.sql("postgres", timeline), "1", "nobody else has written its WAL");

    // It exits with 0 whatever it finds: what it says is read.
    let label = open.join("pgbackrest/repo/backup/main").join(&backup.place);
    let file = largest(&label.join("pg_data/base"));
    genesis_tests::backups::flip(&file);
    let run = agent.verify_backup("trades", BackupLevel::Checksums);
    assert_eq!(run.error_code, "BACKUP_BROKEN", "{run:?}");
    assert!(run.summary.contains("invalid"), "{run:?}");
    let preflight = agent.ctl(&["db", "preflight"]).exits(4);
    preflight.says(&["backup-verified", "broken"]);
}
