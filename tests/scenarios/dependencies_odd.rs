//! Updates where something else than the update goes wrong: nothing is in service yet, the link or the service can't be put
//! right, somebody changes what the agent works on, or the state can't be written.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use genesis_tests::application::{FIRST, Flaw, library};
use genesis_tests::binaries::foreign;
use genesis_tests::clock::{now, wait_until};
use genesis_tests::package_index::Listed;
use genesis_tests::updates::{Updates, configured};
use genesis_tests::wheels::Wheel;
use genesis_tests::{Ballast, LoopDisk};
use jiff::SignedDuration;

/// The user `nobody`.
const NOBODY: u32 = 65_534;

fn long_ago() -> Listed {
    Listed::at(now() - SignedDuration::from_hours(100 * 24))
}

fn alerts(host: &Updates) -> String {
    host.agent.ctl(&["alerts", "list"]).text()
}

/// Restarts that do nothing but to fail, each with a line in this file.
fn fail_restarts(host: &Updates) {
    let script =
        format!("#!/bin/sh\necho tried >>'{}'\nexit 1\n", host.app.path("tried").display());
    fs::rename(host.app.path("restart.sh"), host.app.path("restart.good")).unwrap();
    fs::write(host.app.path("restart.sh"), script).unwrap();
}

fn mend_restarts(host: &Updates) {
    fs::rename(host.app.path("restart.good"), host.app.path("restart.sh")).unwrap();
}

fn tried(host: &Updates) -> usize {
    fs::read_to_string(host.app.path("tried")).map_or(0, |text| text.lines().count())
}

#[test]
fn tools_and_tests_run_as_the_user_of_the_project_and_what_they_made_is_the_agents() {
    let mut host = Updates::new("", "");
    let top = host.app.root().parent().unwrap().to_owned();
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    // The first release is made with the host's own Python: that of the tests may be in somebody's home.
    host.app.stop();
    fs::remove_file(host.app.path("current")).unwrap();
    fs::create_dir(host.app.path("tools")).unwrap();
    fs::copy(foreign("python/bin/uv"), host.app.path("tools/uv")).unwrap();
    let text = configured(&host.app, "", "", &host.app.path("releases"));
    let start = text.find("environment = ").unwrap();
    let end = start + text[start..].find('\n').unwrap();
    let tools = host.app.path("tools");
    let environment = |user: &str| {
        format!("user = \"{user}\"\nenvironment = [\"PATH={}:/usr/bin:/bin\"]", tools.display())
    };
    let with = |user: &str| [&text[..start], &environment(user), &text[end..]].concat();
    host.agent.configure(&with("nobody"));
    host.agent.start();
    host.know(&[]);
    let looks = format!(
        "import os, sys\nif 'pytest' in sys.modules:\n    assert os.getuid() == {NOBODY}, 'runs as somebody else'\n    \
         assert not os.access(os.path.dirname(__file__), os.W_OK), 'changes the release'"
    );
    host.publish("frames", "2.0.1", &Flaw::Runs(looks));
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.1");
    let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
    let release = fs::canonicalize(host.app.path("current")).unwrap();
    let installed = ["pyvenv.cfg", "bin/python", "lib"].map(|it| owner(&release.join(it)));
    assert_eq!((owner(&release), installed), (0, [0; 3]), "nobody changes what was tested");

    host.agent.configure(&with("no-such-user"));
    host.agent.restart();
    host.update("conservative").exits(4).says(&["PROJECT_UNMANAGED", "there is no such user"]);
}

#[test]
fn the_first_release_comes_into_service_or_nothing_does() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    host.app.stop();
    fs::remove_file(host.app.path("current")).unwrap();
    fs::remove_dir_all(host.app.path("releases")).unwrap();
    host.publish("frames", "2.0.1", &Flaw::Dies);
    host.update("conservative").exits(1).says(&["HEALTH_WINDOW_FAILED"]);
    assert!(!host.app.path("current").is_symlink(), "as before");
    assert_eq!(host.app.text("requirements.txt"), before);
    let newest = host.newest();
    assert_eq!(newest["state"], "UPDATE_STATE_ROLLED_BACK", "{newest}");
    host.publish("frames", "2.0.2", &Flaw::None);
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.2");
    // There is nothing before it.
    host.agent.ctl(&["deps", "rollback", "--yes"]).exits(1).says(&["RELEASE_NOT_FOUND"]);
}

