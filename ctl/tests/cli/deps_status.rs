//! `deps status`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::deps::{MONDAY, agent, on, scanned, source};
use crate::fake::Dependencies;
use crate::{at, ctl, ctl_with, squeezed};

fn project(name: &str) -> DependencyProject {
    DependencyProject {
        name: name.into(),
        root: format!("/srv/{name}"),
        manifests: vec!["requirements.txt".into(), "Cargo.lock".into()],
        ..Default::default()
    }
}

fn status(projects: Vec<DependencyProject>, sources: Vec<DataSource>) -> Dependencies {
    let known = GetDependenciesResponse { projects, sources };
    Dependencies { known, ..Default::default() }
}

#[test]
fn the_state_of_projects_and_data_is_shown() {
    let (_folder, fake) = agent(status(vec![project("api")], scanned().sources));
    let shown = on(&fake, &["status"]);
    assert_eq!(shown.exit, Exit::Unknown, "{}", shown.stderr);
    assert_eq!(
        squeezed(shown.out()),
        [
            "PROJECT RELEASE IN MEMORY VULNERABLE LOOKED AT UPDATES ROOT MANIFESTS",
            "api - - not looked yet - not managed /srv/api requirements.txt, Cargo.lock",
            "",
            "Data",
            "SOURCE STATE RECORDS NEWEST FILE DATE WHY",
            "PyPI STALE 2,661 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z the file is 3d old, 48h are allowed",
            "kev CHECKED 2,661 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z -",
            "epss NOT_CHECKED 0 - - none was ever imported",
        ]
    );
    let long = squeezed(on(&fake, &["status", "-v"]).out());
    assert_eq!(long[4], "SOURCE STATE RECORDS NEWEST FILE DATE IMPORTED FILE DIGEST WHY");
    assert!(long[5].contains("2026-11-02T04:00:00Z all.zip d1"), "{}", long[5]);
    let json = on(&fake, &["status", "-o", "json"]);
    assert_eq!(json.exit, Exit::Unknown);
    assert_eq!(json.json()[0]["response"]["projects"][0]["root"], "/srv/api");
    let (_b, other) = agent(status(vec![project("web")], vec![source("PyPI", DataState::Checked)]));
    let both = ctl(&["deps", "status", "-n", &format!("{},{}", fake.node(), other.node())]);
    assert_eq!(both.exit, Exit::SomeFailed);
    let lines = squeezed(both.out());
    assert_eq!(
        (lines.len(), &*lines[0]),
        (3, "NODE PROJECT RELEASE IN MEMORY VULNERABLE LOOKED AT UPDATES ROOT MANIFESTS DATA"),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.ends_with("Cargo.lock PyPI CHECKED")), "{lines:?}");
}

#[test]
fn data_that_a_scan_cant_go_by_decides_the_exit_code_where_there_is_a_project() {
    use DataState as S;
    let one = || vec![project("api")];
    for (projects, sources, exit) in [
        (one(), vec![("PyPI", S::Checked)], Exit::Ok),
        // Neither has to be there.
        (
            one(),
            vec![("PyPI", S::Checked), ("kev", S::NotChecked), ("epss", S::NotChecked)],
            Exit::Ok,
        ),
        (one(), vec![("PyPI", S::Checked), ("kev", S::Stale)], Exit::Unknown),
        (one(), vec![("PyPI", S::Checked), ("crates.io", S::NotChecked)], Exit::Unknown),
        (one(), vec![("PyPI", S::Unspecified)], Exit::Unknown),
        (one(), vec![("kev", S::Checked)], Exit::Unknown),
        (one(), vec![], Exit::Unknown),
        (vec![], vec![("PyPI", S::Stale)], Exit::Ok),
        (vec![], vec![], Exit::Ok),
    ] {
        let told = format!("{} {sources:?}", projects.len());
        let sources = sources.into_iter().map(|(name, state)| source(name, state)).collect();
        let (_folder, fake) = agent(status(projects, sources));
        assert_eq!(on(&fake, &["status"]).exit, exit, "{told}");
    }
    let (_folder, fake) = agent(Dependencies::default());
    let none = on(&fake, &["status"]);
    assert_eq!(
        squeezed(none.out()),
        ["Data", "there is none: import some with `genesisctl deps import-advisories`"]
    );
    assert!(none.stderr.starts_with("no project is configured: name some"), "{}", none.stderr);
}

