//! Backups of a real PostgreSQL, of files of SQLite and of the agent itself: made, proven, restored, and found wrong.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use genesis_proto::v1::{BackupLevel, BackupState, RunState, Truth};
use genesis_tests::backups::{Open, flip, sqlite};
use genesis_tests::clock::wait_until;
use genesis_tests::postgres::Postgres;
use genesis_tests::{LoopDisk, TestAgent, http};

fn instance(name: &str, url: &str) -> String {
    format!("[[database.instance]]\nname = {name:?}\nurl = {url:?}\n")
}

fn url(server: &Postgres) -> String {
    format!("postgres:///postgres?host={}&user=postgres", server.socket().display())
}

/// A server with rows to find again.
fn trades() -> Postgres {
    let server = Postgres::start("");
    server.sql(
        "postgres",
        "CREATE TABLE trades AS SELECT g AS id, repeat('x', 50) AS note FROM generate_series(1, 5000) g",
    );
    server
}

/// An agent for a server; `more` stands below `[backup]`.
fn host(server: &Postgres, open: &Open, more: &str) -> TestAgent {
    let scratch = open.join("s");
    TestAgent::started(|_| {
        format!("[backup]\nscratch = {scratch:?}\n{more}\n{}", instance("trades", &url(server)))
    })
}

/// An agent for a file of SQLite with rows to find again.
fn file_host(open: &Open, more: &str) -> (TestAgent, PathBuf) {
    let path = open.join("orders.db");
    sqlite(
        &path,
        "PRAGMA journal_mode=WAL; CREATE TABLE orders(id INTEGER PRIMARY KEY, note TEXT); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
         INSERT INTO orders SELECT i, hex(randomblob(40)) FROM n",
    );
    let text = instance("orders", &format!("sqlite:{}", path.display()));
    let agent = TestAgent::started(|_| format!("[backup]\n{more}\n{text}"));
    (agent, path)
}

/// Where a backup's contents are.
fn contents(place: &str, name: &str) -> PathBuf {
    Path::new(place).join(name)
}

const QUERIES: &str = "[[backup.source]]\nname = \"trades\"\nrow_counts = [\"trades 5%\", \"public.trades\"]\n\
     [[backup.source.query]]\nname = \"highest\"\nsql = \"SELECT max(id) FROM trades\"\nexpect = \"5000\"\n";