#[test]
fn what_can_not_be_taken_back_is_told_and_taken_back_as_soon_as_it_can_be() {
    let host = Updates::started("", "");
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::BreaksAfter(2));
    let mut update = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    wait_until("the new release", || host.app.linked() != FIRST);
    // Where the link is made before it is moved, something stands that does not go away.
    let mut place = host.app.path("current").into_os_string();
    place.push(".genesis-new");
    fs::create_dir(&place).unwrap();
    let disk = LoopDisk::ext4_at(8, Path::new(&place));
    assert!(!update.wait().unwrap().success());
    let newest = host.newest();
    assert_eq!((&newest["state"], &newest["endedAt"]), (&"UPDATE_STATE_HEALTH".into(), &().into()));
    assert_ne!(host.app.linked(), FIRST);
    wait_until("people hear of it", || {
        alerts(&host).contains("the update of app can't be taken back")
    });
    host.update("conservative").exits(4).says(&["UPDATE_STUCK", "can't be taken back yet"]);
    let rollback = host.agent.ctl(&["deps", "rollback", "--to", "1", "--yes"]);
    rollback.exits(4).says(&["UPDATE_STUCK"]);

    drop(disk);
    // Each look tries it again.
    host.know(&[]);
    wait_until("the one before", || {
        host.newest()["state"] == "UPDATE_STATE_ROLLED_BACK" && host.app.linked() == FIRST
    });
    wait_until("its service", || host.app.serves(FIRST));
    assert_eq!(host.app.text("requirements.txt"), before);
    host.publish("frames", "2.0.2", &Flaw::None);
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.2");
}

#[test]
fn what_somebody_put_in_service_meanwhile_is_left_and_people_are_asked_to_look() {
    let mut host = Updates::started("", "");
    host.app.build("by-hand");
    host.agent.terminate();
    host.publish("frames", "2.0.1", &Flaw::None);
    host.agent.start_with_failpoint("dependencies.health", 1);
    host.agent.wait_ready();
    let mut asked = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    host.agent.wait_killed();
    fs::remove_file(host.app.path("current")).unwrap();
    symlink("releases/by-hand", host.app.path("current")).unwrap();
    host.agent.start();
    let _ = asked.wait();
    assert_eq!(host.app.linked(), "by-hand");
    let newest = host.newest();
    assert_eq!(newest["state"], "UPDATE_STATE_HELD", "{newest}");
    wait_until("people hear of it", || alerts(&host).contains("what is in service is not known"));
    // Whoever has looked goes on.
    host.app.restart();
    host.update("conservative").ok();
    assert_eq!(host.app.running("frames"), "2.0.1");
}

#[test]
fn a_restart_that_is_owed_is_tried_three_times_and_people_hear_of_it() {
    let mut host = Updates::started("", "");
    host.agent.terminate();
    host.publish("frames", "2.0.1", &Flaw::None);
    host.agent.start_with_failpoint("dependencies.health", 1);
    host.agent.wait_ready();
    let mut asked = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    host.agent.wait_killed();
    fail_restarts(&host);
    host.agent.start();
    let _ = asked.wait();
    assert_eq!(host.app.linked(), FIRST, "the link is put right all the same");
    let looked = || host.project()["scannedAt"].as_str().unwrap_or_default().to_owned();
    for round in 1..=5 {
        wait_until("the look", || !looked().is_empty());
        let before = looked();
        wait_until("a try", || tried(&host) >= round.min(3));
        host.know(&[]);
        wait_until("the next look", || looked() != before);
    }
    assert_eq!(tried(&host), 3, "a hook that fails is not to restart a service for ever");
    assert_eq!(host.newest()["restartOwed"], true);
    wait_until("people hear of it", || alerts(&host).contains("app could not be restarted"));
    mend_restarts(&host);
    // Another agent tries again.
    host.agent.restart();
    wait_until("its end", || host.newest()["restartOwed"] == false);
    wait_until("what runs", || host.app.serves(FIRST));
}

