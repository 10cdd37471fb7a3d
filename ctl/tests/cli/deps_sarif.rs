//! `deps scan --format sarif`.

use std::fs;

use genesisctl::Exit;
use serde_json::{Value, json};

use crate::ctl;
use crate::deps::{agent, on, scanned};
use crate::fake::Dependencies;

fn known() -> Dependencies {
    Dependencies { scan: scanned(), ..Default::default() }
}

const SARIF: [&str; 3] = ["scan", "--format", "sarif"];

#[test]
fn sarif_has_a_run_for_each_project() {
    let (_folder, fake) = agent(known());
    let sarif = on(&fake, &SARIF);
    assert_eq!((sarif.exit, sarif.stderr.as_str()), (Exit::Unknown, ""));
    assert!(!sarif.out().contains('\u{1b}'));
    let log = sarif.json();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("/sarif-schema-2.1.0.json"));
    let runs = log["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    let api = &runs[0];
    let driver = &api["tool"]["driver"];
    assert_eq!(driver["name"], "genesis");
    assert_eq!(driver["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(api["automationDetails"]["id"], "genesis/deps/api/");
    assert_eq!(
        driver["rules"][0],
        json!({
            "id": "CVE-2024-1",
            "shortDescription": {"text": "Sessions are verified no more"},
            "help": {"text": "Sessions are verified no more\n\nAlso known as GHSA-9wx4-h78v-vm56\n\nSee \
                https://example.com/a\n\nRated CRITICAL 9.8 by CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"},
            "helpUri": "https://example.com/a",
            "properties": {
                "tags": ["security", "dependency", "vulnerability"],
                "security-severity": "9.8",
            },
        })
    );
    assert_eq!(driver["rules"][4]["shortDescription"]["text"], "RUSTSEC-2024-4 of paste");
    assert_eq!(
        driver["rules"][4]["properties"],
        json!({"tags": ["security", "dependency", "informational"]})
    );
    let results = api["results"].as_array().unwrap();
    let levels: Vec<_> = results.iter().map(|one| one["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["error", "warning", "warning", "warning", "note", "error"]);
    let mut first = results[0].clone();
    let print = first["partialFingerprints"]["genesisFinding/v1"].take();
    assert_eq!(print.as_str().unwrap().len(), 64);
    assert_eq!(
        first,
        json!({
            "ruleId": "CVE-2024-1",
            "ruleIndex": 0,
            "level": "error",
            "message": {"text": "requests 2.31.0 has CVE-2024-1: Sessions are verified no more. Why: >=0, <2.32.0. It is \
                exploited. Next: at once: raise it to 2.32.0 in requirements.txt:14."},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": "requirements.txt", "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": 14},
            }}],
            "partialFingerprints": {"genesisFinding/v1": null},
            "suppressions": [],
            "properties": {
                "ecosystem": "PyPI",
                "package": "requests",
                "installed": "2.31.0",
                "fixedIn": "2.32.0",
                "severity": "CRITICAL",
                "exploited": true,
                "likelihood": 0.942,
                "certain": true,
            },
        })
    );
    let cargo = &results[3]["locations"][0]["physicalLocation"];
    assert_eq!(
        *cargo,
        json!({"artifactLocation": {"uri": "Cargo.lock", "uriBaseId": "%SRCROOT%"}})
    );
    let text = |at: usize| results[at]["message"]["text"].as_str().unwrap();
    assert!(text(2).starts_with("pytz 2016g-custom may have CVE-2024-3: "), "{}", text(2));
    assert_eq!(
        results[5]["suppressions"],
        json!([{
            "kind": "external",
            "status": "accepted",
            "justification": "no template is a user's, by anna, until 2026-11-03T04:00:00Z",
        }])
    );
}

#[test]
fn what_was_not_judged_is_no_success_in_sarif_either() {
    let (_folder, fake) = agent(known());
    let log = on(&fake, &SARIF).json();
    let invocation = |run: usize| &log["runs"][run]["invocations"][0];
    assert_eq!(invocation(0)["executionSuccessful"], false);
    assert_eq!(invocation(1)["executionSuccessful"], true);
    let told: Vec<_> = invocation(0)["toolExecutionNotifications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!("{}: {}", text(&one["level"]), text(&one["message"]["text"]))
        })
        .collect();
    assert_eq!(
        told,
        [
            "error: flask>=2 was not judged: it has no version",
            "error: more.txt was not judged: there is no such file",
            "error: npm was not judged: there are no advisories of it",
            "note: own is not taken from an index, so that no advisory is about it: from git+https://h/own",
            "warning: the data PyPI is stale: the file is 3d old, 48h are allowed",
            "warning: the data epss was not checked: none was ever imported",
        ]
    );
    let first = &invocation(0)["toolExecutionNotifications"][0]["locations"][0]["physicalLocation"];
    assert_eq!(first["region"]["startLine"], 7);
    assert_eq!(
        log["runs"][0]["properties"],
        json!({
            "project": "api",
            "root": "/srv/api",
            "verdict": "UNKNOWN",
            "judged": 1061,
            "asOf": "2026-11-02T04:00:00Z",
        })
    );
}

