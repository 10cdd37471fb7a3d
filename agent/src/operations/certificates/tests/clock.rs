//! Whether the clock is trusted: tables over what it and a CA's showed.

use genesis_storage::Moment;

use super::super::clock::Trust;
use super::*;

/// Wall clock and time since the boot, in seconds.
fn moment(boot: &str, wall: i64, since_boot: i64) -> Moment {
    Moment { wall: at(wall), boot: boot.to_owned(), since_boot: seconds(since_boot) }
}

#[test]
fn steps_within_a_boot_are_doubted_and_slow_drift_is_not() {
    for (what, looks, doubted) in [
        ("it goes on", vec![("a", 0, 0), ("a", DAY, DAY)], false),
        ("60 days ahead", vec![("a", 0, 0), ("a", 60 * DAY + 5, 5)], true),
        ("60 days back", vec![("a", 0, 0), ("a", -60 * DAY + 5, 5)], true),
        ("five minutes", vec![("a", 0, 0), ("a", 305, 5)], false),
        ("a second more", vec![("a", 0, 0), ("a", 306, 5)], true),
        ("a second more back", vec![("a", 0, 0), ("a", -296, 5)], true),
        ("there and back", vec![("a", 0, 0), ("a", 60 * DAY, 5), ("a", 10, 10)], false),
        ("half the way back", vec![("a", 0, 0), ("a", 60 * DAY, 5), ("a", 30 * DAY, 10)], true),
        ("in two steps", vec![("a", 0, 0), ("a", 400, 5), ("a", 800, 10)], true),
        ("another boot", vec![("a", 0, 0), ("b", 60 * DAY, 5)], false),
        ("boots that can't be told", vec![("", 0, 0), ("", 60 * DAY, 5)], false),
        ("the first look", vec![("a", 60 * DAY, 5)], false),
    ] {
        let mut trust = Trust::default();
        let mut last = None;
        for (boot, wall, since) in looks {
            last = trust.look(&moment(boot, wall, since));
        }
        assert_eq!(last.is_some(), doubted, "{what}: {last:?}");
    }
    // A minute a day, for a year.
    let mut trust = Trust::default();
    for day in 0..365 {
        assert_eq!(trust.look(&moment("a", day * (DAY + 60), day * DAY)), None, "{day}");
    }
}

#[test]
fn a_ca_confirms_or_contradicts_a_step() {
    let stepped = || {
        let mut trust = Trust::default();
        assert_eq!(trust.look(&moment("a", 0, 0)), None);
        let why = trust.look(&moment("a", 60 * DAY, 5)).unwrap();
        assert_eq!(why, "the clock was set ahead by 59 d 23 h, and no CA has confirmed that yet");
        trust
    };
    let mut trust = stepped();
    trust.heard(at(60 * DAY + 7), &moment("a", 60 * DAY + 5, 10));
    assert_eq!(trust.look(&moment("a", 60 * DAY + 5, 10)), None);
    // And it stays right when that was long ago.
    assert_eq!(trust.look(&moment("a", 62 * DAY, 2 * DAY + 5)), None);
    let mut trust = stepped();
    trust.heard(at(12), &moment("a", 60 * DAY + 5, 10));
    let why = trust.look(&moment("a", 60 * DAY + 5, 10)).unwrap();
    assert_eq!(why, "the clock is 59 d 23 h ahead of that of a CA");
    // Set right, it is trusted at once.
    assert_eq!(trust.look(&moment("a", 20, 20)), None);
    // A step after that, too, is seen at once.
    assert!(trust.look(&moment("a", -DAY, 25)).is_some_and(|why| why.contains("behind")));
}

#[test]
fn after_a_restart_the_clock_is_trusted_until_a_ca_contradicts() {
    let mut trust = Trust::default();
    assert_eq!(trust.look(&moment("a", 60 * DAY, 5)), None);
    trust.heard(at(0), &moment("a", 60 * DAY, 5));
    assert!(trust.look(&moment("a", 60 * DAY, 5)).is_some());
    let later = 6 * HOUR;
    assert!(trust.look(&moment("a", 60 * DAY + later - 1, 5 + later - 1)).is_some());
    // What it said so long ago counts no more: it is asked again before anything is done.
    assert_eq!(trust.look(&moment("a", 60 * DAY + later, 5 + later)), None);
    // Within five minutes it agrees.
    for (theirs, agrees) in [(300, true), (301, false), (-300, true), (-301, false)] {
        let mut trust = Trust::default();
        trust.heard(at(theirs), &moment("a", 0, 5));
        assert_eq!(trust.look(&moment("a", 0, 5)).is_none(), agrees, "{theirs}");
    }
}

