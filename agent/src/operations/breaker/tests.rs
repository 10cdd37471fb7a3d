mod stories;

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_stats::Usual;
use genesis_storage::{BreakerRecord, BreakerState, Moment};
use jiff::Timestamp;
use proptest::prelude::*;

use super::judge::{Given, Judge, Judged, Report, Rules, Taken, Trip};
use super::life::{self, Cause, Ended, Pace, Probing, Step};
use super::{Config, plan};
use crate::config::Places;

const MINUTE: i64 = 60;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 / MINUTE * MINUTE + seconds).unwrap()
}

fn moment(seconds: i64) -> Moment {
    let since_boot = Duration::from_secs(seconds.unsigned_abs() + 1_000);
    Moment { wall: at(seconds), boot: "b".into(), since_boot }
}

fn pace() -> Pace {
    let seconds = Duration::from_secs;
    Pace {
        open_for: seconds(30),
        open_for_max: seconds(300),
        rounds: 3,
        probe_timeout: seconds(10),
    }
}

const CAUSE: Cause<'static> = Cause { by: "x", reason: "y" };

fn lasts(record: &BreakerRecord) -> Option<u64> {
    record.lasts.map(|lasts| lasts.as_secs())
}

#[test]
fn a_breaker_opens_for_longer_each_time_it_does_not_come_back() {
    let mut record = life::unused("a", &moment(0));
    let mut now = 0;
    let mut seen = Vec::new();
    for _ in 0..6 {
        record = life::tripped(&record, CAUSE, &moment(now), &pace());
        seen.push(lasts(&record).unwrap());
        // Not a second too early.
        let end = now + seen[seen.len() - 1].cast_signed();
        assert_eq!(life::half_opened(&record, &moment(end - 1)), None);
        record = life::half_opened(&record, &moment(end)).unwrap();
        assert_eq!(record.state, BreakerState::HalfOpen);
        now = end + 1;
    }
    assert_eq!(seen, [30, 60, 120, 240, 300, 300]);
    assert_eq!((record.opening, record.failures), (1, 5), "one opening, however often it failed");
    // Back for a moment is not back.
    record = life::closed(&record, CAUSE, false, &moment(now));
    record = life::tripped(&record, CAUSE, &moment(now + 10), &pace());
    assert_eq!((record.opening, lasts(&record)), (2, Some(300)));
    // Back for as long as the longest opening is.
    record = life::closed(&record, CAUSE, false, &moment(now));
    record = life::tripped(&record, CAUSE, &moment(now + 300), &pace());
    assert_eq!((record.opening, record.failures, lasts(&record)), (3, 0, Some(30)));
    // A reset forgets.
    record = life::closed(&BreakerRecord { failures: 4, ..record }, CAUSE, true, &moment(now));
    record = life::tripped(&record, CAUSE, &moment(now + 1), &pace());
    assert_eq!(record.failures, 1);
}

#[test]
fn what_is_open_is_neither_opened_again_nor_let_go_early() {
    let open = life::tripped(&life::unused("a", &moment(0)), CAUSE, &moment(0), &pace());
    let other = Cause { by: "z", reason: "z" };
    assert_eq!(life::tripped(&open, other, &moment(20), &pace()), open);
    // Until a reset.
    let forced = life::forced(&open, None, other, &moment(20));
    assert_eq!((forced.opening, forced.by.as_str(), forced.lasts), (1, "z", None));
    assert_eq!(life::half_opened(&forced, &moment(1_000_000)), None);
    assert_eq!(life::remaining(&forced, &moment(0)), None);
    // A wall clock that is set on does not end it.
    let jumped = Moment { wall: at(86_400), ..moment(29) };
    assert_eq!(life::half_opened(&open, &jumped), None);
    // Over a reboot the wall clock is all there is.
    let rebooted = Moment { boot: "c".into(), since_boot: Duration::from_secs(1), ..moment(30) };
    assert!(life::half_opened(&open, &rebooted).is_some());
}

#[test]
fn probes_come_back_in_rounds_of_1_2_4() {
    let now = Duration::from_secs(1);
    let mut probing = Probing::new(&pace(), 100);
    let mut rounds = Vec::new();
    loop {
        let probes = probing.grant(1_000, now, &pace());
        assert!(probing.grant(1, now, &pace()).is_empty(), "no more than its round");
        rounds.push(probes.len());
        let steps: Vec<Step> =
            probes.iter().map(|probe| probing.settle(*probe, Ended::Passed, now)).collect();
        if steps.contains(&Step::Close) {
            assert_eq!(steps.last(), Some(&Step::Close));
            break;
        }
    }
    assert_eq!(rounds, [1, 2, 4]);
}

