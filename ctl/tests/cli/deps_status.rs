//! `deps status`.

use genesis_client::v1::*;
use genesisctl::Exit;

use crate::deps::{agent, on, scanned, source};
use crate::fake::Dependencies;
use crate::{ctl, squeezed};

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
            "PROJECT ROOT MANIFESTS",
            "api /srv/api requirements.txt, Cargo.lock",
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
    assert_eq!((lines.len(), &*lines[0]), (3, "NODE PROJECT ROOT MANIFESTS DATA"), "{lines:?}");
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