#[test]
fn a_server_is_backed_up_proven_by_use_and_restored() {
    let (server, open) = (trades(), Open::new());
    let agent = host(&server, &open, QUERIES);
    let before = agent.backups("trades").sources[0].clone();
    assert_eq!(before.verified(), Truth::Fail, "{before:?}");
    let plan = agent.plan_backup("trades").unwrap();
    assert_eq!(plan.steps[0].action, "back up");
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!((backup.state(), backup.level()), (BackupState::Complete, BackupLevel::Checksums));
    let system = server.sql("postgres", "SELECT system_identifier FROM pg_control_system()");
    assert_eq!(backup.system_identifier, system);
    let source = agent.backups("trades").sources[0].clone();
    assert_eq!(source.verified(), Truth::Pass, "{source:?}");
    // The server is as it was: one checkpoint more, and nobody connected.
    assert!(!server.log().contains("genesis-agent/scratch"));

    for level in [BackupLevel::Restored, BackupLevel::Queried] {
        let run = agent.verify_backup("trades", level);
        assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
        assert_eq!(agent.newest_backup("trades").level(), level);
        agent.assert_nothing_left(&open.join("s"));
    }
    let metrics = http::get(agent.http(), "/metrics").1;
    for wanted in [
        "genesis_backup_last_outcome{source=\"trades\"} 1",
        "genesis_backup_verified_age_seconds{source=\"trades\"}",
        "genesis_backup_verified_age_seconds{source=\"agent\"} -1",
        "genesis_backup_made_total{outcome=\"verified\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
    let page = http::get(agent.http(), "/api/operations/backup/status").1;
    assert!(page.contains("BACKUP_LEVEL_QUERIED"), "{page}");

    let into = open.join("restored");
    let run = agent.begin_restore("trades", into.to_str().unwrap(), "to look at it").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert!(run.summary.contains("Next: "), "{}", run.summary);
    assert_eq!(count(&into), "5000");
    // And not a second time.
    let again = agent.begin_restore("trades", into.to_str().unwrap(), "again").unwrap_err();
    assert!(again.contains("RESTORE_TARGET_INVALID"), "{again}");
    let oplog = agent.ctl(&["oplog", "list", "-o", "json"]).ok().text();
    for action in ["backup.begun", "backup.made", "backup.verified", "to look at it"] {
        assert!(oplog.contains(action), "{action}: {oplog}");
    }
}

/// Starts a server on a restored folder, as its owner, and counts the rows.
fn count(data: &Path) -> String {
    let script = format!(
        "cd / && /usr/lib/postgresql/15/bin/pg_ctl -s -w -D {data} -l {log} -o \"-c listen_addresses= -c \
         unix_socket_directories={data}\" start && psql -h {data} -U postgres -At -c 'SELECT count(*) FROM trades' postgres; \
         /usr/lib/postgresql/15/bin/pg_ctl -s -m immediate -D {data} stop",
        data = data.display(),
        log = data.join("server.log").display(),
    );
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", &script]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_restored_backup_that_answers_otherwise_than_expected_is_broken() {
    let (server, open) = (trades(), Open::new());
    let wrong = QUERIES.replace("\"5000\"", "\"5001\"");
    let agent = host(&server, &open, &wrong);
    let (_, backup) = agent.backup("trades");
    let run = agent.verify_backup(&backup.id[..12], BackupLevel::Queried);
    assert_eq!((run.state(), run.error_code.as_str()), (RunState::Failed, "BACKUP_BROKEN"));
    let backup = agent.newest_backup("trades");
    assert_eq!((backup.state(), backup.level()), (BackupState::Broken, BackupLevel::Unspecified));
    assert!(backup.detail.contains("\"5000\" instead of \"5001\""), "{backup:?}");
    agent.assert_nothing_left(&open.join("s"));
}

/// A backup that was sound, and what was done to it makes it broken.
fn damaged(damage: impl FnOnce(&Path), says: &str) {
    let (server, open) = (trades(), Open::new());
    let agent = host(&server, &open, "");
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    damage(&contents(&backup.place, "data"));
    let run = agent.verify_backup("trades", BackupLevel::Checksums);
    assert_eq!((run.state(), run.error_code.as_str()), (RunState::Failed, "BACKUP_BROKEN"));
    let backup = agent.newest_backup("trades");
    assert_eq!(backup.state(), BackupState::Broken);
    assert!(backup.detail.contains(says), "{}", backup.detail);
    let source = agent.backups("trades").sources[0].clone();
    assert_eq!(source.verified(), Truth::Fail, "{source:?}");
    wait_until("people to hear of it", || agent.firing("trades").is_some());
    let alert = agent.firing("trades").unwrap();
    assert!(alert["title"].as_str().unwrap().contains("is broken"), "{alert}");
    assert!(alert["severity"].as_str().unwrap().to_lowercase().contains("critical"), "{alert}");
    agent.ctl(&["status"]).exits(3).says(&["BACKUP_BROKEN", "BACKUP_UNVERIFIED"]);
}

#[test]
fn a_flipped_bit_is_found() {
    damaged(
        |data| {
            let base = fs::read_dir(data.join("base/1")).unwrap().flatten().map(|it| it.path());
            flip(&base.filter(|path| fs::metadata(path).unwrap().len() > 8_192).min().unwrap());
        },
        "checksum mismatch",
    );
}

#[test]
fn wal_that_is_cut_short_is_found() {
    damaged(
        |data| {
            let wal = fs::read_dir(data.join("pg_wal")).unwrap().flatten().map(|it| it.path());
            let segment = wal.filter(|path| path.is_file()).min().unwrap();
            fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(4_096).unwrap();
        },
        "WAL",
    );
}

#[test]
fn a_file_that_is_gone_is_found() {
    damaged(|data| fs::remove_file(data.join("global/pg_control")).unwrap(), "pg_control");
}

#[test]
fn the_backup_of_another_system_does_not_count() {
    let (server, other, open) = (trades(), Postgres::start(""), Open::new());
    let mut agent = host(&server, &open, "");
    agent.backup("trades");
    assert_eq!(agent.backups("trades").sources[0].verified(), Truth::Pass);
    let text =
        format!("[backup]\nscratch = {:?}\n{}", open.join("s"), instance("trades", &url(&other)));
    agent.configure(&text);
    agent.restart();
    let source = agent.backups("trades").sources[0].clone();
    assert_eq!(source.verified(), Truth::Fail);
    assert!(source.evidence.contains("is of system"), "{source:?}");
    drop(other);
    // One that can't be asked is not known.
    agent.restart();
    assert_eq!(agent.backups("trades").sources[0].verified(), Truth::Unknown);
    let (run, backup) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Failed);
    assert_eq!(backup.state(), BackupState::Failed, "{backup:?}");
}

