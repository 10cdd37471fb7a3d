//! What records mean at the ends of their ranges, from their JSON on, as the schema of OSV has it.

#![allow(clippy::unwrap_used)] // A test.

use genesis_advisories::affected::{Verdict, evaluate};
use genesis_advisories::osv::{Advisory, read};
use serde_json::{Value, json};

/// A record of one package, and what is inside and outside of it.
struct Case {
    what: &'static str,
    ecosystem: &'static str,
    /// Each as `introduced 1.0, fixed 1.2`.
    ranges: &'static [&'static str],
    versions: &'static [&'static str],
    withdrawn: bool,
    affected: &'static [&'static str],
    not_affected: &'static [&'static str],
}

/// What a case has if it says nothing of it.
const NONE: Case = Case {
    what: "",
    ecosystem: "PyPI",
    ranges: &[],
    versions: &[],
    withdrawn: false,
    affected: &[],
    not_affected: &[],
};

const CASES: &[Case] = &[
    Case {
        what: "fixed is the first that is not affected",
        ranges: &["introduced 1.2, fixed 1.4"],
        affected: &["1.2", "1.2.0", "v1.2", "1.2.0.0.1", "1.3.999", "1.4rc1", "1.4.dev0"],
        not_affected: &["1.4", "1.4.0", "1.4.post1", "1.2rc9", "1.1.999", "0", "2"],
        ..NONE
    },
    Case {
        what: "last_affected is the last that is",
        ranges: &["introduced 1.2, last_affected 1.4"],
        affected: &["1.2", "1.3", "1.4rc1", "1.4", "1.4.0.0"],
        not_affected: &["1.2.dev1", "1.4.0.1", "1.4.post1", "1.5.dev0", "1.10"],
        ..NONE
    },
    Case {
        what: "introduced 0 is before all versions, those before 0 too",
        ranges: &["introduced 0, fixed 1.0"],
        affected: &["0", "0.0.0.dev0", "0a1.dev1", "0.0a0", "1.0rc1"],
        not_affected: &["1.0", "1"],
        ..NONE
    },
    Case {
        what: "introduced 0.0 is a version as any other",
        ranges: &["introduced 0.0, fixed 1.0"],
        affected: &["0", "0.0.0", "0.post1"],
        not_affected: &["0.dev0", "0a1", "1"],
        ..NONE
    },
    Case {
        what: "without an end all above",
        ranges: &["introduced 2"],
        affected: &["2", "2.post1", "99999", "1!0"],
        not_affected: &["2rc1", "1.99"],
        ..NONE
    },
    Case {
        what: "introduced 0 alone is every version",
        ranges: &["introduced 0"],
        affected: &["0.dev0", "0", "7!8.9+local"],
        ..NONE
    },
    Case {
        what: "several stretches in one range",
        ranges: &["introduced 0, fixed 1.2.9, introduced 1.3, fixed 1.3.4, introduced 2"],
        affected: &["0", "1.2.8", "1.3", "1.3.3.post1", "2", "3"],
        not_affected: &["1.2.9", "1.2.99", "1.3rc1", "1.3.4", "1.9", "2rc1"],
        ..NONE
    },
    Case {
        what: "the order of events does not count",
        ranges: &["fixed 1.3.4, introduced 2, introduced 0, introduced 1.3, fixed 1.2.9"],
        affected: &["0", "1.2.8", "1.3", "1.3.3", "2", "3"],
        not_affected: &["1.2.9", "1.3.4", "1.9"],
        ..NONE
    },
    Case {
        what: "events are ordered as versions, not as texts",
        ranges: &["introduced 1.10, fixed 1.11, introduced 1.9, fixed 1.9.1"],
        affected: &["1.9", "1.10", "1.10.5"],
        not_affected: &["1.1", "1.9.1", "1.11"],
        ..NONE
    },
    Case {
        what: "several ranges, of which one is enough",
        ranges: &["introduced 1, fixed 1.5", "introduced 1.4, last_affected 1.6", "introduced 3"],
        affected: &["1", "1.4", "1.5", "1.6", "3"],
        not_affected: &["0.9", "1.6.1", "2.9"],
        ..NONE
    },
    Case {
        what: "a fix in one range is none for another",
        ranges: &["introduced 0, fixed 1.2", "introduced 0, fixed 1.4"],
        affected: &["1.1", "1.2", "1.3"],
        not_affected: &["1.4"],
        ..NONE
    },
    Case {
        what: "versions only",
        versions: &["1.0", "1.2.0", "1.3rc1"],
        affected: &["1.0", "1", "1.0.0", "1.2", "1.3.rc1", "1.3-c1"],
        not_affected: &["0.9", "1.1", "1.2.1", "1.2.0.post1", "1.3", "1.3rc2"],
        ..NONE
    },
    Case {
        what: "versions beside a range",
        ranges: &["introduced 2, fixed 2.5"],
        versions: &["0.1", "2.1", "2.5", "7.0"],
        affected: &["0.1", "2.1", "2.2", "2.5", "7"],
        not_affected: &["0.2", "2.5.1", "6"],
        ..NONE
    },
    Case {
        what: "a version that has no order is affected if it is listed",
        ranges: &["introduced 2, fixed 2.5"],
        versions: &["2004d-final"],
        affected: &["2004d-final", "2.1"],
        not_affected: &["2004"],
        ..NONE
    },
    Case {
        what: "withdrawn",
        ranges: &["introduced 0"],
        versions: &["1.0"],
        withdrawn: true,
        not_affected: &["0", "1.0", "99"],
        ..NONE
    },
    Case {
        what: "a limit ends what is said",
        ranges: &["introduced 1, limit 3"],
        affected: &["1", "2.9", "3rc1"],
        not_affected: &["0.9", "3", "4"],
        ..NONE
    },
    Case {
        what: "a limit below a fix counts, one above does not",
        ranges: &["introduced 1, fixed 5, limit 3", "introduced 10, fixed 11, limit 13"],
        affected: &["2.9", "10"],
        not_affected: &["3", "4.9", "5", "11", "12"],
        ..NONE
    },
    Case {
        what: "below any of several limits is enough",
        ranges: &["introduced 1, limit 3, limit 2", "introduced 10, limit 12, limit *"],
        affected: &["1", "2", "2.9", "10", "12", "99"],
        not_affected: &["3", "9"],
        ..NONE
    },
    Case {
        what: "an epoch is above all of the one before",
        ranges: &["introduced 1!1.0, fixed 1!2.0"],
        affected: &["1!1.0", "1!1.9", "1!2.0rc1"],
        not_affected: &["1.5", "2024.1", "1!0.9", "1!2", "2!1.5"],
        ..NONE
    },
    Case {
        what: "a range over an epoch",
        ranges: &["introduced 2023.1, fixed 1!0.3"],
        affected: &["2023.1", "2050.1", "0!2024", "1!0.2"],
        not_affected: &["2022.9", "1!0.3", "1!2023.1"],
        ..NONE
    },
    Case {
        what: "pre-releases as ends",
        ranges: &["introduced 2.0a3, fixed 2.0rc2"],
        affected: &[
            "2.0a3",
            "2.0alpha3",
            "2.0a3.post1",
            "2.0a4.dev1",
            "2.0b1",
            "2.0rc1",
            "2.0rc2.dev1",
        ],
        not_affected: &["2.0.dev9", "2.0a2", "2.0a3.dev1", "2.0rc2", "2.0c2", "2.0"],
        ..NONE
    },
    Case {
        what: "post-releases as ends",
        ranges: &["introduced 1.0.post1, last_affected 1.0.post3"],
        affected: &["1.0.post1", "1.0-1", "1.0.rev2", "1.0.post3", "1.0.post3.dev0"],
        not_affected: &["1.0", "1.0.post1.dev0", "1.0.post4", "1.0.post10", "1.0.1"],
        ..NONE
    },
    Case {
        what: "a local version is its public one to a range that names none",
        ranges: &["introduced 2.0, last_affected 2.1", "introduced 3.0, fixed 3.1"],
        affected: &["2.0+cu118", "2.1+cu118", "2.1.0+1", "3.0+cu118"],
        not_affected: &["1.9+cu118", "2.1.post1+cu118", "3.1+cu118", "2.2+0"],
        ..NONE
    },
    Case {
        what: "local versions as ends are compared with their likes",
        ranges: &["introduced 2.0+2, last_affected 2.0+10"],
        affected: &["2.0+2", "2.0+2.a", "2.0+9", "2.0+10"],
        not_affected: &["2.0", "2.0+1", "2.0+cu118", "2.0+10.1", "2.0+11", "2.0.post1"],
        ..NONE
    },
    Case {
        what: "a listed version is that of a local build",
        versions: &["1.0", "2.0+bad"],
        affected: &["1.0+x", "1.0.0+y.1", "2.0+bad", "2.0+BAD"],
        not_affected: &["2.0", "2.0+good", "1.0.1+x"],
        ..NONE
    },
    Case {
        what: "a range of nothing",
        ranges: &["introduced 1, fixed 1"],
        not_affected: &["0.9", "1", "1.1"],
        ..NONE
    },
    Case {
        what: "a range of one version",
        ranges: &["introduced 1, last_affected 1.0"],
        affected: &["1", "1.0.0", "1+local"],
        not_affected: &["1rc1", "1.0.0.1", "1.post1"],
        ..NONE
    },
    Case {
        what: "ranges of commits say nothing of versions",
        ranges: &["git", "introduced 1, fixed 2"],
        affected: &["1"],
        not_affected: &["0.9", "2"],
        ..NONE
    },
    Case {
        what: "semantic versions",
        ecosystem: "crates.io",
        ranges: &["introduced 0.0.0-0, fixed 0.4.2, introduced 1.0.0-0, fixed 1.0.3"],
        affected: &[
            "0.0.0-alpha",
            "0.4.1",
            "0.4.2-rc.1",
            "1.0.0-0",
            "1.0.0-alpha.1",
            "1.0.2+build",
        ],
        not_affected: &["0.4.2", "0.4.2+build", "0.9.9", "1.0.3", "1.0.4-alpha", "1.0.10"],
        ..NONE
    },
    Case {
        what: "semantic pre-releases are ordered part by part, numbers below words",
        ecosystem: "crates.io",
        ranges: &["introduced 1.0.0-alpha.2, last_affected 1.0.0-beta.11"],
        affected: &[
            "1.0.0-alpha.2",
            "1.0.0-alpha.10",
            "1.0.0-alpha.a",
            "1.0.0-beta",
            "1.0.0-beta.11",
        ],
        not_affected: &[
            "1.0.0-1",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-beta.11.0",
            "1.0.0-beta.a",
            "1.0.0",
        ],
        ..NONE
    },
];

