//! `deps ignore`, `deps unignore`, `deps postmortem`.

use genesis_client::v1::*;
use genesisctl::Exit;
use tonic::Code;

use crate::deps::{MONDAY, agent, on};
use crate::fake::{Dependencies, Fake, Script, refusal};
use crate::{at, folder, squeezed};

/// 2027-02-01T00:00:00Z.
const FEBRUARY: i64 = 1_801_440_000;

#[test]
fn a_finding_is_ignored_up_to_and_with_a_day_for_a_reason() {
    let (_folder, fake) = agent(Dependencies::default());
    let ignore = ["ignore", "CVE-2024-1", "--project", "api", "--until", "2027-01-31"];
    let ignored = on(&fake, &[&ignore[..], &["--reason", "sessions are never shared"]].concat());
    assert_eq!((ignored.exit, ignored.stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(
        ignored.out(),
        "api: CVE-2024-1 is ignored until 2027-02-01T00:00:00Z by ada: sessions are never shared: `genesisctl deps \
         unignore CVE-2024-1 --project api` ends that\n"
    );
    assert_eq!(
        fake.calls(),
        [format!("IgnoreFinding CVE-2024-1 api {FEBRUARY} because sessions are never shared")]
    );
    let refused = on(&fake, &ignore);
    assert_eq!(refused.exit, Exit::Usage);
    assert_eq!(
        refused.stderr,
        "error: `deps ignore` needs --reason: why does it do no harm here?\n"
    );
    for (wrong, told) in [
        (&["ignore", "CVE-2024-1", "--project", "api"][..], "--until"),
        (&["ignore", "CVE-2024-1", "--until", "2027-01-31"], "--project"),
        (&["ignore", "CVE-2024-1", "--project", "api", "--until", "never"], "write the last day"),
    ] {
        let refused = on(&fake, &[wrong, &["--reason", "r"]].concat());
        assert_eq!(refused.exit, Exit::Usage, "{wrong:?}");
        assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
    }
    assert_eq!(fake.calls().len(), 1);
    let json = on(&fake, &[&ignore[..], &["--reason", "r", "-o", "json"]].concat()).json();
    let response = &json[0]["response"]["ignored"];
    assert_eq!(response["ignored"]["until"], "2027-02-01T00:00:00Z");
    assert_eq!(response["inForce"], true);
}

#[test]
fn a_finding_is_heard_of_again() {
    let (_folder, fake) = agent(Dependencies::default());
    let again = on(&fake, &["unignore", "CVE-2024-1", "--project", "api"]);
    assert_eq!((again.exit, again.stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(
        again.out(),
        "api: CVE-2024-1 is heard of again, unless the configuration ignores it as well\n"
    );
    let gone = folder();
    let why = refusal(Code::NotFound, "IGNORE_NOT_FOUND", "nobody ignores CVE-2024-1");
    let failing = [("UnignoreFinding", why)].into();
    let fake = Fake::start(gone.path(), Script { failing, ..Default::default() });
    let absent = on(&fake, &["unignore", "CVE-2024-1", "--project", "api"]);
    assert_eq!(absent.exit, Exit::Failed);
    assert!(absent.stderr.contains("`genesisctl deps status`"), "{}", absent.stderr);
}

fn hours(hours: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: hours * 3600, nanos: 0 })
}

fn clock(id: &str, state: ClockState, elapsed: i64) -> VulnerabilityClock {
    VulnerabilityClock {
        project: "api".into(),
        id: id.into(),
        package: "requests".into(),
        severity: VulnerabilitySeverity::Critical.into(),
        exploited: true,
        state: state.into(),
        first_seen_at: at(MONDAY),
        elapsed: hours(elapsed),
        mend_within: hours(24),
        postmortem_within: hours(72),
        ..Default::default()
    }
}

fn mended(id: &str, elapsed: i64, in_time: Truth) -> VulnerabilityClock {
    VulnerabilityClock {
        mended_at: at(MONDAY + 7_200),
        in_time: in_time.into(),
        exploited: false,
        ..clock(id, ClockState::Mended, elapsed)
    }
}

fn of(clocks: Vec<VulnerabilityClock>) -> Dependencies {
    Dependencies { clocks: ListVulnerabilityClocksResponse { clocks }, ..Default::default() }
}

#[test]
fn clocks_say_what_is_left_and_what_is_overdue() {
    let closed = VulnerabilityClock {
        closed_at: at(MONDAY + 9_000),
        closed_by: "ada".into(),
        note: "https://wiki/pm/17".into(),
        state: ClockState::Closed.into(),
        ..mended("CVE-4", 900, Truth::Fail)
    };
    let (_folder, fake) = agent(of(vec![
        clock("CVE-1", ClockState::Open, 19),
        clock("CVE-2", ClockState::Open, 26),
        mended("CVE-3", 60, Truth::Pass),
        mended("CVE-5", 80, Truth::Unknown),
        closed,
    ]));
    let list = on(&fake, &["postmortem", "list", "--project", "api", "--closed-too"]);
    assert_eq!((list.exit, list.stderr.as_str()), (Exit::Findings, ""));
    let since = "2026-11-02T04:00:00Z";
    assert_eq!(
        squeezed(list.out()),
        [
            "PROJECT ID PACKAGE SEVERITY EXPLOITED STATE MEND IN TIME POST-MORTEM KNOWN SINCE"
                .to_owned(),
            format!(
                "api CVE-1 requests CRITICAL yes OPEN 5h left (79 %) open 2d 5h left (26 %) {since}"
            ),
            format!(
                "api CVE-2 requests CRITICAL yes OPEN overdue by 2h (108 %) no 1d 22h left (36 %) {since}"
            ),
            format!("api CVE-3 requests CRITICAL no MENDED done yes 12h left (83 %) {since}"),
            format!(
                "api CVE-5 requests CRITICAL no MENDED done UNKNOWN overdue by 8h (111 %) {since}"
            ),
            format!("api CVE-4 requests CRITICAL no CLOSED done no written {since}"),
        ]
    );
    let long = on(&fake, &["postmortem", "list", "-v"]);
    for shown in ["2026-11-02T06:00:00Z", "2026-11-02T06:30:00Z", "ada", "https://wiki/pm/17"] {
        assert!(long.out().contains(shown), "lacks {shown}: {}", long.out());
    }
    let json = on(&fake, &["postmortem", "list", "-o", "json"]);
    assert_eq!(json.exit, Exit::Findings);
    let first = &json.json()[0]["response"]["clocks"][0];
    assert_eq!(
        (&first["state"], &first["elapsed"]),
        (&"CLOCK_STATE_OPEN".into(), &"68400s".into())
    );
    assert_eq!(
        fake.calls(),
        [
            "ListVulnerabilityClocks api closed",
            "ListVulnerabilityClocks",
            "ListVulnerabilityClocks"
        ]
    );
}

#[test]
fn what_is_overdue_decides_the_exit_code() {
    for (clocks, exit) in [
        (vec![], Exit::Ok),
        (vec![clock("CVE-1", ClockState::Open, 24)], Exit::Ok),
        (vec![clock("CVE-1", ClockState::Open, 25)], Exit::Findings),
        // It was mended, though late: that is no matter of now.
        (vec![mended("CVE-1", 25, Truth::Fail)], Exit::Ok),
        (vec![mended("CVE-1", 73, Truth::Pass)], Exit::Findings),
        (vec![clock("CVE-1", ClockState::Unspecified, 1)], Exit::Unknown),
    ] {
        let told = format!("{clocks:?}");
        let (_folder, fake) = agent(of(clocks));
        assert_eq!(on(&fake, &["postmortem", "list"]).exit, exit, "{told}");
    }
    let (_folder, fake) = agent(of(vec![]));
    assert_eq!(on(&fake, &["postmortem", "list"]).stderr, "no post-mortem is open\n");
}

#[test]
fn a_postmortem_is_closed_with_where_it_is() {
    let (_folder, fake) = agent(Dependencies::default());
    let close = ["postmortem", "close", "CVE-1", "--project", "api"];
    let closed = on(&fake, &[&close[..], &["--note", "https://wiki/pm/17"]].concat());
    assert_eq!((closed.exit, closed.stderr.as_str()), (Exit::Ok, ""));
    assert_eq!(
        closed.out(),
        "api: the post-mortem of CVE-1 in requests is closed (mended in time): https://wiki/pm/17\n"
    );
    assert_eq!(fake.calls(), ["ClosePostmortem CVE-1 api https://wiki/pm/17"]);
    for note in [&[][..], &["--note", ""]] {
        let refused = on(&fake, &[&close[..], note].concat());
        assert_eq!(refused.exit, Exit::Usage);
        assert!(refused.stderr.contains("--note"), "{}", refused.stderr);
    }
    let folder = folder();
    let why = refusal(Code::FailedPrecondition, "POSTMORTEM_NOT_DUE", "CVE-1 is still there");
    let failing = [("ClosePostmortem", why)].into();
    let fake = Fake::start(folder.path(), Script { failing, ..Default::default() });
    let early = on(&fake, &[&close[..], &["--note", "n"]].concat());
    assert_eq!(early.exit, Exit::Refused);
    assert!(early.stderr.contains("mend the vulnerability first"), "{}", early.stderr);
}