#[test]
fn a_file_of_sqlite_is_backed_up_proven_and_restored_while_it_is_written_to() {
    let open = Open::new();
    let more = "[[backup.source]]\nname = \"orders\"\nrow_counts = [\"orders\"]\n";
    let (mut agent, path) = file_host(&open, more);
    let (run, backup) = agent.backup("");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!(backup.source, "orders");
    sqlite(&path, "INSERT INTO orders(note) VALUES ('later')");
    for level in [BackupLevel::Checksums, BackupLevel::Restored, BackupLevel::Queried] {
        let run = agent.verify_backup("orders", level);
        assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
        assert_eq!(agent.newest_backup("orders").level(), level);
    }
    let into = open.join("there/orders.db");
    let run = agent.begin_restore(&backup.id, into.to_str().unwrap(), "to compare").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    assert_eq!(sqlite(&into, "SELECT count(*) FROM orders"), "2000");
    // Another file at its path is another system.
    fs::copy(&path, open.join("new.db")).unwrap();
    fs::rename(open.join("new.db"), &path).unwrap();
    agent.restart();
    assert_eq!(agent.backups("orders").sources[0].verified(), Truth::Fail);
    // A bit of a text that nothing but its hash can tell; nobody has looked yet.
    flip_text(&contents(&backup.place, "database.sqlite"));
    let damaged = open.join("damaged.db");
    let run = agent.begin_restore(&backup.id, damaged.to_str().unwrap(), "to compare").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.error_code, "BACKUP_BROKEN", "{run:?}");
    assert!(!damaged.exists());
    let known = agent.newest_backup("orders");
    assert_eq!(known.state(), BackupState::Broken);
    assert!(known.detail.contains("sha256"), "{known:?}");
    let run = agent.verify_backup(&backup.id, BackupLevel::Checksums);
    assert_eq!(run.error_code, "BACKUP_BROKEN");
}