impl Case {
    fn advisory(&self) -> Advisory {
        let events = |text: &str| -> Vec<Value> {
            let events = text.split(", ").map(|event| event.split_once(' ').unwrap());
            events.map(|(kind, version)| json!({ kind: version })).collect()
        };
        let kind = if self.ecosystem == "PyPI" { "ECOSYSTEM" } else { "SEMVER" };
        let range = |text: &&str| match *text {
            "git" => {
                json!({"type": "GIT", "repo": "https://a", "events": [{"introduced": "0"}, {"fixed": "abc"}]})
            }
            text => json!({"type": kind, "events": events(text)}),
        };
        let ranges: Vec<Value> = self.ranges.iter().map(range).collect();
        let record = json!({
            "id": "X-1", "modified": "2024-01-01T00:00:00Z",
            "withdrawn": self.withdrawn.then_some("2024-01-01T00:00:00Z"),
            "affected": [{"package": {"ecosystem": self.ecosystem, "name": "a"}, "ranges": ranges, "versions": self.versions}],
        });
        read("x", record.to_string().as_bytes()).unwrap().advisories.remove(0)
    }
}

#[test]
fn at_the_ends_of_ranges() {
    for case in CASES {
        let advisory = case.advisory();
        for version in case.affected {
            let verdict = evaluate(&advisory, version);
            assert!(
                matches!(verdict, Verdict::Affected { .. }),
                "{}: {version}: {verdict:?}",
                case.what
            );
        }
        for version in case.not_affected {
            assert_eq!(
                evaluate(&advisory, version),
                Verdict::NotAffected,
                "{}: {version}",
                case.what
            );
        }
    }
}

/// A version that is said to be the fix is above, and no range has it.
#[test]
fn fixes_are_not_affected() {
    for case in CASES {
        let advisory = case.advisory();
        for version in case.affected {
            if let Verdict::Affected { fixed: Some(fixed), .. } = evaluate(&advisory, version) {
                assert_eq!(
                    evaluate(&advisory, &fixed),
                    Verdict::NotAffected,
                    "{}: {version}",
                    case.what
                );
            }
        }
    }
}