#[test]
fn where_no_ca_answers_for_long_the_clock_is_all_there_is() {
    let mut trust = Trust::default();
    trust.look(&moment("a", 0, 0));
    let steady = |since: i64| moment("a", 60 * DAY + since, since);
    assert!(trust.look(&steady(5)).is_some());
    assert!(trust.look(&steady(6 * HOUR + 4)).is_some());
    assert_eq!(trust.look(&steady(6 * HOUR + 5)), None);
}

#[test]
fn a_ca_is_asked_at_once_and_then_every_five_minutes() {
    let mut trust = Trust::default();
    let asked = |trust: &mut Trust, wall, since| {
        trust.look(&moment("a", wall, since));
        trust.is_to_be_asked(&moment("a", wall, since), false)
    };
    assert!(!asked(&mut trust, 0, 0), "nothing is doubted");
    assert!(asked(&mut trust, 60 * DAY, 5));
    for (since, expected) in [(10, false), (304, false), (305, true), (310, false), (605, true)] {
        assert_eq!(asked(&mut trust, 60 * DAY + since - 5, since), expected, "{since}");
    }
    // Back, and another step: at once again.
    assert!(!asked(&mut trust, 610, 610));
    assert!(asked(&mut trust, DAY, 615));
}

#[test]
fn one_ca_that_agrees_counts_more_than_another_that_does_not() {
    let now = || moment("a", 0, 5);
    for order in [[0, DAY], [DAY, 0]] {
        let mut trust = Trust::default();
        for theirs in order {
            trust.heard(at(theirs), &now());
        }
        assert_eq!(trust.look(&now()), None, "{order:?}");
        assert!(trust.is_confirmed(seconds(60), &now()));
    }
    // Alone it counts, and CAs are asked at once, and every five minutes as long as it does.
    let mut trust = Trust::default();
    trust.heard(at(DAY), &now());
    assert!(trust.look(&now()).is_some_and(|why| why.contains("1 d")));
    assert!(!trust.is_confirmed(seconds(60), &now()));
    assert!(trust.is_to_be_asked(&now(), false));
    assert!(!trust.is_to_be_asked(&moment("a", 299, 304), false));
    let later = moment("a", 300, 305);
    assert!(trust.look(&later).is_some() && trust.is_to_be_asked(&later, false));
    trust.heard(at(300), &later);
    assert_eq!(trust.look(&later), None);
    assert!(!trust.is_to_be_asked(&moment("a", 900, 905), false), "nothing is doubted");
}

#[test]
fn what_is_doubted_without_a_ca_s_clock_counts_for_a_while_and_not_against_one() {
    let steady = |since: i64| moment("a", since, since);
    let mut trust = Trust::default();
    trust.doubt("TLS".to_owned(), &steady(0));
    for since in [0, 300, 6 * HOUR - 1] {
        trust.doubt("TLS".to_owned(), &steady(since));
        assert_eq!(trust.look(&steady(since)).as_deref(), Some("TLS"));
    }
    assert!(trust.is_to_be_asked(&steady(6 * HOUR - 1), false));
    trust.doubt("TLS".to_owned(), &steady(6 * HOUR));
    assert_eq!(trust.look(&steady(6 * HOUR)), None, "from when it came up first");
    let mut trust = Trust::default();
    trust.doubt("TLS".to_owned(), &steady(0));
    trust.heard(at(5), &steady(5));
    assert_eq!(trust.look(&steady(5)), None);
}

#[test]
fn a_certificate_that_begins_in_the_future_has_cas_asked_once_an_hour() {
    let mut trust = Trust::default();
    assert!(!trust.is_to_be_asked(&moment("a", 0, 0), false));
    assert!(trust.is_to_be_asked(&moment("a", 0, 0), true));
    assert!(!trust.is_to_be_asked(&moment("a", 299, 299), true));
    assert!(trust.is_to_be_asked(&moment("a", 300, 300), true), "nobody has confirmed it");
    trust.heard(at(300), &moment("a", 300, 300));
    assert!(!trust.is_to_be_asked(&moment("a", 3_899, 3_899), true));
    assert!(trust.is_to_be_asked(&moment("a", 3_900, 3_900), true));
}