#[test]
fn what_somebody_wrote_into_a_manifest_meanwhile_stays() {
    let host = Updates::started("", "");
    host.publish("frames", "2.0.1", &Flaw::None);
    let mut update = host.agent.ctl_command(&["deps", "update", "--yes"]);
    let mut update = update.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("the new release", || host.app.linked() != FIRST);
    let theirs = format!("{}# ours\n", host.app.text("requirements.txt"));
    fs::write(host.app.path("requirements.txt"), &theirs).unwrap();
    assert!(!update.wait().unwrap().success());
    let newest = host.newest();
    assert_eq!(newest["errorCode"], "MANIFEST_CHANGED", "{newest}");
    assert_eq!(newest["failedIn"], "UPDATE_STATE_HEALTH", "before anything is written: {newest}");
    assert_eq!(host.app.text("requirements.txt"), theirs, "byte for byte");
    assert_eq!((host.app.linked().as_str(), host.app.running("frames")), (FIRST, "2.0.0".into()));
}

#[test]
fn what_somebody_wrote_into_a_manifest_during_the_tests_restarts_nothing() {
    let host = Updates::started("", "");
    let slow = "import sys, time\nif 'pytest' in sys.modules:\n    time.sleep(4)";
    host.publish("frames", "2.0.1", &Flaw::Runs(slow.to_owned()));
    let pid = host.app.version()["pid"].clone();
    let mut update = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    wait_until("the tests", || host.newest()["state"] == "UPDATE_STATE_TEST");
    let theirs = format!("{}# ours\n", host.app.text("requirements.txt"));
    fs::write(host.app.path("requirements.txt"), &theirs).unwrap();
    assert!(!update.wait().unwrap().success());
    let newest = host.newest();
    assert_eq!(newest["errorCode"], "MANIFEST_CHANGED", "{newest}");
    assert_eq!((host.app.linked().as_str(), &host.app.version()["pid"]), (FIRST, &pid));
    assert_eq!(
        (host.app.text("requirements.txt"), host.app.releases()),
        (theirs, vec![FIRST.into()])
    );
}

#[test]
fn what_is_locked_for_other_systems_too_stays_so() {
    let host = Updates::started("", "");
    host.index.publish(&Wheel::new("colorama", "0.4.6").source(""), long_ago());
    for version in ["1.0.0", "1.0.4", "1.1.0"] {
        host.index.publish(&Wheel::new("winonly", version).source(""), long_ago());
    }
    let input =
        format!("{}winonly==1.0.0 ; sys_platform == 'win32'\n", host.app.text("requirements.in"));
    fs::write(host.app.path("requirements.in"), &input).unwrap();
    let mut uv = host.app.uv();
    uv.args([
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--only-binary",
        ":all:",
        "--generate-hashes",
    ]);
    uv.args(["requirements.in", "--output-file", "requirements.txt"]);
    assert!(uv.arg("--python").arg(foreign("python/bin/python")).status().unwrap().success());
    fs::write(host.app.path("requirements.in"), input.replace("winonly==1.0.0", "winonly"))
        .unwrap();
    let command = |text: &str| text.lines().nth(1).unwrap_or_default().to_owned();
    let header = command(&host.app.text("requirements.txt"));
    assert!(header.contains("--universal"), "{header}");
    host.publish("frames", "2.0.1", &Flaw::None);
    host.update("conservative").ok().says(&["SUCCEEDED"]);
    let text = host.app.text("requirements.txt");
    assert!(text.contains("winonly==1.0.4 ; sys_platform == 'win32' \\\n    --hash="), "{text}");
    assert_eq!(command(&text), header);
    assert_eq!(host.app.running("frames"), "2.0.1");
    assert!(host.app.version()["libraries"]["winonly"].is_null(), "it is for others");
    host.update("conservative").ok().says(&["nothing newer"]);
}