/// One that the agent updates, and that runs what is locked.
fn managed(name: &str) -> DependencyProject {
    let release = |generation: u64, proven: bool| DependencyRelease {
        generation,
        folder: format!("/srv/{name}/releases/{generation}"),
        digest: "sha256:5f3a".into(),
        packages: 1_061,
        made_at: at(MONDAY - 7_200),
        deployed_at: at(MONDAY - 3_600),
        update_id: "01J0000000000000000000000A".into(),
        current: generation == 4,
        proven,
    };
    DependencyProject {
        strategy: UpdateStrategy::Conservative.into(),
        managed: true,
        current: Some(release(4, true)),
        releases: vec![release(4, true), release(3, false)],
        in_memory: Truth::Pass.into(),
        verdict: ScanVerdict::Pass.into(),
        scanned_at: at(MONDAY),
        ..project(name)
    }
}

fn good() -> Vec<DataSource> {
    vec![source("PyPI", DataState::Checked)]
}

/// Some of each severity, in no order.
fn counts() -> Vec<SeverityCount> {
    use VulnerabilitySeverity as S;
    let of = |severity: S, count| SeverityCount { severity: severity.into(), count };
    vec![of(S::Low, 0), of(S::Medium, 1_200), of(S::Unknown, 3), of(S::Critical, 1)]
}

/// One of which nothing is as it should be.
fn troubled() -> DependencyProject {
    let difference = |package: &str, installed: &str| InstalledDifference {
        package: package.into(),
        locked: "2.32.0".into(),
        installed: installed.into(),
    };
    let ignored = |id: &str, in_force| IgnoredFinding {
        id: id.into(),
        ignored: Some(Ignored {
            until: at(MONDAY + 86_400),
            reason: "no template is a user's".into(),
            by: "anna".into(),
        }),
        in_force,
    };
    DependencyProject {
        in_memory: Truth::Fail.into(),
        in_memory_why: "2 packages and 1 process differ".into(),
        differences: vec![difference("requests", "2.31.0"), difference("idna", "")],
        stale_processes: vec![StaleProcess {
            pid: 4711,
            command: "gunicorn \u{1b}[2Japi:app".into(),
            why: "it maps releases/3/x.so, which is replaced".into(),
        }],
        running: "01J0000000000000000000000B".into(),
        verdict: ScanVerdict::Findings.into(),
        vulnerabilities: counts(),
        ignored: vec![ignored("CVE-2024-5", true), ignored("CVE-2024-6", false)],
        ..managed("api")
    }
}

#[test]
fn what_runs_is_held_against_what_is_locked() {
    let unmanaged = DependencyProject {
        managed: false,
        unmanaged_why: "deploy is not configured".into(),
        ..project("web")
    };
    let (_folder, fake) = agent(status(vec![troubled(), managed("worker"), unmanaged], good()));
    let shown = on(&fake, &["status"]);
    assert_eq!((shown.exit, shown.stderr.as_str()), (Exit::Findings, ""));
    assert_eq!(
        squeezed(shown.out())[..17],
        [
            "PROJECT RELEASE IN MEMORY VULNERABLE LOOKED AT UPDATES ROOT MANIFESTS",
            "api 4 FAIL 1 CRITICAL, 3 UNKNOWN, 1,200 MEDIUM 2026-11-02T04:00:00Z goes on /srv/api \
             requirements.txt, Cargo.lock",
            "worker 4 PASS none 2026-11-02T04:00:00Z conservative /srv/worker requirements.txt, Cargo.lock",
            "web - - not looked yet - not managed /srv/web requirements.txt, Cargo.lock",
            "",
            "api",
            "an update goes on: `genesisctl run watch 01J0000000000000000000000B` follows it",
            "in memory: FAIL: 2 packages and 1 process differ",
            "differs: requests is installed as 2.31.0, and locked as 2.32.0",
            "differs: idna is not installed, and locked as 2.32.0",
            "stale: process 4711 (gunicorn \\x1b[2Japi:app): it maps releases/3/x.so, which is replaced",
            "CVE-2024-5 is ignored until 2026-11-03T04:00:00Z by anna: no template is a user's",
            "CVE-2024-6 was ignored until 2026-11-03T04:00:00Z by anna: no template is a user's",
            "",
            "web",
            "not managed: deploy is not configured",
            "",
        ]
    );
    let long = squeezed(on(&fake, &["status", "-v", "-n", &fake.node()]).out());
    let releases = long.iter().position(|line| line.starts_with("GENERATION PACKAGES MADE"));
    assert_eq!(
        long[releases.unwrap() + 1..][..2],
        [
            "4 (current) 1,061 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z yes 01J0000000000000000000000A \
             sha256:5f3a /srv/api/releases/4",
            "3 1,061 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z no 01J0000000000000000000000A sha256:5f3a \
             /srv/api/releases/3",
        ]
    );
    let json = on(&fake, &["status", "-o", "json"]).json();
    let api = &json[0]["response"]["projects"][0];
    assert_eq!(
        (&api["inMemory"], &api["staleProcesses"][0]["pid"]),
        (&"TRUTH_FAIL".into(), &4711.into())
    );
    assert_eq!(api["current"]["generation"], "4");
    let coloured = ctl_with(&["deps", "status", "-n", &fake.node()], |console| {
        console.stdout_terminal = true;
    });
    assert!(coloured.out().contains("\u{1b}[38;5;9m1 CRITICAL"), "{:?}", coloured.out());
    assert!(!shown.out().contains('\u{1b}'));
}