#[test]
fn a_probe_that_nobody_speaks_of_makes_room_and_says_nothing_later() {
    let seconds = Duration::from_secs;
    let mut probing = Probing::new(&pace(), 1);
    let [first] = probing.grant(1, seconds(0), &pace())[..] else { panic!("one is granted") };
    assert!(probing.grant(1, seconds(9), &pace()).is_empty());
    let [second] = probing.grant(1, seconds(10), &pace())[..] else { panic!("another one") };
    assert_ne!(first, second);
    for ended in [Ended::Passed, Ended::Failed, Ended::Unknown] {
        assert_eq!(probing.settle(first, ended, seconds(11)), Step::Ignored);
    }
    // Unknown is no pass.
    assert_eq!(probing.settle(second, Ended::Unknown, seconds(11)), Step::GoesOn);
    assert_eq!(probing.round(), (1, 0, 0));
    let [third] = probing.grant(1, seconds(11), &pace())[..] else { panic!("another one") };
    assert_eq!(probing.settle(third, Ended::Failed, seconds(12)), Step::Reopen);
    assert_eq!(probing.settle(third, Ended::Failed, seconds(12)), Step::Ignored, "once");
}

proptest! {
    /// Against a list of what was granted and when: never more under way than the round has left.
    #[test]
    fn never_more_probes_than_admitted(steps in proptest::collection::vec((0..4_u8, 0..8_u32, 0..6_u64), 0..300)) {
        let (mut probing, pace) = (Probing::new(&pace(), 7), pace());
        let mut granted: BTreeMap<u64, Duration> = BTreeMap::new();
        let mut now = Duration::ZERO;
        for (what, which, later) in steps {
            now += Duration::from_secs(later);
            granted.retain(|_, until| *until > now);
            if what == 0 {
                let (size, passed, _) = probing.round();
                let probes = probing.grant(which, now, &pace);
                prop_assert!(granted.len() + probes.len() <= (size - passed) as usize);
                granted.extend(probes.into_iter().map(|probe| (probe, now + pace.probe_timeout)));
                continue;
            }
            let probe = granted.keys().nth(which as usize).copied();
            let ended = match what { 1 => Ended::Passed, 2 => Ended::Unknown, _ => Ended::Failed };
            let step = probing.settle(probe.unwrap_or(3), ended, now);
            prop_assert_eq!(step == Step::Ignored, probe.is_none());
            if let Some(probe) = probe { granted.remove(&probe); }
            if matches!(step, Step::Close | Step::Reopen) { return Ok(()); }
            prop_assert_eq!(probing.round().2 as usize, granted.len());
        }
    }
}

fn rules() -> Rules {
    Rules { window: Duration::from_secs(60), learn_from: 60, gross: 0.5, given: Given::default() }
}

fn judge() -> Judge {
    Judge::new(rules(), None, None, None)
}

fn report(sequence: u64, start: i64, calls: u64, failed: u64) -> Report<'static> {
    let slow_after = None;
    Report { reporter: "r", sequence, start: at(start), calls, failed, slow: 0, slow_after }
}

#[test]
fn what_is_late_twice_or_ahead_has_no_effect() {
    let mut judge = judge();
    let now = at(130);
    assert_eq!(judge.take(&report(1, 60, 10, 0), true, now), Taken::Counted);
    assert_eq!(judge.take(&report(1, 60, 10, 0), true, now), Taken::Duplicate);
    let other = Report { reporter: "s", ..report(1, 60, 5, 1) };
    assert_eq!(judge.take(&other, true, now), Taken::Counted);
    // Out of order, and from a clock that is a little ahead.
    assert_eq!(judge.take(&report(3, 180, 1, 1), true, now), Taken::Counted);
    assert_eq!(judge.take(&report(2, 120, 1, 1), true, now), Taken::Counted);
    assert_eq!(judge.take(&report(4, 240, 1, 1), true, now), Taken::Ahead);
    assert_eq!(judge.take(&report(5, -100, 1, 1), true, now), Taken::Late);
    // The window of second 60 is judged 15 s after its end, not before.
    judge.close(at(134));
    assert_eq!(judge.latest().calls, 0);
    judge.close(at(135));
    assert_eq!((judge.latest().calls, judge.latest().failed), (15, 1));
    assert_eq!(judge.take(&report(6, 100, 9, 9), true, at(136)), Taken::Late);
    assert_eq!(judge.latest().calls, 15);
}