/// Changes a letter in a row.
fn flip_text(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(6).rposition(|it| it.iter().all(u8::is_ascii_alphanumeric)).unwrap();
    bytes[at] = if bytes[at] == b'X' { b'Y' } else { b'X' };
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_agents_own_state_is_restored_and_an_agent_starts_on_it() {
    let agent = TestAgent::started(|_| "[backup]\n".to_owned());
    agent.ctl(&["oplog", "note", "before the backup"]).ok();
    // It is the only source.
    let (run, backup) = agent.backup("");
    assert_eq!((run.state(), backup.source.as_str()), (RunState::Succeeded, "agent"), "{run:?}");
    assert_eq!(backup.level(), BackupLevel::Checksums);
    agent.ctl(&["oplog", "note", "after the backup"]).ok();
    let run = agent.verify_backup("agent", BackupLevel::Restored);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    let mut other = TestAgent::new(|_| "[backup]\n".to_owned());
    let into = other.state().display().to_string();
    let run = agent.begin_restore("agent", &into, "the disk is broken").unwrap();
    let run = agent.ended_run(&run);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
    other.start();
    other.ctl(&["oplog", "verify"]).ok();
    let oplog = other.ctl(&["oplog", "list", "-o", "json"]).ok().text();
    assert!(oplog.contains("before the backup") && !oplog.contains("after the backup"), "{oplog}");
    let id = |agent: &TestAgent| agent.ctl(&["status", "-o", "json"]).response()["hostId"].clone();
    assert_eq!(id(&agent), id(&other));
    // What was being made when it was copied is no backup of the other.
    let known = other.newest_backup("agent");
    assert_eq!(known.state(), BackupState::Failed, "{known:?}");
}

#[test]
fn what_can_not_be_is_refused_and_nothing_is_touched() {
    let open = Open::new();
    let (agent, path) = file_host(&open, "");
    let (_, backup) = agent.backup("orders");
    agent.backup("agent");
    let full = open.join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("x"), "").unwrap();
    fs::create_dir(open.join("pg")).unwrap();
    fs::write(open.join("pg/PG_VERSION"), "15\n").unwrap();
    let place = |path: PathBuf| path.display().to_string();
    for (backup, into) in [
        ("orders", "relative".to_owned()),
        ("orders", "/tmp/../tmp/x".to_owned()),
        ("orders", place(full.clone())),
        ("orders", place(full.join("x"))),
        ("orders", place(path.clone())),
        ("orders", format!("{}-wal", path.display())),
        ("orders", place(agent.state().join("x"))),
        ("orders", place(open.join("pg/base"))),
        ("agent", place(full)),
        ("agent", "/".to_owned()),
    ] {
        let said = agent.begin_restore(backup, &into, "why not").unwrap_err();
        assert!(said.contains("RESTORE_TARGET_INVALID"), "{into}: {said}");
    }
    let into = place(open.join("new.db"));
    let said = agent.begin_restore("orders", &into, "").unwrap_err();
    assert!(said.contains("REASON_MISSING"), "{said}");
    let said = agent.begin_restore("01ZZZZZZ", &into, "x").unwrap_err();
    assert!(said.contains("BACKUP_NOT_FOUND"), "{said}");
    for (backup, level) in [("orders", BackupLevel::Queried), ("agent", BackupLevel::Queried)] {
        let said = agent.begin_verify(backup, level).unwrap_err();
        assert!(said.contains("LEVEL_NOT_POSSIBLE"), "{said}");
    }
    let said = agent.begin_backup("nobody").unwrap_err();
    assert!(said.contains("BACKUP_SOURCE_NOT_FOUND"), "{said}");
    assert!(!Path::new(&into).exists());
    assert_eq!(agent.newest_backup("orders").id, backup.id);
}

#[test]
fn so_many_are_kept_and_the_last_verified_one_always() {
    let open = Open::new();
    let more = "keep = \"2\"\n";
    let (agent, path) = file_host(&open, more);
    let made: Vec<_> = (0..4).map(|_| agent.backup("orders").1).collect();
    let states: Vec<_> = agent.backups("orders").backups.iter().map(|it| it.state()).collect();
    use BackupState::{Complete, Expired};
    assert_eq!(states, [Complete, Complete, Expired, Expired]);
    let there: Vec<bool> = made.iter().map(|it| Path::new(&it.place).exists()).collect();
    assert_eq!(there, [false, false, true, true]);
    // From now on nothing that is made can be verified.
    agent.configure(&format!(
        "[backup]\nkeep = \"1\"\nlevel = \"L3\"\n{}[[backup.source]]\nname = \"orders\"\n\
         [[backup.source.query]]\nname = \"never\"\nsql = \"SELECT 1\"\nexpect = \"2\"\n",
        instance("orders", &format!("sqlite:{}", path.display()))
    ));
    agent.ctl(&["config", "reload"]).ok();
    for _ in 0..2 {
        let (run, _) = agent.backup("orders");
        assert_eq!(run.error_code, "BACKUP_BROKEN", "{run:?}");
    }
    assert!(Path::new(&made[3].place).exists(), "the last verified one is kept");
    let run = agent.verify_backup(&made[3].id, BackupLevel::Checksums);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
}

