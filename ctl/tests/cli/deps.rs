//! `deps scan`.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::fake::{Dependencies, Fake, Script, refusal};
use crate::{Outcome, at, ctl, ctl_with, folder, squeezed};

/// 2026-11-02T04:00:00Z.
pub(crate) const MONDAY: i64 = 1_793_592_000;

pub(crate) fn agent(dependencies: Dependencies) -> (tempfile::TempDir, Fake) {
    let folder = folder();
    let fake = Fake::start(folder.path(), Script { dependencies, ..Default::default() });
    (folder, fake)
}

pub(crate) fn on(fake: &Fake, command: &[&str]) -> Outcome {
    ctl(&[&["deps"], command, &["-n", &fake.node()]].concat())
}

pub(crate) fn source(name: &str, state: DataState) -> DataSource {
    DataSource {
        name: name.into(),
        state: state.into(),
        records: 2_661,
        file_at: at(MONDAY - 3_600),
        newest_at: at(MONDAY - 7_200),
        imported_at: at(MONDAY),
        file: "all.zip".into(),
        digest: "d1".into(),
        why: String::new(),
    }
}

pub(crate) fn finding(
    id: &str,
    package: &str,
    severity: VulnerabilitySeverity,
) -> DependencyFinding {
    DependencyFinding {
        id: id.into(),
        ids: vec![id.into(), "GHSA-9wx4-h78v-vm56".into()],
        kind: FindingKind::Vulnerability.into(),
        ecosystem: "PyPI".into(),
        package: package.into(),
        installed: "2.31.0".into(),
        fixed_in: "2.32.0".into(),
        severity: severity.into(),
        exploited: Some(false),
        why: ">=0, <2.32.0".into(),
        certain: true,
        summary: "Sessions are verified no more".into(),
        references: vec!["https://example.com/a".into()],
        file: "requirements.txt".into(),
        line: 14,
        published_at: at(MONDAY - 86_400),
        ..Default::default()
    }
}

pub(crate) fn unjudged(what: &str, why: &str, file: &str, line: u32) -> Unjudged {
    Unjudged { what: what.into(), why: why.into(), file: file.into(), line }
}

/// One project with a finding of each kind, and one that has none.
pub(crate) fn scanned() -> ScanDependenciesResponse {
    use VulnerabilitySeverity as S;
    let exploited = DependencyFinding {
        exploited: Some(true),
        likelihood: Some(0.942),
        score: Some(9.8),
        vector: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H".into(),
        ..finding("CVE-2024-1", "requests", S::Critical)
    };
    let unfixed = DependencyFinding {
        fixed_in: String::new(),
        exploited: None,
        installed: "1.0".into(),
        why: ">=0".into(),
        line: 3,
        ..finding("PYSEC-2024-2", "left\u{1b}[2Jpad", S::Unknown)
    };
    let uncertain = DependencyFinding {
        certain: false,
        installed: "2016g-custom".into(),
        why: "2016g-custom is no version".into(),
        score: Some(5.3),
        ..finding("CVE-2024-3", "pytz", S::Medium)
    };
    let locked = DependencyFinding {
        ecosystem: "crates.io".into(),
        installed: "0.1.44".into(),
        fixed_in: "0.2.23".into(),
        why: ">=0.1.0, <0.2.23".into(),
        file: "Cargo.lock".into(),
        line: 0,
        score: Some(6.2),
        ..finding("CVE-2020-26235", "time", S::Medium)
    };
    let unmaintained = DependencyFinding {
        kind: FindingKind::Unmaintained.into(),
        ecosystem: "crates.io".into(),
        installed: "1.0.0".into(),
        fixed_in: String::new(),
        why: ">=0".into(),
        file: "Cargo.lock".into(),
        line: 0,
        summary: String::new(),
        ..finding("RUSTSEC-2024-4", "paste", S::Unspecified)
    };
    let ignored = DependencyFinding {
        score: Some(7.5),
        ignored: Some(Ignored {
            until: at(MONDAY + 86_400),
            reason: "no template is a user's".into(),
            by: "anna".into(),
        }),
        ..finding("CVE-2024-5", "jinja2", S::High)
    };
    let api = ProjectScan {
        project: "api".into(),
        verdict: ScanVerdict::Unknown.into(),
        findings: vec![exploited, unfixed, uncertain, locked, unmaintained, ignored],
        judged: 1_061,
        unjudged: vec![
            unjudged("flask>=2", "it has no version", "requirements.txt", 7),
            unjudged("more.txt", "there is no such file", "more.txt", 0),
            unjudged("npm", "there are no advisories of it", "", 0),
        ],
        unmanaged: vec![unjudged("own", "from git+https://h/own", "requirements.txt", 9)],
        root: "/srv/api".into(),
    };
    let worker = ProjectScan {
        project: "worker".into(),
        verdict: ScanVerdict::Pass.into(),
        judged: 1,
        root: "/srv/worker".into(),
        ..Default::default()
    };
    let stale = DataSource {
        why: "the file is 3d old, 48h are allowed".into(),
        ..source("PyPI", DataState::Stale)
    };
    let absent = DataSource {
        name: "epss".into(),
        state: DataState::NotChecked.into(),
        why: "none was ever imported".into(),
        ..Default::default()
    };
    ScanDependenciesResponse {
        projects: vec![api, worker],
        sources: vec![stale, source("kev", DataState::Checked), absent],
        as_of: at(MONDAY),
    }
}

