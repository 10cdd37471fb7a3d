//! Care of a file of SQLite.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use genesis_tests::TestAgent;
use genesis_tests::clock::wait_until;

use super::database::{codes, last, optimize};

/// Runs Python's own SQLite, which is another process than the agent, as any program is.
fn python(path: &Path, script: &str) -> Child {
    let script = format!(
        "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n{script}\n"
    );
    Command::new("python3")
        .args(["-c", &script])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn made(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("orders.db");
    let script = format!(
        "db.execute('PRAGMA journal_mode = WAL')\n\
         db.execute('CREATE TABLE orders (id INTEGER PRIMARY KEY, symbol TEXT, price INT)')\n\
         db.execute('CREATE INDEX orders_price ON orders (price)')\n\
         db.execute('CREATE INDEX orders_price_again ON orders (price)')\n\
         db.execute('BEGIN')\n\
         db.executemany('INSERT INTO orders VALUES (?, ?, ?)', ((i, 'S%d' % (i % 97), i * 7919 % 10007) for i in range(20000)))\n\
         db.execute('COMMIT')\n{more}"
    );
    assert!(python(&path, &script).wait().unwrap().success());
    path
}

pub(crate) fn text(path: &Path) -> String {
    format!(
        "[[database.instance]]\nname = \"trades\"\nurl = \"sqlite:{}\"\nschedule = \"never\"\ntrades_probe = \"none\"\nmin_free = \"0%\"\n\
         lock_timeout = \"500ms\"\n[[database.instance.bench]]\nname = \"by-price\"\nsql = \"SELECT count(*) FROM orders WHERE price = 5\"\n",
        path.display()
    )
}

fn agent(path: &Path) -> TestAgent {
    let text = text(path);
    TestAgent::started(move |_| text)
}

#[test]
fn a_file_is_copied_compacted_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "db.execute('DELETE FROM orders WHERE id % 3 <> 0')\n");
    let agent = agent(&path);
    let before = std::fs::metadata(&path).unwrap().len();
    agent.ctl(&["db", "preflight"]).ok().says(&["no-writer", "backup-verified"]);
    agent.ctl(&["db", "health"]).exits(3).says(&["free-pages"]);
    agent.ctl(&["db", "indexes"]).exits(3).says(&["duplicate", "DROP INDEX"]);
    optimize(&agent, &["--plan"]).ok().says(&[
        "quick-check",
        "checkpoint",
        "backup",
        "vacuum",
        "analyze",
    ]);
    optimize(&agent, &[]).ok();
    let care = last(&agent);
    assert_eq!(care["outcome"], "CARE_OUTCOME_DONE", "{care:#}");
    let actions: Vec<&str> =
        care["steps"].as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["quick-check", "checkpoint", "backup", "vacuum", "analyze"]);
    // The rewritten pages go through the log of changes.
    let shrunk = python(&path, "db.execute('PRAGMA wal_checkpoint(TRUNCATE)')");
    assert!(shrunk.wait_with_output().unwrap().status.success());
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after * 2 < before, "{before} to {after}");
    agent.ctl(&["db", "verify"]).ok();
    // Nothing to gain: it is not rewritten again.
    optimize(&agent, &[]).ok();
    let steps = last(&agent)["steps"].to_string();
    assert!(!steps.contains("\"vacuum\""), "{steps}");
}

#[test]
fn a_damaged_file_is_left_alone_and_people_are_called() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(
        folder.path(),
        "db.execute('DELETE FROM orders WHERE id % 3 <> 0')\ndb.execute('PRAGMA wal_checkpoint(TRUNCATE)')\ndb.execute('PRAGMA journal_mode = DELETE')\n",
    );
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    // A page in the middle of a table.
    file.write_all_at(&[0x5a; 4096], 4096 * 40).unwrap();
    drop(file);
    let before = std::fs::read(&path).unwrap();
    let agent = agent(&path);
    optimize(&agent, &[]).exits(1);
    let care = last(&agent);
    assert_eq!(codes(&care), ["SQLITE_CORRUPT"], "{care:#}");
    let steps = care["steps"].to_string();
    assert!(!steps.contains("vacuum") && !steps.contains("checkpoint"), "{steps}");
    assert!(std::fs::read(&path).unwrap() == before, "not a byte was changed");
    wait_until("an alert", || agent.ctl(&["alerts", "list"]).text().contains("found corrupt data"));
    agent.ctl(&["alerts", "list", "-o", "json"]).says(&["SEVERITY_CRITICAL"]);
}

/// Another process that has done this, and stays.
fn held(path: &Path, script: &str) -> Child {
    let mut child =
        python(path, &format!("{script}\nprint('ready', flush=True)\nsys.stdin.read()"));
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn a_writer_holds_it_back_and_a_reader_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "");
    let agent = agent(&path);
    let mut writer = held(&path, "db.execute('BEGIN IMMEDIATE')");
    optimize(&agent, &[]).exits(4).says(&["no-writer"]);
    writer.kill().unwrap();
    writer.wait().unwrap();
    let mut reader =
        held(&path, "db.execute('BEGIN')\ndb.execute('SELECT count(*) FROM orders').fetchall()");
    let changed = python(&path, "db.execute('UPDATE orders SET price = price + 1')").wait();
    assert!(changed.unwrap().success());
    optimize(&agent, &[]).exits(1);
    let care = last(&agent);
    assert_eq!(codes(&care), ["WAL_PINNED"], "{care:#}");
    assert!(care["findings"].to_string().contains(&reader.id().to_string()), "{care:#}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    optimize(&agent, &[]).ok();
}

#[test]
fn what_a_writer_holds_back_is_tried_again_in_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = made(folder.path(), "");
    let text = text(&path).replace("\"never\"", "\"* * * * *\"\nwindow = \"59s\"");
    // A minute of its own: what begins late in one would not be tried again.
    wait_until("the begin of a minute", || genesis_tests::clock::now().as_second() % 60 < 20);
    let agent = TestAgent::started(move |_| text);
    let mut writer = held(&path, "db.execute('BEGIN IMMEDIATE')");
    let run = agent.ctl_command(&["schedule", "run", "database.care"]).spawn().unwrap();
    let blocked = || {
        let care = agent.ctl(&["db", "history", "-o", "json"]).response()["care"].clone();
        care.to_string().contains("CARE_OUTCOME_BLOCKED")
    };
    wait_until("a care that is held back", blocked);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(run.wait_with_output().unwrap().status.success());
    assert_eq!(last(&agent)["outcome"], "CARE_OUTCOME_DONE");
}