#[test]
fn so_many_reports_of_one_window_are_kept_apart() {
    let mut judge = judge();
    let taken: Vec<Taken> =
        (0..5_000).map(|i| judge.take(&report(i, 0, 1, 0), true, at(1))).collect();
    assert!(taken[..4_096].iter().all(|taken| *taken == Taken::Counted));
    assert!(taken[4_096..].iter().all(|taken| *taken == Taken::Dropped));
    judge.close(at(75));
    assert_eq!(judge.latest().calls, 4_096);
}

#[test]
fn gross_failure_needs_no_knowledge_and_few_calls_say_nothing() {
    let mut judge = judge();
    judge.take(&report(1, 0, 19, 19), true, at(1));
    assert_eq!(judge.gross(), None, "19 calls are too few");
    // Windows of few calls are looked at together, newest first.
    judge.close(at(75));
    judge.take(&report(2, 60, 1, 1), true, at(76));
    assert_eq!(judge.gross(), Some(Trip::Gross(20, 20)));
    judge.calm();
    assert_eq!(judge.gross(), None, "what led to an opening is done with");
    // Healthy calls of long ago do not hide it.
    for minute in 2..6 {
        judge.take(&report(minute, (minute as i64) * 60, 1_000, 0), true, at((minute as i64) * 60));
    }
    judge.take(&report(9, 360, 19, 10), true, at(361));
    assert_eq!(judge.gross(), None, "10 of 1,019");
    judge.take(&report(10, 360, 1, 0), true, at(361));
    assert_eq!(judge.gross(), Some(Trip::Gross(10, 20)));
    // What comes while it is open counts for nothing.
    let mut judge = self::judge();
    judge.take(&report(1, 0, 100, 100), false, at(1));
    assert_eq!(judge.gross(), None);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `n` come out at this share, by the gaps between them.
    fn of(&mut self, n: u64, share: f64) -> u64 {
        let (mut seen, mut found) = (0.0, 0);
        loop {
            seen += (self.next().max(1e-300).ln() / (-share).ln_1p()).floor() + 1.0;
            if seen > n as f64 {
                return found;
            }
            found += 1;
        }
    }
}

const SLOW_AFTER: Option<Duration> = Some(Duration::from_millis(100));

/// Lets a judge see minutes of 1,000 calls at these shares of slow and of failed ones; the minute in which it trips.
fn minutes(
    judge: &mut Judge,
    random: &mut Random,
    from: u64,
    count: u64,
    shares: (f64, f64),
) -> Option<(u64, Trip)> {
    for minute in from..from + count {
        let start = at(minute.cast_signed() * 60);
        let report = Report {
            reporter: "r",
            sequence: minute,
            start,
            calls: 1_000,
            failed: random.of(1_000, shares.1),
            slow: random.of(1_000, shares.0),
            slow_after: SLOW_AFTER,
        };
        judge.take(&report, true, start);
        let Judged { trip, .. } = judge.close(at(minute.cast_signed() * 60 + 75));
        if let Some(trip) = judge.gross().or(trip) {
            return Some((minute - from + 1, trip));
        }
    }
    None
}

#[test]
fn noise_over_many_seeds_trips_it_less_than_once_in_thirty_days() {
    let days = if std::env::var_os("GENESIS_LONG").is_some_and(|it| it == "1") { 600 } else { 30 };
    let mut trips = 0;
    for seed in 0..days {
        let (mut judge, mut random) = (judge(), Random(seed));
        let tripped = minutes(&mut judge, &mut random, 0, 60 + 1_440, (0.05, 0.01));
        trips += u64::from(tripped.is_some());
    }
    println!("{trips} trips in {days} days of noise");
    // Of a rate of one in thirty days; three standard deviations more are no surprise.
    let expected = days as f64 / 30.0;
    assert!(trips as f64 <= expected + 3.0 * expected.sqrt(), "{trips} in {days} days");
}

