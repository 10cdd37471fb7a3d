//! What the scenarios of updates stand on: the indexes with real uv, pip and cargo, and the applications.

use std::process::{Command, Output};

use genesis_tests::application::{Application, FIRST, Flaw, library};
use genesis_tests::binaries::foreign;
use genesis_tests::cargo_application::{CargoApplication, ours_a, ours_b};
use genesis_tests::cargo_registry::{CargoRegistry, Published};
use genesis_tests::clock::wait_until;
use genesis_tests::index_server::Outage;
use genesis_tests::package_index::{Listed, PackageIndex};
use genesis_tests::wheels::{Wheel, source_archive};

fn listed(time: &str) -> Listed {
    Listed::at(time.parse().unwrap())
}

/// Whether it succeeded, and all that it said.
fn outcome(output: &Output) -> (bool, String) {
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What uv makes of requirements, as the lines of packages.
fn compiled(app: &Application, requirement: &str, arguments: &[&str]) -> (bool, String) {
    std::fs::write(app.path("other.in"), requirement).unwrap();
    let mut uv = app.uv();
    uv.args(["pip", "compile", "--no-header", "--no-annotate", "--python"]);
    uv.arg(foreign("python/bin/python")).arg("other.in");
    outcome(&uv.args(arguments).output().unwrap())
}

#[test]
fn the_index_is_one_to_uv_and_pip() {
    let index = PackageIndex::start();
    let app = Application::lay_out(&index);
    let frames = |version: &str| library("frames", version, &Flaw::None);
    index.publish(&frames("2.0.1"), listed("2026-02-01T00:00:00Z"));
    index.publish(&frames("2.1.0"), listed("2026-03-01T00:00:00Z"));
    index.publish(&frames("2.2.0").requires_python(">=4"), listed("2026-03-01T00:00:00Z"));
    let yanked = Listed { yanked: Some("it <fails>".to_owned()), ..Listed::default() };
    index.publish(&frames("2.3.0"), yanked);
    let (file, archive) = source_archive("frames", "2.4.0", "raise SystemExit('it is built')");
    index.publish_file(&file, archive, listed("2026-03-01T00:00:00Z"));

    // The times, the versions of Python, what was taken back, and archives of sources are all seen.
    let wheels = ["--only-binary", ":all:"];
    assert!(compiled(&app, "frames", &wheels).1.starts_with("frames==2.1.0\n"));
    let older = [&wheels[..], &["--exclude-newer", "2026-02-15T00:00:00Z"]].concat();
    assert!(compiled(&app, "frames", &older).1.starts_with("frames==2.0.1\n"));
    std::fs::write(app.path("bounds"), "frames<2.0.1\n").unwrap();
    let bounded = [&wheels[..], &["-c", "bounds"]].concat();
    assert!(compiled(&app, "frames", &bounded).1.starts_with("frames==2.0.0\n"));
    let (done, said) = compiled(&app, "frames==2.3.0", &wheels);
    assert!(done && said.contains("it <fails>"), "{said}");
    index.publish(&Wheel::new("undated", "1.0").source(""), Listed::default());
    let (done, said) = compiled(&app, "undated", &older);
    assert!(!done && said.contains("missing an upload date"), "{said}");

    // What is not what it is said to be is not taken.
    let lying = Listed { lies: true, ..Listed::default() };
    index.publish(&Wheel::new("Liar.Liar", "1.0").source(""), lying);
    let (done, said) = compiled(&app, "liar_liar", &["--generate-hashes", "-o", "liar.txt"]);
    assert!(done, "{said}");
    let mut uv = app.uv();
    uv.args(["pip", "install", "--require-hashes", "--python"]).arg(app.path("current/bin/python"));
    let (done, said) = outcome(&uv.args(["-r", "liar.txt"]).output().unwrap());
    assert!(!done && said.contains("Hash mismatch for `liar-liar==1.0`"), "{said}");

    // pip sees the same, with and without JSON.
    std::fs::write(app.path("pip.conf"), index.pip_conf()).unwrap();
    for html in [false, true] {
        index.html_only(html);
        let mut pip = Command::new(foreign("python/bin/pip"));
        pip.args(["download", "--no-cache-dir", "--only-binary", ":all:", "-d", "got", "frames"]);
        pip.env("PIP_CONFIG_FILE", app.path("pip.conf")).env_remove("PIP_FIND_LINKS");
        let (done, said) = outcome(&pip.current_dir(app.root()).output().unwrap());
        assert!(done && app.path("got/frames-2.1.0-py3-none-any.whl").is_file(), "{said}");
        std::fs::remove_dir_all(app.path("got")).unwrap();
    }

    index.fail(Outage::TruncatesFiles);
    let before = index.requests().len();
    let mut uv = app.uv();
    uv.args(["pip", "install", "frames==2.1.0", "--no-cache", "--only-binary", ":all:"]);
    uv.env("UV_HTTP_RETRIES", "0").arg("--python").arg(app.path("current/bin/python"));
    let (done, said) = outcome(&uv.output().unwrap());
    assert!(!done && index.requests().len() > before, "{said}");
}

#[test]
fn the_application_is_what_its_libraries_are() {
    let index = PackageIndex::start();
    let app = Application::lay_out(&index);
    assert_eq!((app.linked().as_str(), app.runs()), (FIRST, false));
    let tests = |release: &str| {
        let words = Application::test_command(&format!("releases/{release}"));
        outcome(
            &Command::new(&words[0]).args(&words[1..]).current_dir(app.root()).output().unwrap(),
        )
    };
    let (done, said) = tests(FIRST);
    assert!(done && said.contains("4 passed"), "{said}");
    app.restart();
    assert_eq!((app.running("ticks").as_str(), app.health()), ("1.0.0", 200));

    let release = |flaw: &Flaw, version: &str| {
        index.publish(&library("ticks", version, flaw), Listed::default());
        app.compile();
        assert!(app.text("requirements.txt").contains(&format!("ticks=={version} ")));
        app.build(version);
        tests(version)
    };
    let (done, said) = release(&Flaw::Wrong, "1.0.1");
    assert!(!done && said.contains("3 failed"), "{said}");
    let (done, said) = release(&Flaw::BreaksAfter(2), "1.0.2");
    assert!(done, "{said}");
    let (done, said) = release(&Flaw::Dies, "1.0.3");
    assert!(done, "{said}");

    // What runs is what was there when it started.
    app.link("1.0.2");
    assert_eq!((app.running_release().as_str(), app.running("ticks").as_str()), (FIRST, "1.0.0"));
    let before = app.version()["pid"].clone();
    app.restart();
    assert_eq!((app.running_release().as_str(), app.running("ticks").as_str()), ("1.0.2", "1.0.2"));
    assert_ne!(app.version()["pid"], before);
    assert_eq!([app.health(), app.health(), app.health()], [200, 200, 500]);

    app.link("1.0.3");
    let hook = app.restart_hook();
    assert!(Command::new(&hook[0]).args(&hook[1..]).status().unwrap().success());
    wait_until("its end", || app.text("tickerd.log").contains("can't go on"));
    assert!(!app.runs());
    assert_eq!(app.releases(), ["1.0.1", "1.0.2", "1.0.3", FIRST]);
}

#[test]
fn the_registry_is_crates_io_to_cargo() {
    let registry = CargoRegistry::start();
    let app = CargoApplication::lay_out(&registry);
    let lock = std::fs::read_to_string(app.root().join("Cargo.lock")).unwrap();
    assert!(lock.contains("registry+https://github.com/rust-lang/crates.io-index"), "{lock}");
    assert_eq!(app.build("first"), "ours-a 1.0.0, ours-b 1.0.0");

    registry.publish(&ours_a("1.1.0", "^1.0.1"), Published::default());
    registry.publish(&ours_b("1.0.1", false), Published::default());
    let yanked = Published { yanked: true, ..Published::default() };
    registry.publish(&ours_b("1.2.0", true), yanked);
    app.run(&["update"]);
    assert_eq!(
        (app.locked("ours-a"), app.locked("ours-b")),
        (vec!["1.1.0".into()], vec!["1.0.1".into()])
    );
    app.run(&["fetch", "--locked"]);
    let (done, said) =
        outcome(&app.cargo().args(["test", "--locked", "--offline"]).output().unwrap());
    assert!(!done && said.contains("its_library_doubles"), "{said}");

    let lying = Published { lies: true, ..Published::default() };
    registry.publish(&ours_b("1.3.0", true), lying);
    app.run(&["update", "ours-b"]);
    let (done, said) = outcome(&app.cargo().args(["fetch", "--locked"]).output().unwrap());
    assert!(!done && said.contains("failed to verify the checksum of `ours-b v1.3.0"), "{said}");
}
