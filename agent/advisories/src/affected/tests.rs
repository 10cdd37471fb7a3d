use proptest::prelude::*;

use super::{Verdict, evaluate};
use crate::Ecosystem::{self, CratesIo, Other, PyPI};
use crate::osv::{Advisory, Event};
use crate::version::Version;

fn advisory(ecosystem: Ecosystem, ranges: Vec<Vec<Event>>, versions: &[&str]) -> Advisory {
    Advisory {
        id: "X-1".to_owned(),
        ecosystem,
        name: "x".to_owned(),
        aliases: Vec::new(),
        summary: String::new(),
        published: None,
        modified: None,
        withdrawn: None,
        references: Vec::new(),
        severity: Vec::new(),
        informational: None,
        ranges,
        versions: versions.iter().map(|version| (*version).to_owned()).collect(),
    }
}

/// Events as `i0 f1.2 a3 l4`.
fn events(text: &str) -> Vec<Event> {
    let event = |word: &str| {
        let version = word[1..].to_owned();
        match &word[..1] {
            "i" => Event::Introduced(version),
            "f" => Event::Fixed(version),
            "a" => Event::LastAffected(version),
            _ => Event::Limit(version),
        }
    };
    text.split_whitespace().map(event).collect()
}

fn affected(why: &str, fixed: Option<&str>) -> Verdict {
    Verdict::Affected { why: why.to_owned(), fixed: fixed.map(str::to_owned) }
}

#[test]
fn ranges() {
    let no = || Verdict::NotAffected;
    let table: Vec<(Ecosystem, &str, &str, Verdict)> = vec![
        (PyPI, "i0 f1.2", "1.1", affected("<1.2", Some("1.2"))),
        (PyPI, "i0 f1.2", "1.2", no()),
        (PyPI, "i0 f1.2", "1.2.0", no()),
        (PyPI, "i0 f1.2", "1.2rc1", affected("<1.2", Some("1.2"))),
        (PyPI, "i0", "99", affected("every version", None)),
        (PyPI, "i2.0 f2.2.28", "1.9", no()),
        (PyPI, "i2.0 f2.2.28", "2.0", affected(">=2.0, <2.2.28", Some("2.2.28"))),
        (PyPI, "i2.0 f2.2.28", "2.0a1", no()),
        (PyPI, "f2 i1 f4 i3", "3.5", affected(">=3, <4", Some("4"))),
        (PyPI, "f2 i1 f4 i3", "1.5", affected(">=1, <2", Some("2"))),
        (PyPI, "f2 i1 f4 i3", "2.5", no()),
        (PyPI, "i0 a1.2", "1.2", affected("<=1.2", None)),
        (PyPI, "i0 a1.2", "1.2.1", no()),
        (PyPI, "i0 a1.2", "1.2.post1", no()),
        // At one version: what is open closes and begins anew, what begins may end.
        (PyPI, "i0 f1 i1 f2", "1", affected(">=1, <2", Some("2"))),
        (PyPI, "i1 i0 f2 f1", "1.5", affected(">=1, <2", Some("2"))),
        (PyPI, "i1 f1", "1", no()),
        (PyPI, "f1 i1", "2", no()),
        (PyPI, "i1 a1", "1.0", affected(">=1, <=1", None)),
        (PyPI, "a1 i1", "1.1", no()),
        (PyPI, "i0 i1 f2", "0.5", affected("<2", Some("2"))),
        (PyPI, "i0 a1 f3", "2", no()),
        // "0" is before all others for `introduced` alone.
        (PyPI, "i0 a0", "0", affected("<=0", None)),
        (PyPI, "i0", "0.dev0", affected("every version", None)),
        // Limits.
        (PyPI, "i0 l2", "1", affected("<2", None)),
        (PyPI, "i0 l2", "2", no()),
        (PyPI, "i0 l2 l3", "2", affected("<3", None)),
        (PyPI, "i0 l2 l*", "9", affected("every version", None)),
        (PyPI, "i0 f1.5 l2", "1", affected("<1.5", Some("1.5"))),
        (PyPI, "i0 f3 l2", "2.5", no()),
        // Local labels.
        (PyPI, "i0 f2.0.0", "2.0.0+cu118", no()),
        (PyPI, "i0 a2.0.0", "2.0.0+cu118", affected("<=2.0.0", None)),
        (PyPI, "i0 f2.0.0+cu120", "2.0.0+cu118", affected("<2.0.0+cu120", Some("2.0.0+cu120"))),
        (PyPI, "i0 f2.0.1", "2.0.0+cu118", affected("<2.0.1", Some("2.0.1"))),
        // Semantic versions.
        (
            CratesIo,
            "i0.0.0-0 f1.0.0-rc.2",
            "1.0.0-rc.1",
            affected("<1.0.0-rc.2", Some("1.0.0-rc.2")),
        ),
        (CratesIo, "i0.0.0-0 f1.0.0", "1.0.0+build", no()),
        (CratesIo, "i0.8.7-0", "0.8.7", affected(">=0.8.7-0", None)),
        (CratesIo, "i0.8.7-0", "0.8.6", no()),
    ];
    for (ecosystem, text, version, expected) in table {
        let verdict = evaluate(&advisory(ecosystem, vec![events(text)], &[]), version);
        assert_eq!(verdict, expected, "{version} in {text}");
    }
}