#[test]
fn where_the_state_can_not_be_written_a_release_is_taken_back_all_the_same() {
    let mut host = Updates::on_small_disk(48);
    host.agent.start();
    host.know(&[]);
    let before = host.app.text("requirements.txt");
    host.index.publish(&library("frames", "2.0.1", &Flaw::BreaksAfter(2)), long_ago());
    let mut update = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    wait_until("the new release", || host.app.linked() != FIRST);
    wait_until("its window", || host.newest()["state"] == "UPDATE_STATE_HEALTH");
    let ballast = Ballast::fill(host.agent.disk().join("ballast"));
    wait_until("the one before", || host.app.linked() == FIRST);
    wait_until("its service", || host.app.serves(FIRST));
    ballast.release();
    let _ = update.wait();
    host.know(&[]);
    wait_until("its record", || host.newest()["state"] == "UPDATE_STATE_ROLLED_BACK");
    wait_until("what it owes", || host.newest()["restartOwed"] == false);
    assert_eq!(host.app.text("requirements.txt"), before);
    host.agent.ctl(&["oplog", "verify"]).ok();
}

#[test]
fn what_still_has_a_file_of_a_release_that_was_replaced_is_to_be_restarted() {
    let host = Updates::started("", "");
    let sleep = host.app.path("releases/first/bin/sleep");
    fs::copy("/bin/sleep", &sleep).unwrap();
    let mut old = Command::new(&sleep).arg("600").spawn().unwrap();
    host.publish("frames", "2.0.1", &Flaw::None);
    // It is no part of the service that was restarted, and the window sees it all the same.
    let failed = host.update("conservative");
    failed.exits(1).says(&["HEALTH_WINDOW_FAILED", "still runs what was replaced"]);
    old.kill().unwrap();
    old.wait().unwrap();
    host.update("conservative").ok();
    let memory = |host: &Updates| {
        host.know(&[]);
        host.project()["inMemory"].clone()
    };
    wait_until("what is new runs", || memory(&host) == "TRUTH_PASS");
    let mut old = Command::new(&sleep).arg("600").spawn().unwrap();
    wait_until("the old one", || memory(&host) == "TRUTH_FAIL");
    host.agent.ctl(&["deps", "status"]).says(&["bin/sleep 600"]);
    wait_until("people hear of it", || alerts(&host).contains("app does not run what is locked"));
    old.kill().unwrap();
    old.wait().unwrap();
    wait_until("what is new runs", || memory(&host) == "TRUTH_PASS");
}

#[test]
fn of_several_manifests_all_are_written_or_none() {
    let mut host = Updates::new("", "");
    fs::create_dir(host.app.path("sub")).unwrap();
    let disk = LoopDisk::ext4_at(8, &host.app.path("sub"));
    for version in ["1.0.0", "1.0.1"] {
        host.index.publish(&Wheel::new("extra", version).source(""), long_ago());
    }
    fs::write(disk.join("more.txt"), "extra==1.0.0\n").unwrap();
    let text = configured(&host.app, "", "", &host.app.path("releases"));
    let manifests = "manifests = [\"requirements.txt\"";
    host.agent.configure(&text.replace(manifests, &format!("{manifests}, \"sub/more.txt\"")));
    host.agent.start();
    host.know(&[]);
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::None);
    let ballast = Ballast::fill(disk.join("ballast"));
    host.update("conservative").exits(1).says(&["DEPENDENCY_UPDATE_FAILED", "sub/more.txt"]);
    let newest = host.newest();
    assert_eq!(newest["failedIn"], "UPDATE_STATE_COMMIT", "{newest}");
    assert_eq!(host.app.text("requirements.txt"), before, "it was written, and is as it was");
    assert_eq!(host.app.text("sub/more.txt"), "extra==1.0.0\n");
    assert_eq!((host.app.linked().as_str(), host.app.running("frames")), (FIRST, "2.0.0".into()));
    ballast.release();
    host.update("conservative").ok();
    assert_eq!(host.app.text("sub/more.txt"), "extra==1.0.1\n");
    assert_eq!(
        (host.locked("frames"), host.app.running("extra")),
        ("2.0.1".into(), "1.0.1".into())
    );
    host.agent.terminate();
}

