//! `deps check`.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::deps::{agent, finding, on, unjudged};
use crate::fake::{Dependencies, Fake, Script, refusal};
use crate::{ctl, folder, squeezed};

pub(crate) fn change(package: &str, from: &str, to: &str, change: VersionChange) -> PackageChange {
    PackageChange {
        package: package.into(),
        from: from.into(),
        to: to.into(),
        change: change.into(),
        fixes: Vec::new(),
    }
}

fn days(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

/// One with something of each kind.
fn api() -> ProjectCheck {
    use VersionChange as C;
    let fixes = vec!["CVE-2024-1".into(), "CVE-2024-2".into()];
    let requests = PackageChange { fixes, ..change("requests", "2.31.0", "2.31.4", C::Patch) };
    let urllib3 = PackageChange {
        fixes: vec!["CVE-2024-2".into()],
        ..change("urllib3", "2.0.1", "2.0.7", C::Patch)
    };
    let numpy = PackageChange {
        fixes: vec!["CVE-2024-9".into()],
        ..change("numpy", "1.26.4", "2.1.0", C::Major)
    };
    let exploited = DependencyFinding {
        score: Some(7.5),
        exploited: Some(true),
        installed: "3.0.1".into(),
        fixed_in: "3.1.4".into(),
        ..finding("CVE-2024-5", "jinja2", VulnerabilitySeverity::High)
    };
    let unfixed = DependencyFinding {
        fixed_in: String::new(),
        installed: "1.0".into(),
        ..finding("PYSEC-2024-2", "left\u{1b}[2Jpad", VulnerabilitySeverity::Unknown)
    };
    ProjectCheck {
        project: "api".into(),
        strategy: UpdateStrategy::Conservative.into(),
        changes: vec![requests, urllib3, change("idna", "", "3.7", C::Added)],
        beyond: vec![numpy],
        unmanaged: vec![unjudged("own", "from git+https://h/own", "requirements.txt", 9)],
        remaining: vec![exploited, unfixed],
        min_release_age: days(3),
        age_checked: true,
        ..Default::default()
    }
}

fn failed() -> ProjectCheck {
    ProjectCheck {
        project: "worker".into(),
        strategy: UpdateStrategy::Moderate.into(),
        error: "a needs b<2, and c needs b>=2".into(),
        error_code: "RESOLUTION_FAILED".into(),
        ..Default::default()
    }
}

fn of(projects: Vec<ProjectCheck>) -> Dependencies {
    Dependencies { checked: CheckDependenciesResponse { projects }, ..Default::default() }
}

#[test]
fn what_would_change_is_shown_with_what_stays_and_what_to_run() {
    let (_folder, fake) = agent(of(vec![api()]));
    let check = on(&fake, &["check"]);
    assert_eq!((check.exit, check.stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(
        squeezed(check.out()),
        [
            "api, conservative: 3 packages to change, which ends 2 findings; 2 vulnerabilities stay",
            "PACKAGE LOCKED TO CHANGE FIXES",
            "requests 2.31.0 2.31.4 PATCH CVE-2024-1, CVE-2024-2",
            "urllib3 2.0.1 2.0.7 PATCH CVE-2024-2",
            "idna - 3.7 ADDED -",
            "beyond: numpy 1.26.4 -> 2.1.0 (MAJOR), by --strategy aggressive; it would end CVE-2024-9",
            "stays vulnerable: jinja2 3.0.1 has CVE-2024-5, HIGH 7.5, exploited, fixed in 3.1.4",
            "stays vulnerable: left\\x1b[2Jpad 1.0 has PYSEC-2024-2, UNKNOWN, there is no fixed version yet",
            "unmanaged: requirements.txt:9 own: from git+https://h/own",
            "age of releases: none is taken before it is out for 3d",
            "next: `genesisctl deps update --project api --strategy conservative --plan` shows what an update does, \
             without --plan it is done",
        ]
    );
    let json = on(&fake, &["check", "--project", "api", "--strategy", "security", "-o", "json"]);
    assert_eq!(json.exit, Exit::Ok);
    let json = json.json();
    let first = &json[0]["response"]["projects"][0];
    assert_eq!(first["changes"][0]["change"], "VERSION_CHANGE_PATCH");
    assert_eq!((&first["minReleaseAge"], &first["ageChecked"]), (&"259200s".into(), &true.into()));
    assert_eq!(fake.calls(), ["CheckDependencies", "CheckDependencies api SECURITY"]);
    assert_eq!(on(&fake, &["check", "--strategy", "bold"]).exit, Exit::Usage);
}

#[test]
fn what_could_not_be_found_out_says_why_beside_what_could() {
    let (_folder, fake) = agent(of(vec![failed(), api()]));
    let check = on(&fake, &["check"]);
    assert_eq!((check.exit, check.stderr.as_str()), (Exit::Unknown, ""));
    let lines = squeezed(check.out());
    assert_eq!(
        lines[..4],
        [
            "worker, moderate: it could not be found out",
            "error[RESOLUTION_FAILED]: a needs b<2, and c needs b>=2",
            "",
            "api, conservative: 3 packages to change, which ends 2 findings; 2 vulnerabilities stay",
        ]
    );
    let json = on(&fake, &["check", "-o", "json"]);
    assert_eq!(json.exit, Exit::Unknown);
    assert_eq!(json.json()[0]["response"]["projects"][0]["errorCode"], "RESOLUTION_FAILED");
}

#[test]
fn the_age_of_releases_says_whether_it_was_held_to() {
    for (age, checked, told) in [
        (days(3), true, "none is taken before it is out for 3d"),
        (
            days(3),
            false,
            "3d are wanted, but the tool could not hold to that, so that some may be newer",
        ),
        (days(0), true, "any is taken, however new"),
        (None, false, "any is taken, however new"),
    ] {
        let one = ProjectCheck { min_release_age: age, age_checked: checked, ..api() };
        let (_folder, fake) = agent(of(vec![one]));
        let told = format!("age of releases: {told}\n");
        let check = on(&fake, &["check"]);
        assert!(check.out().contains(&told), "{told}: {}", check.out());
    }
}

#[test]
fn it_ends_with_what_helps() {
    let nothing = || ProjectCheck { changes: vec![], ..api() };
    let calm = || ProjectCheck { remaining: vec![], ..nothing() };
    let security = UpdateStrategy::Security.into();
    for (one, told) in [
        (nothing(), "`genesisctl deps check --project api --strategy security` shows what ends"),
        (calm(), "`genesisctl deps check --project api --strategy aggressive` shows all"),
        (
            ProjectCheck { strategy: security, ..nothing() },
            "`genesisctl deps check --project api --strategy aggressive` shows all",
        ),
        (ProjectCheck { beyond: vec![], ..calm() }, "nothing to do"),
    ] {
        let (_folder, fake) = agent(of(vec![one]));
        let check = on(&fake, &["check"]);
        assert_eq!(check.exit, Exit::Ok);
        assert!(check.out().contains(": nothing to change"), "{}", check.out());
        let last = check.out().lines().last().unwrap();
        assert!(last.starts_with(&format!("next: {told}")), "{told}: {last}");
    }
}

#[test]
fn where_nothing_is_updated_that_is_said() {
    let (_folder, fake) = agent(of(vec![]));
    let check = on(&fake, &["check"]);
    assert_eq!((check.exit, check.out()), (Exit::Ok, ""));
    assert_eq!(check.stderr, "no project can be updated: `genesisctl deps status` says why\n");
}

#[test]
fn several_nodes_have_a_line_for_each_project_to_update() {
    let (_a, one) = agent(of(vec![api()]));
    let (_b, two) = agent(of(vec![failed()]));
    let nodes = [one.node(), two.node()].join(",");
    let check = ctl(&["deps", "check", "--max-parallel", "1", "-n", &nodes]);
    assert_eq!(check.exit, Exit::SomeFailed, "{}", check.stderr);
    let (first, second) = (one.node(), two.node());
    assert_eq!(
        squeezed(check.out()),
        [
            "NODE PROJECT STRATEGY CHANGES FIXES BEYOND VULNERABLE UNMANAGED ERROR".to_owned(),
            format!("{first} api conservative 3 2 1 2 1 -"),
            format!(
                "{second} worker moderate 0 0 0 0 0 error[RESOLUTION_FAILED]: a needs b<2, and c needs b>=2"
            ),
        ]
    );
}

#[test]
fn what_stands_in_the_way_of_updates_says_what_to_do() {
    for (code, reason, exit, next) in [
        (Code::FailedPrecondition, "PROJECT_UNMANAGED", Exit::Refused, "`genesisctl deps status"),
        (Code::FailedPrecondition, "DEPENDENCY_TOOL_MISSING", Exit::Refused, "install it"),
        (Code::Unavailable, "RESOLUTION_FAILED", Exit::Unreachable, "what contradicts what"),
        (Code::FailedPrecondition, "UPDATE_VULNERABLE", Exit::Refused, "nothing was changed"),
        (Code::FailedPrecondition, "UPDATE_UNJUDGED", Exit::Refused, "nothing was changed"),
        (Code::FailedPrecondition, "RESOLUTION_OUT_OF_BOUNDS", Exit::Refused, "deps check"),
    ] {
        let folder = folder();
        let why = refusal(code, reason, "it is so");
        let failing = [("CheckDependencies", why.clone()), ("PlanUpdateDependencies", why)].into();
        let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
        for command in [&["check"][..], &["update", "--plan"]] {
            let refused = on(&fake, command);
            assert_eq!(refused.exit, exit, "{reason}: {}", refused.stderr);
            assert!(
                refused.stderr.starts_with(&format!("error[{reason}]: it is so: "))
                    && refused.stderr.contains(next),
                "{}",
                refused.stderr
            );
        }
    }
}

#[test]
fn what_the_advisories_do_not_say_is_not_known() {
    let stale = "the advisories of PyPI: its file is old".to_owned();
    let (_folder, fake) = agent(of(vec![ProjectCheck { unjudged: stale, ..api() }]));
    let check = on(&fake, &["check"]);
    assert_eq!(check.exit, Exit::Unknown);
    let wanted =
        "not judged: the advisories of PyPI: its file is old: what stays vulnerable is not known";
    assert!(squeezed(check.out()).iter().any(|line| line == wanted), "{}", check.out());
}