#[test]
fn a_fingerprint_stays_where_the_line_moves() {
    let print = |dependencies: Dependencies| {
        let (_folder, fake) = agent(dependencies);
        let log = on(&fake, &SARIF).json();
        log["runs"][0]["results"][0]["partialFingerprints"]["genesisFinding/v1"].clone()
    };
    let before = print(known());
    let mut moved = known();
    moved.scan.projects[0].findings[0].line = 99;
    moved.scan.projects[0].findings[0].summary = "as it is said today".into();
    assert_eq!(print(moved), before);
    let mut raised = known();
    raised.scan.projects[0].findings[0].installed = "2.31.1".into();
    assert_ne!(print(raised), before);
}

#[test]
fn one_problem_of_two_packages_is_one_rule() {
    let mut two = known();
    let mut other = two.scan.projects[0].findings[0].clone();
    other.package = "requests-toolbelt".into();
    two.scan.projects[0].findings.insert(1, other);
    let (_folder, fake) = agent(two);
    let log = on(&fake, &SARIF).json();
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().unwrap().len(), 6);
    assert_eq!(run["results"].as_array().unwrap().len(), 7);
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
    }
}

#[test]
fn sarif_goes_into_a_file_of_one_node() {
    let (folder, fake) = agent(known());
    let path = folder.path().join("x.sarif");
    let named = path.display().to_string();
    let to_file = on(&fake, &[&SARIF[..], &["--out", &named]].concat());
    assert_eq!(to_file.exit, Exit::Unknown, "findings of a file decide the exit code, too");
    assert_eq!(to_file.out(), "");
    assert_eq!(to_file.stderr, "exported 6 findings of 2 projects, ignored ones included\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), on(&fake, &SARIF).out());
    let again = on(&fake, &[&SARIF[..], &["--out", &named]].concat());
    assert_eq!(again.exit, Exit::Usage, "it exists");
    assert!(again.stderr.contains("--yes"), "{}", again.stderr);
    let json = on(&fake, &[&SARIF[..], &["--out", &named, "--yes", "-o", "json"]].concat()).json();
    assert_eq!(json[0]["response"]["projects"][0]["project"], "api");

    let odd = on(&fake, &[&SARIF[..], &["-o", "json"]].concat());
    assert_eq!(odd.exit, Exit::Usage);
    assert!(odd.stderr.contains("add --out FILE for it"), "{}", odd.stderr);
    assert_eq!(on(&fake, &["scan", "--out", &named]).exit, Exit::Usage, "a file of which type?");
    let nodes = format!("{},unix:/nowhere.sock", fake.node());
    let many = ctl(&[&["deps"], &SARIF[..], &["-n", &nodes]].concat());
    assert_eq!(many.exit, Exit::Usage);
    assert!(many.stderr.contains("one node at a time"), "{}", many.stderr);
    assert_eq!(fake.calls().len(), 3);
}