#[test]
fn what_a_tool_says_it_has_installed_is_looked_for() {
    let mut host = Updates::new("", "");
    fs::create_dir(host.app.path("tools")).unwrap();
    let uv = host.app.path("tools/uv");
    let script = format!(
        "#!/bin/sh\n'{}' \"$@\" || exit\ncase \" $* \" in *' sync '*) ;; *) exit 0 ;; esac\n\
         rm -rf '{}'/*/lib/python*/site-packages/frames-2.0.1.dist-info\n",
        foreign("python/bin/uv").display(),
        host.app.path("releases").display()
    );
    fs::write(&uv, script).unwrap();
    fs::set_permissions(&uv, fs::Permissions::from_mode(0o755)).unwrap();
    let text = configured(&host.app, "", "", &host.app.path("releases"));
    host.agent
        .configure(&text.replace("PATH=", &format!("PATH={}:", host.app.path("tools").display())));
    host.agent.start();
    host.know(&[]);
    host.publish("frames", "2.0.1", &Flaw::None);
    let failed = host.update("conservative");
    failed.exits(1).says(&["BUILD_FAILED", "uv ended well, and frames 2.0.1 is not there"]);
    assert_eq!((host.app.linked().as_str(), host.app.releases()), (FIRST, vec![FIRST.into()]));
}

#[test]
fn a_link_that_somebody_moves_while_a_release_proves_itself_stays_where_it_is() {
    let host = Updates::started("", "");
    host.app.build("by-hand");
    let before = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::None);
    let mut update = host.agent.ctl_command(&["deps", "update", "--yes"]).spawn().unwrap();
    wait_until("the window", || host.newest()["state"] == "UPDATE_STATE_HEALTH");
    host.app.link("by-hand");
    assert!(!update.wait().unwrap().success());
    let newest = host.newest();
    assert_eq!(newest["state"], "UPDATE_STATE_HELD", "{newest}");
    assert_eq!(host.app.linked(), "by-hand");
    assert_eq!(host.app.text("requirements.txt"), before, "of what is in service nothing is known");
    wait_until("people hear of it", || alerts(&host).contains("what is in service is not known"));
}

#[test]
fn a_release_keeps_its_manifests_whatever_somebody_writes_into_them_later() {
    let host = Updates::started("", "");
    let first = host.app.text("requirements.txt");
    host.publish("frames", "2.0.1", &Flaw::None);
    host.update("conservative").ok();
    let (made, whole) = (host.app.linked(), host.app.text("requirements.txt"));
    let edited = whole.replace("frames==2.0.1", "frames==2.0.9");
    fs::write(host.app.path("requirements.txt"), &edited).unwrap();
    host.agent.ctl(&["deps", "rollback", "--yes", "--reason", "it is slow"]).ok();
    assert_eq!(host.app.text("requirements.txt"), first);
    host.agent.ctl(&["deps", "rollback", "--to", &made, "--yes"]).ok();
    assert_eq!(
        (host.app.text("requirements.txt"), host.app.running("frames")),
        (whole, "2.0.1".into())
    );
    // What comes to nothing leaves a change by hand as it was.
    fs::write(host.app.path("requirements.txt"), &edited).unwrap();
    host.publish("frames", "2.0.10", &Flaw::Broken);
    host.publish("frames", "2.0.9", &Flaw::None);
    host.update("conservative").exits(1).says(&["HEALTH_WINDOW_FAILED"]);
    assert_eq!(host.app.text("requirements.txt"), edited);
}

#[test]
fn that_what_was_before_does_not_do_well_either_is_told_until_it_does() {
    let host = Updates::started("", "");
    let ill = host.app.path("ill");
    let looks = format!("import os\nBROKEN = os.path.exists({ill:?})");
    host.publish("frames", "2.0.1", &Flaw::Runs(looks));
    host.update("conservative").ok();
    fs::write(&ill, "").unwrap();
    host.publish("frames", "2.0.2", &Flaw::Broken);
    host.update("conservative").exits(1).says(&["HEALTH_WINDOW_FAILED"]);
    assert_eq!(host.app.running("frames"), "2.0.1");
    assert!(host.newest()["ill"].as_str().unwrap().contains("500"), "{}", host.newest());
    host.agent.ctl(&["deps", "history", "-v"]).says(&["does not do well"]);
    wait_until("people hear of it", || alerts(&host).contains("app does not do well"));
    fs::remove_file(&ill).unwrap();
    host.app.restart();
    host.know(&[]);
    wait_until("it does well", || host.newest()["ill"] == "");
}
