//! The page as a browser has it: Chromium, driven by the script of `tests/browser`.

use std::path::{Path, PathBuf};
use std::process::Command;

use genesis_tests::{binaries, toured};

use crate::baselines::{Traffic, windows_pass};
use genesis_tests::wall_clock::WallClock;

/// Where pictures for the documentation are kept, if they are to be made anew.
fn pictures() -> Option<PathBuf> {
    let wanted = std::env::var_os("UPDATE_PICTURES").is_some();
    wanted.then(|| root().join("docs/pictures"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn every_view_shows_what_there_is_live_on_every_screen_and_for_everybody() {
    let mut agent = toured::host("");
    let clock = WallClock::of(&mut agent);
    agent.start();
    // Hours pass, in which the demo's operation is as usual, and then is not.
    let (mut traffic, mut ahead) = (Traffic::new(15), 0);
    for passed in 0..9 {
        let scale = if passed < 7 { 1.0 } else { 1.6 };
        windows_pass(&agent, &clock, &mut traffic, &mut ahead, scale);
    }
    let change = format!(
        "'{}' -n {} --reason 'a browser looks on' oplog note 'seen by whoever looks on'",
        binaries::client().display(),
        agent.node()
    );
    let mut script = Command::new("node");
    script.arg(root().join("tests/browser/page.mjs")).arg(format!("http://{}", agent.http()));
    if let Some(folder) = pictures() {
        script.arg("--pictures").arg(folder);
    }
    let output = script
        .env("GENESIS_BROWSER_MODULES", binaries::foreign("browser"))
        .env("GENESIS_BROWSER_CHANGE", change)
        .env("GENESIS_BROWSER_AGENT_PID", agent.pid().to_string())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{shown}");
    println!("{shown}");
}
