//! What is on disk when: each deletion comes after the copy it relies on was made durable.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use genesis_tests::clock::wait_until;
use genesis_tests::{binaries, ctl, lines, source};

/// The place of the first call from `from` on that holds all of `words`.
fn place(calls: &[String], from: usize, words: &[&str]) -> usize {
    let found =
        calls.iter().skip(from).position(|call| words.iter().all(|word| call.contains(word)));
    from + found
        .unwrap_or_else(|| panic!("no {words:?} behind call {from} of:\n{}", calls.join("\n")))
}

#[test]
fn the_plain_file_goes_only_when_its_segment_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let log = path("t.log");
    std::fs::write(&log, lines::text(0..1000)).unwrap();
    let config = format!("[listen]\nhttp = \"127.0.0.1:0\"\n{}", source("trading", &log, "1GB"));
    std::fs::write(path("agent.toml"), config).unwrap();
    let mut traced = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-e",
            "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat",
            "-o",
        ])
        .arg(path("calls.txt"))
        .arg(binaries::agent())
        .args([
            "--config",
            path("agent.toml").to_str().unwrap(),
            "--state-dir",
            path("state").to_str().unwrap(),
        ])
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("strace is needed by this test; tests/run installs it");
    let node = format!("unix:{}", path("state/agent.sock").display());
    wait_until("the traced agent to answer", || ctl(&["-n", &node, "status"]).code == 0);
    ctl(&["-n", &node, "logs", "rotate", "--log-type", "trading"]).ok();
    let pid = std::fs::read_to_string(path("state/agent.lock")).unwrap();
    binaries::tool("kill", &["-TERM", pid.trim()]);
    traced.wait().unwrap();

    let text = std::fs::read_to_string(path("calls.txt")).unwrap();
    let calls: Vec<String> =
        text.lines().filter(|line| !line.contains("resumed>")).map(str::to_owned).collect();
    let cut = place(&calls, 0, &["rename", "t.log\"", ".genesis\""]);
    let cut_durable = place(&calls, cut, &["fsync(", &format!("<{}>", folder.path().display())]);
    let sealed = place(&calls, cut_durable, &["fsync(", ".sealing>"]);
    let named = place(&calls, sealed, &["rename", ".sealing\"", ".log.gz\""]);
    let named_durable = place(&calls, named, &["fsync(", "/logs/sealed/trading/"]);
    let recorded = place(&calls, named_durable, &["sync(", "state.redb>"]);
    let gone = place(&calls, recorded, &["unlink", ".genesis\""]);
    let archived = place(&calls, gone, &["fsync(", "/archive/trading/"]);
    assert!(archived > gone);
    let earlier = calls[..recorded]
        .iter()
        .find(|call| call.contains("unlink") && call.contains(".genesis\""));
    assert!(earlier.is_none(), "deleted before the sealing was recorded: {earlier:?}");
    let first =
        calls[..sealed].iter().find(|call| call.contains("rename") && call.contains(".sealing\""));
    assert!(first.is_none(), "named before it was durable: {first:?}");
}