#[test]
fn a_shift_trips_it_in_time_once_it_knows_what_is_usual() {
    for seed in 0..50 {
        let (mut judge, mut random) = (judge(), Random(seed));
        assert_eq!(judge.slow.view().usual, None);
        assert_eq!(minutes(&mut judge, &mut random, 0, 59, (0.05, 0.01)), None);
        assert_eq!(judge.slow.view().learned, 59);
        // Not known yet, and so no trip: unknown is none.
        assert_eq!(minutes(&mut judge.clone(), &mut random, 59, 1, (0.3, 0.01)), None);
        assert_eq!(minutes(&mut judge, &mut random, 59, 1, (0.05, 0.01)), None);
        assert!(judge.learned().0.is_some() && judge.learned().1.is_some());
        for (shares, within, cause) in [
            ((0.3, 0.01), 1, "latency"),
            ((0.1, 0.01), 3, "latency"),
            ((0.05, 0.2), 1, "errors"),
            ((0.05, 0.9), 1, "gross"),
        ] {
            let found = minutes(&mut judge.clone(), &mut random, 60, 10, shares);
            let (took, trip) = found.unwrap_or_else(|| panic!("{shares:?} does not trip it"));
            assert!(took <= within, "{shares:?} takes {took} minutes");
            assert_eq!(trip.word(), cause);
        }
    }
}

#[test]
fn a_sick_beginning_is_not_taken_for_usual() {
    let (mut judge, mut random) = (judge(), Random(1));
    minutes(&mut judge, &mut random, 0, 70, (0.9, 0.01));
    assert_eq!(judge.slow.view().usual, None);
    // Healthy windows push the sick ones out.
    minutes(&mut judge, &mut random, 70, 60, (0.05, 0.01));
    let usual = judge.slow.view().usual.unwrap();
    assert!(usual.share < 0.5, "{usual:?}");
}

#[test]
fn quiet_operations_are_judged_over_several_windows() {
    let usual = Some(Usual { share: 0.05, phi: 1.0 });
    let mut judge = Judge::new(rules(), None, None, usual);
    // 20 calls a minute expect one failure: five minutes together.
    for minute in 0..4_i64 {
        judge.take(&report(minute.unsigned_abs(), minute * 60, 20, 9), true, at(minute * 60));
        assert_eq!(judge.close(at(minute * 60 + 75)).trip, None, "minute {minute}");
    }
    judge.take(&report(4, 240, 20, 9), true, at(240));
    assert!(matches!(judge.close(at(315)).trip, Some(Trip::Failing(..))));
}

#[test]
fn after_coming_back_it_is_watched_more_closely() {
    let usual = Some(Usual { share: 0.05, phi: 1.0 });
    let mut fresh = Judge::new(rules(), None, None, usual);
    let mut back = fresh.clone();
    back.watchful();
    // z = 4.6: too little for one that was well.
    for (judge, trips) in [(&mut fresh, false), (&mut back, true)] {
        judge.take(&report(0, 0, 1_000, 82), true, at(0));
        assert_eq!(judge.close(at(75)).trip.is_some(), trips);
    }
}

#[test]
fn who_comes_first_says_what_slow_means_until_nobody_uses_it() {
    let mut judge = judge();
    let with = |sequence, minute: i64, millis| Report {
        slow: 5,
        slow_after: Some(Duration::from_millis(millis)),
        ..report(sequence, minute * 60, 100, 0)
    };
    judge.take(&with(1, 0, 100), true, at(0));
    judge.take(&with(2, 0, 200), true, at(0));
    judge.close(at(75));
    let latest = judge.latest();
    assert_eq!((latest.calls, latest.timed, latest.slow), (200, 100, 5), "of the other nothing");
    for minute in 1..12_i64 {
        judge.take(&with(9, minute, 200), true, at(minute * 60));
        judge.close(at(minute * 60 + 75));
    }
    assert_eq!(judge.slow_after(), Some(Duration::from_millis(200)));
    // The configuration's word counts before all.
    let given = Given { slow_after: SLOW_AFTER, ..Given::default() };
    let mut judge = Judge::new(Rules { given, ..rules() }, None, None, None);
    judge.take(&with(1, 0, 200), true, at(0));
    assert_eq!(judge.slow_after(), SLOW_AFTER);
}

proptest! {
    /// No sequence of reports and times, clocks that jump included, makes more of calls than was reported, or makes the
    /// judge keep more than its bounds.
    #[test]
    fn no_sequence_of_reports_and_times_makes_calls_up(steps in proptest::collection::vec((0..400_i64, -200..600_i64, 0..6_u64, 0..50_u64), 1..200)) {
        let mut judge = judge();
        let (mut reported, mut counted) = (0_u64, 0_u64);
        for (now, start, sequence, calls) in steps {
            let taken = judge.take(&report(sequence, start, calls, calls / 2), true, at(now));
            if taken == Taken::Counted { reported += calls; }
            let before = judge.clone();
            judge.close(at(now));
            if judge != before { counted += judge.latest().calls; }
            prop_assert!(judge.latest().failed <= judge.latest().calls);
        }
        // Each window was the latest at most once for each look that changed something.
        prop_assert!(reported > 0 || counted == 0);
        let at_end = judge.close(at(100_000));
        prop_assert!(at_end.trip.is_none() && judge.gross().is_none_or(|_| reported >= 20));
    }
}