fn known() -> Dependencies {
    Dependencies { scan: scanned(), ..Default::default() }
}

/// One project with this verdict and findings.
fn of(verdict: ScanVerdict, findings: Vec<DependencyFinding>) -> Dependencies {
    let one = ProjectScan {
        project: "api".into(),
        verdict: verdict.into(),
        findings,
        judged: 2,
        root: "/srv/api".into(),
        ..Default::default()
    };
    let sources = vec![source("PyPI", DataState::Checked)];
    let scan = ScanDependenciesResponse { projects: vec![one], sources, as_of: at(MONDAY) };
    Dependencies { scan, ..Default::default() }
}

#[test]
fn findings_are_shown_with_what_to_do() {
    let (_folder, fake) = agent(known());
    let scan = on(&fake, &["scan"]);
    assert_eq!(scan.exit, Exit::Unknown, "{}", scan.stderr);
    assert_eq!(scan.stderr, "");
    assert_eq!(
        squeezed(scan.out()),
        [
            "api in /srv/api: UNKNOWN, 1,061 packages judged, 5 findings: 1 CRITICAL, 1 UNKNOWN, 2 MEDIUM, \
             1 UNMAINTAINED; 1 exploited; 3 not judged",
            "PACKAGE INSTALLED FIXED IN SEVERITY EXPLOITED ID WHY NEXT",
            "requests 2.31.0 2.32.0 CRITICAL 9.8 yes CVE-2024-1 >=0, <2.32.0 at once: raise it to 2.32.0 in \
             requirements.txt:14",
            "left\\x1b[2Jpad 1.0 - UNKNOWN unknown PYSEC-2024-2 >=0 do without it in requirements.txt:3, there is no \
             fixed version yet: see https://example.com/a",
            "pytz 2016g-custom 2.32.0 MEDIUM 5.3 no CVE-2024-3 it may be affected: 2016g-custom is no version see \
             whether 2016g-custom is affected; if so, raise it to 2.32.0 in requirements.txt:14",
            "time 0.1.44 0.2.23 MEDIUM 6.2 no CVE-2020-26235 >=0.1.0, <0.2.23 run `cargo update -p time@0.1.44 \
             --precise 0.2.23` for Cargo.lock",
            "paste 1.0.0 - UNMAINTAINED no RUSTSEC-2024-4 >=0 look for another package in Cargo.lock: nobody mends \
             this one: see https://example.com/a",
            "not judged: requirements.txt:7 flask>=2: it has no version",
            "not judged: more.txt: there is no such file",
            "not judged: npm: there are no advisories of it",
            "unmanaged: requirements.txt:9 own: from git+https://h/own",
            "ignored until 2026-11-03T04:00:00Z by anna: CVE-2024-5 of jinja2 2.31.0, HIGH 7.5: no template is a \
             user's",
            "",
            "worker in /srv/worker: PASS, 1 package judged, no findings",
            "",
            "Data",
            "SOURCE STATE RECORDS NEWEST FILE DATE WHY",
            "PyPI STALE 2,661 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z the file is 3d old, 48h are allowed",
            "kev CHECKED 2,661 2026-11-02T02:00:00Z 2026-11-02T03:00:00Z -",
            "epss NOT_CHECKED 0 - - none was ever imported",
        ]
    );
    let long = on(&fake, &["scan", "-v"]);
    for shown in [
        "LIKELIHOOD",
        "94.20 %",
        "2026-11-01T04:00:00Z",
        "Sessions are verified no more",
        "GHSA-9wx4-h78v-vm56",
        "https://example.com/a",
        "all.zip",
        "d1",
    ] {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    assert!(!scan.out().contains('\u{1b}') && !long.out().contains('\u{1b}'));
    let coloured = ctl_with(&["deps", "scan", "-n", &fake.node()], |console| {
        console.stdout_terminal = true;
    });
    assert!(coloured.out().contains("\u{1b}[38;5;9mCRITICAL 9.8"), "{:?}", coloured.out());
    assert_eq!(fake.calls(), ["ScanDependencies"; 3]);
}

#[test]
fn a_project_and_a_time_can_be_named() {
    let (_folder, fake) = agent(known());
    let scan = on(&fake, &["scan", "--project", "worker", "--as-of", "2024-05-01"]);
    assert_eq!(scan.exit, Exit::Ok, "{}", scan.stderr);
    assert!(scan.out().contains("Data, as of 2024-05-01T00:00:00Z"), "{}", scan.out());
    assert!(!scan.out().contains("api in"), "{}", scan.out());
    assert_eq!(fake.calls(), ["ScanDependencies worker 1714521600"]);
    let absent = on(&fake, &["scan", "--project", "x"]);
    assert_eq!(absent.exit, Exit::Failed);
    assert_eq!(
        absent.stderr,
        "error[PROJECT_NOT_FOUND]: no project is called x: list the configured projects with `genesisctl deps \
         status`\n"
    );
    let odd = on(&fake, &["scan", "--as-of", "monday"]);
    assert_eq!(odd.exit, Exit::Usage);
    assert!(odd.stderr.contains("write an instant"), "{}", odd.stderr);
}

#[test]
fn the_verdicts_decide_the_exit_code() {
    use ScanVerdict as V;
    let found = || vec![finding("CVE-2024-1", "requests", VulnerabilitySeverity::High)];
    for (verdict, findings, exit, told) in [
        (V::Pass, vec![], Exit::Ok, "api in /srv/api: PASS, 2 packages judged, no findings"),
        (V::Findings, found(), Exit::Findings, "FINDINGS, 2 packages judged, 1 finding: 1 HIGH"),
        (V::Unknown, found(), Exit::Unknown, "UNKNOWN, 2 packages judged, 1 finding: 1 HIGH"),
        // One that this client does not know has not passed.
        (V::Unspecified, vec![], Exit::Unknown, "UNKNOWN, 2 packages judged, no findings"),
    ] {
        let (_folder, fake) = agent(of(verdict, findings));
        let scan = on(&fake, &["scan"]);
        assert_eq!(scan.exit, exit, "{verdict:?}: {}", scan.stderr);
        assert!(scan.out().contains(told), "{told}: {}", scan.out());
        assert_eq!(on(&fake, &["scan", "-o", "jsonl"]).exit, exit, "{verdict:?}");
    }
    // Of two projects that of which something is unknown decides.
    let mut both = of(V::Findings, found());
    let second = of(V::Unknown, vec![]).scan.projects.remove(0);
    both.scan.projects.push(second);
    let (_folder, fake) = agent(both);
    assert_eq!(on(&fake, &["scan"]).exit, Exit::Unknown);
}

#[test]
fn what_was_not_scanned_has_not_passed() {
    let (folder, fake) = agent(Dependencies::default());
    let told = "error[NOTHING_SCANNED]: no project is configured, so nothing was scanned: name what is to be scanned \
                in [[dependencies.project]] of the agent's configuration, then `genesisctl config reload`\n";
    let scan = on(&fake, &["scan"]);
    assert_eq!((scan.exit, scan.out(), scan.stderr.as_str()), (Exit::Unknown, "", told));
    let json = on(&fake, &["scan", "-o", "json"]);
    assert_eq!(json.exit, Exit::Unknown);
    let json = json.json();
    assert_eq!(
        (&json[0]["ok"], &json[0]["response"]["projects"]),
        (&false.into(), &[0; 0][..].into())
    );
    assert_eq!(json[0]["error"]["reason"], "NOTHING_SCANNED");
    let path = folder.path().join("x.sarif");
    let named = path.display().to_string();
    let sarif = on(&fake, &["scan", "--format", "sarif", "--out", &named]);
    assert_eq!((sarif.exit, sarif.out(), sarif.stderr.as_str()), (Exit::Unknown, "", told));
    assert!(!path.exists());
}

#[test]
fn an_agent_without_its_data_says_so() {
    let folder = folder();
    let why = refusal(Code::Unavailable, "ADVISORIES_UNAVAILABLE", "the data can't be read");
    let failing = [("ScanDependencies", why.clone()), ("GetDependencies", why)].into();
    let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
    for command in ["scan", "status"] {
        let outcome = on(&fake, &[command]);
        assert_eq!(outcome.exit, Exit::Unreachable, "{command}");
        assert!(
            outcome.stderr.starts_with(
                "error[ADVISORIES_UNAVAILABLE]: the data can't be read: see which data"
            ),
            "{}",
            outcome.stderr
        );
    }
}

#[test]
fn json_has_all_of_it() {
    let (_folder, fake) = agent(known());
    let json = on(&fake, &["scan", "-o", "json"]);
    assert_eq!(json.exit, Exit::Unknown);
    let json = json.json();
    assert_eq!(json[0]["ok"], true);
    let response = &json[0]["response"];
    assert_eq!(response["asOf"], "2026-11-02T04:00:00Z");
    assert_eq!(response["sources"][0]["state"], "DATA_STATE_STALE");
    assert_eq!(response["sources"][0]["records"], "2661");
    let api = &response["projects"][0];
    assert_eq!(api["verdict"], "SCAN_VERDICT_UNKNOWN");
    assert_eq!(api["unjudged"][0]["line"], 7);
    let first = &api["findings"][0];
    assert_eq!(first["severity"], "VULNERABILITY_SEVERITY_CRITICAL");
    assert_eq!((&first["score"], &first["exploited"]), (&9.8.into(), &true.into()));
    assert!(api["findings"][1].get("exploited").is_none_or(serde_json::Value::is_null));
    assert_eq!(api["findings"][5]["ignored"]["by"], "anna");
}

#[test]
fn many_lines_are_shortened_unless_all_are_asked_for() {
    let mut many = known();
    let lines =
        (1..=22).map(|line| unjudged(&format!("p{line}"), "it has no version", "r.txt", line));
    many.scan.projects[1].unjudged = lines.collect();
    let (_folder, fake) = agent(many);
    let scan = on(&fake, &["scan", "--project", "worker"]);
    assert!(scan.out().contains("not judged: r.txt:20 p20: it has no version\n"), "{}", scan.out());
    assert!(scan.out().contains("not judged: 2 more, which -v lists\n"), "{}", scan.out());
    let long = on(&fake, &["scan", "--project", "worker", "-v"]);
    assert!(long.out().contains("r.txt:22") && !long.out().contains("more, which"));
}

#[test]
fn several_nodes_have_a_line_for_each_project() {
    let (_a, one) = agent(known());
    let (_b, two) = agent(of(ScanVerdict::Pass, vec![]));
    let (_c, three) = agent(Dependencies::default());
    let nodes = [one.node(), two.node(), three.node()].join(",");
    let scan = ctl(&["deps", "scan", "--max-parallel", "1", "-n", &nodes]);
    assert_eq!(scan.exit, Exit::SomeFailed, "{}", scan.stderr);
    let (first, second) = (one.node(), two.node());
    let data = "PyPI STALE, kev CHECKED, epss NOT_CHECKED";
    assert_eq!(
        squeezed(scan.out()),
        [
            "NODE PROJECT VERDICT JUDGED FINDINGS WORST EXPLOITED IGNORED NOT JUDGED DATA"
                .to_owned(),
            format!("{first} api UNKNOWN 1,061 5 CRITICAL 1 1 3 {data}"),
            format!("{first} worker PASS 1 0 - 0 0 0 {data}"),
            format!("{second} api PASS 2 0 - 0 0 0 PyPI CHECKED"),
        ]
    );
    assert!(scan.stderr.contains("error[NOTHING_SCANNED]"), "{}", scan.stderr);
    assert!(scan.stderr.contains(&three.node()), "{}", scan.stderr);
    let long = ctl(&["deps", "scan", "-v", "-n", &nodes]);
    assert!(long.out().contains(&format!("==> {first} <==")), "{}", long.out());
    let json = ctl(&["deps", "scan", "-o", "json", "-n", &nodes]).json();
    assert_eq!(json.as_array().unwrap().len(), 3);
}