#[test]
fn what_is_not_known_to_run_is_worse_than_what_is_known_not_to() {
    let of = |managed_by_us: bool, truth: Truth| DependencyProject {
        managed: managed_by_us,
        in_memory: truth.into(),
        ..managed("api")
    };
    let stale = || vec![source("PyPI", DataState::Stale)];
    for (projects, sources, exit) in [
        (vec![of(true, Truth::Pass)], good(), Exit::Ok),
        (vec![of(true, Truth::Fail)], good(), Exit::Findings),
        (vec![of(true, Truth::Unknown)], good(), Exit::Unknown),
        // An agent that does not say it does not know it.
        (vec![of(true, Truth::Unspecified)], good(), Exit::Unknown),
        (vec![of(false, Truth::Unknown)], good(), Exit::Ok),
        (vec![of(false, Truth::Fail)], good(), Exit::Findings),
        (vec![of(true, Truth::Fail), of(true, Truth::Unknown)], good(), Exit::Unknown),
        (vec![of(true, Truth::Unknown), of(true, Truth::Fail)], good(), Exit::Unknown),
        (vec![of(true, Truth::Fail)], stale(), Exit::Unknown),
        (vec![of(true, Truth::Pass)], stale(), Exit::Unknown),
    ] {
        let told = format!("{projects:?} {sources:?}");
        let (_folder, fake) = agent(status(projects, sources));
        assert_eq!(on(&fake, &["status"]).exit, exit, "{told}");
        assert_eq!(on(&fake, &["status", "-o", "json"]).exit, exit, "{told}");
    }
}

#[test]
fn what_was_not_judged_is_not_without_vulnerabilities() {
    use ScanVerdict as V;
    for (verdict, vulnerabilities, told) in [
        (V::Pass, vec![], "PASS none 2026"),
        (V::Findings, counts(), "PASS 1 CRITICAL, 3 UNKNOWN, 1,200 MEDIUM 2026"),
        // It was looked at, and what was found is no vulnerability.
        (V::Findings, vec![], "PASS none 2026"),
        (V::Unknown, vec![], "PASS unknown 2026"),
        (V::Unknown, counts(), "1,200 MEDIUM, not all was judged 2026"),
        (V::Unspecified, vec![], "PASS not looked yet 2026"),
    ] {
        let one = DependencyProject {
            verdict: verdict.into(),
            vulnerabilities,
            current: Some(DependencyRelease { generation: 7, ..Default::default() }),
            ..managed("api")
        };
        let (_folder, fake) = agent(status(vec![one], good()));
        let lines = squeezed(on(&fake, &["status"]).out());
        assert!(lines[1].starts_with("api 7, not proven "), "{lines:?}");
        assert!(lines[1].contains(told), "{told}: {lines:?}");
    }
}