#[test]
fn a_second_caller_is_attached_and_an_emergency_refuses() {
    let open = Open::new();
    let (mut agent, _) = file_host(&open, "");
    let pause = open.join("pause");
    agent.terminate();
    agent.environment("GENESIS_PAUSE", &format!("backup.before-copy:{}", pause.display()));
    agent.start();
    fs::write(&pause, "").unwrap();
    let first = agent.begin_backup("orders").unwrap();
    wait_until("the pause", || open.join("pause.reached").exists());
    let second = agent.begin_backup("orders").unwrap();
    assert_eq!((first.attached, second.attached), (false, true));
    assert_eq!(first.run_id, second.run_id);
    fs::remove_file(&pause).unwrap();
    assert_eq!(agent.ended_run(&first.run_id).state(), RunState::Succeeded);
    agent.ctl(&["emergency", "activate", "--reason", "prices are wrong", "--yes"]).ok();
    let said = agent.begin_backup("orders").unwrap_err();
    assert!(said.contains("EMERGENCY"), "{said}");
    // What one may need then goes on.
    let run = agent.verify_backup("orders", BackupLevel::Checksums);
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
}

#[test]
fn the_job_backs_up_whatever_is_due() {
    let open = Open::new();
    let (agent, _) = file_host(&open, "");
    agent.ctl(&["schedule", "run", "backup.run", "--reason", "now"]).ok();
    for source in ["orders", "agent"] {
        wait_until(source, || {
            agent.backups(source).backups.iter().any(|it| it.level() == BackupLevel::Checksums)
        });
    }
    // By now nothing is.
    agent.ctl(&["schedule", "run", "backup.run", "--reason", "now"]).ok();
    assert_eq!(agent.backups("orders").backups.len(), 1);
}

#[test]
fn a_full_disk_fails_the_backup_and_leaves_nothing_of_it() {
    let (server, open) = (trades(), Open::new());
    let disk = LoopDisk::ext4(200);
    let pause = open.join("pause");
    let mut agent = TestAgent::new(|_| {
        format!(
            "[backup]\nfolder = {:?}\nscratch = {:?}\n{}",
            disk.join("b"),
            open.join("s"),
            instance("trades", &url(&server))
        )
    });
    agent.environment("GENESIS_PAUSE", &format!("backup.before-copy:{}", pause.display()));
    agent.start();
    fs::write(&pause, "").unwrap();
    let run = agent.begin_backup("trades").unwrap();
    wait_until("the pause", || open.join("pause.reached").exists());
    // All but the half of it.
    let ballast = disk.join("ballast");
    let mut file = fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 1 << 20]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - (15 << 20)).unwrap();
    fs::remove_file(&pause).unwrap();
    let run = agent.ended_run(&run.run_id);
    assert_eq!(
        (run.state(), run.error_code.as_str()),
        (RunState::Failed, "BACKUP_FAILED"),
        "{run:?}"
    );
    assert!(run.summary.contains("free on the disk of"), "{}", run.summary);
    let backup = agent.newest_backup("trades");
    assert_eq!(backup.state(), BackupState::Failed);
    let left: Vec<_> = fs::read_dir(disk.join("b/trades")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    // Before it is begun, it is refused.
    let (run, _) = agent.backup("trades");
    assert_eq!(
        (run.state(), run.error_code.as_str()),
        (RunState::Refused, "BACKUP_NO_ROOM"),
        "{run:?}"
    );
    wait_until("people to hear of it", || agent.firing("trades").is_some());
    drop(file);
    fs::remove_file(&ballast).unwrap();
    let (run, _) = agent.backup("trades");
    assert_eq!(run.state(), RunState::Succeeded, "{run:?}");
}