#[test]
fn plans_say_what_would_happen_and_names_and_times_are_checked() {
    let open = life::tripped(&life::unused("a", &moment(0)), CAUSE, &moment(0), &pace());
    assert_eq!(plan::reset(&open, false).steps.len(), 1);
    assert_eq!(plan::reset(&open, true).steps.len(), 2);
    let closed = life::closed(&open, CAUSE, true, &moment(1));
    assert!(plan::reset(&closed, false).steps.is_empty());
    let plans = [
        plan::trip("a", None, None).hash,
        plan::trip("a", Some(&open), None).hash,
        plan::trip("a", Some(&closed), None).hash,
        plan::trip("a", Some(&closed), Some(Duration::from_secs(1))).hash,
    ];
    let different: std::collections::BTreeSet<_> = plans.iter().collect();
    assert_eq!(different.len(), plans.len());
    for (text, fine) in [("", true), ("10m", true), ("7d", true), ("8d", false), ("0s", false)] {
        assert_eq!(plan::lasting(text).is_ok(), fine, "{text}");
    }
    for (name, fine) in [("orders-api", true), ("a/b:c.d_e", true), ("", false), ("a b", false)] {
        assert_eq!(plan::named(name).is_ok(), fine, "{name}");
    }
    assert!(plan::named(&"x".repeat(129)).is_err());
}

#[test]
fn the_configuration_is_read_with_every_problem() {
    let places = Places { state: "/s".into(), socket: "/s/a".into() };
    let read = |text: &str| crate::config::Config::parse(text, "", &places);
    let text = "[breaker]\nopen_for = \"1s\"\nwindow = \"2s\"\non_change = { command = [\"x\"] }\n\
                [[breaker.operation]]\nname = \"a\"\nopen_for = \"10m\"\nslow_after = \"100ms\"\nusual_slow = \"5%\"\n";
    let config: Config = read(text).config.unwrap().breaker;
    assert!(config.on_change.is_some());
    assert_eq!(config.pace("b").open_for, Duration::from_secs(1));
    let pace = config.pace("a");
    assert_eq!((pace.open_for, pace.open_for_max), (Duration::from_secs(600), pace.open_for));
    assert_eq!(config.rules("a").given.slow, Some(0.05));
    assert_eq!(config.rules("b").given, Given::default());
    let defaults = read("").config.unwrap().breaker.pace("a");
    assert_eq!(defaults.open_for, Duration::from_secs(30));
    for (text, problem) in [
        ("[breaker]\nopen_for = \"6m\"", "open_for_max"),
        ("[breaker]\nrounds = \"0\"", "1 to 16"),
        ("[breaker]\ngross_failures = \"100%\"", "share"),
        ("[breaker]\nwindow = \"1h\"", "outside"),
        ("[breaker]\non_change = \"x\"", "table"),
        ("[[breaker.operation]]\nname = \"a b\"", "no name"),
        ("[[breaker.operation]]\nname = \"a\"\nusual_slow = \"5%\"", "slow_after"),
        ("[[breaker.operation]]\nname = \"a\"\n[[breaker.operation]]\nname = \"a\"", "twice"),
        ("[breaker]\nopen_fo = \"1s\"", "did you mean"),
    ] {
        let said: Vec<String> = read(text).problems.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains(problem)), "{text}: {said:?}");
    }
}

#[test]
fn a_length_for_which_there_is_no_room_is_none() {
    use genesis_proto::v1;

    let report = |seconds| v1::OutcomeReport {
        operation: "venue".to_owned(),
        window_start: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
        window_length: Some(prost_types::Duration { seconds, nanos: 0 }),
        ..v1::OutcomeReport::default()
    };
    for seconds in [i64::MIN, -1] {
        let error = super::rpc::outcome(&report(seconds)).map(drop).unwrap_err();
        assert!(error.message.contains("window_length is missing"), "{}", error.message);
    }
    assert!(super::rpc::outcome(&report(60)).is_ok());
}