#[test]
fn a_fix_is_what_the_advisory_does_not_affect() {
    let overlapping = advisory(PyPI, vec![events("i0 f1.5"), events("i1.2 f2.0")], &["2.0"]);
    // 1.5 is in the second range, and 2.0 is listed.
    assert_eq!(evaluate(&overlapping, "1.3"), affected("<1.5", None));
    let listed = advisory(PyPI, vec![events("i3 f4")], &["1.0", "odd-one"]);
    assert_eq!(evaluate(&listed, "1"), affected("==1.0", Some("4")));
    assert_eq!(evaluate(&listed, "odd-one"), affected("==odd-one", None));
    assert_eq!(evaluate(&listed, "1.0+local"), affected("==1.0", Some("4")));
    assert_eq!(evaluate(&listed, "1.1"), Verdict::NotAffected);
}

#[test]
fn what_cannot_be_compared_is_unknown() {
    for (ecosystem, ranges, version) in [
        (PyPI, "i0 f1.2", "not-a-version"),
        (PyPI, "i0 fnonsense", "1.0"),
        (CratesIo, "i0 f1.2", "1.0.0"),
        (CratesIo, "i0 f1.2.0", "1.0"),
        (Other("npm".into()), "i0 f1.2.0", "1.0.0"),
    ] {
        let verdict = evaluate(&advisory(ecosystem, vec![events(ranges)], &[]), version);
        assert!(matches!(verdict, Verdict::Unknown { .. }), "{version} in {ranges}: {verdict:?}");
    }
    let nothing = advisory(PyPI, Vec::new(), &[]);
    assert!(matches!(evaluate(&nothing, "1.0"), Verdict::Unknown { .. }));
    // What is affected for certain stays so.
    let partly = advisory(PyPI, vec![events("i0 fnonsense"), events("i1 f2")], &[]);
    assert_eq!(evaluate(&partly, "1.5"), affected(">=1, <2", None));
    assert!(matches!(evaluate(&partly, "2.5"), Verdict::Unknown { .. }));
}

#[test]
fn a_withdrawn_one_affects_nothing() {
    let withdrawn = Advisory { withdrawn: Some(1), ..advisory(PyPI, vec![events("i0")], &["1"]) };
    for version in ["1", "nonsense"] {
        assert_eq!(evaluate(&withdrawn, version), Verdict::NotAffected);
    }
}

/// The algorithm as the schema has it, line by line.
fn naive(version: &Version, events: &[Event]) -> bool {
    let read = |text: &str| Version::read(&PyPI, text).unwrap();
    let limits: Vec<&String> = events
        .iter()
        .filter_map(|event| if let Event::Limit(limit) = event { Some(limit) } else { None })
        .collect();
    if !limits.is_empty() && !limits.iter().any(|limit| *limit == "*" || *version < read(limit)) {
        return false;
    }
    let text = |event: &Event| match event {
        Event::Introduced(text) | Event::Fixed(text) | Event::LastAffected(text) => text.clone(),
        Event::Limit(_) => "0".to_owned(),
    };
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| read(&text(event)));
    let mut vulnerable = false;
    for event in &sorted {
        match event {
            Event::Introduced(from) if from == "0" || *version >= read(from) => vulnerable = true,
            Event::Fixed(fixed) if *version >= read(fixed) => vulnerable = false,
            Event::LastAffected(last) if *version > read(last) => vulnerable = false,
            _ => {}
        }
    }
    vulnerable
}

proptest! {
    /// On events at distinct versions: what the schema leaves open is in the tables above.
    #[test]
    fn as_the_schema_says(
        kinds in proptest::collection::vec(0..3_u8, 1..12),
        places in Just((1..40_u32).collect::<Vec<_>>()).prop_shuffle(),
        from_all in any::<bool>(),
        limits in proptest::collection::vec(0..45_u32, 0..3),
        unlimited in any::<bool>(),
        version in 0..45_u32,
    ) {
        let mut events: Vec<Event> = kinds.iter().zip(&places).map(|(kind, place)| {
            let text = format!("{}.{}", place / 8 + 1, place % 8);
            match kind {
                0 => Event::Introduced(text),
                1 => Event::Fixed(text),
                _ => Event::LastAffected(text),
            }
        }).collect();
        events.extend(from_all.then(|| Event::Introduced("0".to_owned())));
        events.extend(limits.iter().map(|at| Event::Limit(format!("{}.{}", at / 8 + 1, at % 8))));
        events.extend((unlimited && !limits.is_empty()).then(|| Event::Limit("*".to_owned())));
        let text = format!("{}.{}", version / 8 + 1, version % 8);
        let expected = naive(&Version::read(&PyPI, &text).unwrap(), &events);
        let verdict = evaluate(&advisory(PyPI, vec![events.clone()], &[]), &text);
        prop_assert_eq!(matches!(verdict, Verdict::Affected { .. }), expected, "{} in {:?}", text, events);
        if let Verdict::Affected { fixed: Some(fixed), .. } = verdict {
            let fixed = Version::read(&PyPI, &fixed).unwrap();
            prop_assert!(!naive(&fixed, &events) && fixed > Version::read(&PyPI, &text).unwrap());
        }
    }

    #[test]
    fn nothing_panics(
        ecosystem in prop_oneof![Just(PyPI), Just(CratesIo), Just(Other("x".into()))],
        words in proptest::collection::vec(("[ifal]", "\\PC{0,12}|[0-9.!+a-z-]{0,12}"), 0..6),
        version in "\\PC{0,20}|[0-9.!+a-z-]{0,12}",
    ) {
        let all: Vec<Event> = words.into_iter().map(|(kind, text)| match kind.as_str() {
            "i" => Event::Introduced(text),
            "f" => Event::Fixed(text),
            "a" => Event::LastAffected(text),
            _ => Event::Limit(text),
        }).collect();
        let _ = evaluate(&advisory(ecosystem.clone(), vec![all], &[]), &version);
        let _ = evaluate(&advisory(ecosystem, Vec::new(), &[&version]), &version);
    }
}
