//! When a job is due: pure functions over instants, always UTC.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use jiff::{SignedDuration, Timestamp};

/// A schedule: "Sun 03:00", "Mon#1 04:00", "02:00" (daily), or any five-field cron expression.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    /// It is due whenever one of them is.
    crons: Vec<Cron>,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// Parses a schedule.
    ///
    /// # Errors
    /// What is wrong, with an example of what is right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no schedule; write \"02:00\", \"Sun 03:00\", \"Mon#1 04:00\" or five cron fields \
                 such as \"30 1 * * *\", always UTC"
            )
        };
        if text.len() > 128 {
            return Err("a schedule has at most 128 characters".into());
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let pattern = match words.as_slice() {
            [time] => time_fields(time)
                .map(|(hour, minute)| format!("{minute} {hour} * * *"))
                .ok_or_else(wrong)?,
            [day, time] => {
                let (hour, minute) = time_fields(time).ok_or_else(wrong)?;
                let (name, nth) = day.split_once('#').map_or((*day, ""), |(name, nth)| (name, nth));
                let number = DAYS
                    .iter()
                    .position(|known| known.eq_ignore_ascii_case(name))
                    .ok_or_else(wrong)?;
                match nth {
                    "" if day.contains('#') => return Err(wrong()),
                    "" => format!("{minute} {hour} * * {number}"),
                    "1" | "2" | "3" | "4" | "5" => format!("{minute} {hour} * * {number}#{nth}"),
                    _ => return Err(wrong()),
                }
            }
            [_, _, _, _, _] => words.join(" "),
            _ => return Err(wrong()),
        };
        let cron = Cron::from_str(&pattern).map_err(|error| format!("{}: {error}", wrong()))?;
        let schedule = Self { text: text.to_owned(), crons: vec![cron] };
        // "0 0 30 2 *" parses but never comes.
        if schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(format!("{text:?} never comes"));
        }
        Ok(schedule)
    }

    /// One that stands in the code, such as a default.
    ///
    /// # Panics
    /// When it is none: each is made when a configuration is read or the jobs are listed, so every test finds it.
    #[allow(clippy::expect_used)] // What is wrong with it is a defect, and no input reaches it.
    pub fn constant(text: &'static str) -> Self {
        Self::parse(text).expect("a constant schedule parses")
    }

    /// Due whenever one of them is; `None` for none.
    pub fn any<'a>(schedules: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let mut whole: Option<Self> = None;
        for schedule in schedules {
            match &mut whole {
                None => whole = Some(schedule.clone()),
                Some(whole) if whole.text.split(" or ").any(|text| text == schedule.text) => {}
                Some(whole) => {
                    whole.text = format!("{} or {}", whole.text, schedule.text);
                    whole.crons.extend(schedule.crons.iter().cloned());
                }
            }
        }
        whole
    }

    /// The first due time strictly after `instant`; `None` when there is none any more.
    pub fn next_after(&self, instant: Timestamp) -> Option<Timestamp> {
        let instant = to_chrono(instant)?;
        let next = |cron: &Cron| cron.find_next_occurrence(&instant, false).ok();
        let next = self.crons.iter().filter_map(next).min()?;
        Timestamp::from_second(next.timestamp()).ok()
    }

    /// The last due time at or before `instant`.
    pub fn last_until(&self, instant: Timestamp) -> Option<Timestamp> {
        let instant = to_chrono(instant)?;
        let last = |cron: &Cron| cron.find_previous_occurrence(&instant, true).ok();
        let last = self.crons.iter().filter_map(last).max()?;
        Timestamp::from_second(last.timestamp()).ok()
    }
}

/// The cron library speaks chrono.
fn to_chrono(instant: Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(instant.as_second(), instant.subsec_nanosecond().try_into().ok()?)
}

fn time_fields(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    if hour.len() > 2 || minute.len() != 2 {
        return None;
    }
    let (hour, minute) = (hour.parse::<u8>().ok()?, minute.parse::<u8>().ok()?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

/// This host's fixed delay for a job, within `spread`: the same at each start, different between hosts, so
/// that a fleet does not start everything in the same second.
pub fn splay(host_id: &str, job: &str, spread: Duration) -> Duration {
    let digest = blake3::hash(format!("{host_id}\0{job}").as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    let seconds = spread.as_secs().saturating_add(1);
    Duration::from_secs(u64::from_le_bytes(first) % seconds)
}

/// All that the decision about one job depends on.
#[derive(Debug, Clone)]
pub struct Situation {
    /// Now.
    pub now: Timestamp,
    /// The due time that was last dealt with, or when the job was first seen.
    pub last_due: Timestamp,
    /// An operator has paused it.
    pub paused: bool,
    /// An activation is still going on.
    pub running: bool,
    /// It waits for the release of an emergency.
    pub held: bool,
    /// How late an activation may still start.
    pub grace: Duration,
    /// This host's delay.
    pub splay: Duration,
}

/// What to do about one job now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this instant.
    Wait(Timestamp),
    /// Start it; this due time is dealt with.
    Run {
        /// The due time.
        due: Timestamp,
        /// How many due times before it were missed as well and are not made up for.
        missed: u32,
    },
    /// Record that this due time came to nothing, and why.
    Skip {
        /// The due time.
        due: Timestamp,
        /// Why, in words.
        why: String,
    },
    /// It never comes again.
    Never,
}

/// Decides about one job.
///
/// Due times that were missed collapse into the latest one, which is caught up once within the grace or
/// skipped with a record. A wall clock that was set back behind the last due time makes the schedule go on
/// from now, instead of waiting for the clock to get there again.
pub fn decide(schedule: &Schedule, situation: &Situation) -> Decision {
    let Situation { now, last_due, paused, running, held, grace, splay } = situation.clone();
    let splay = SignedDuration::try_from(splay).unwrap_or(SignedDuration::ZERO);
    let reference = last_due.min(now);
    let Some(next) = schedule.next_after(reference) else { return Decision::Never };
    let start = next.saturating_add(splay).unwrap_or(Timestamp::MAX);
    if start > now {
        return Decision::Wait(start);
    }
    let unsplayed = now.saturating_sub(splay).unwrap_or(now);
    let due = schedule.last_until(unsplayed).filter(|last| *last > next).unwrap_or(next);
    let late = now.duration_since(due.saturating_add(splay).unwrap_or(now));
    if paused {
        return Decision::Skip { due, why: "paused".into() };
    }
    if running {
        return Decision::Skip { due, why: "the activation before was still going on".into() };
    }
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    if late > grace {
        let held = if held { ", while an emergency is in force" } else { "" };
        let (late, grace) = (late.as_secs(), grace.as_secs());
        return Decision::Skip {
            due,
            why: format!("missed by {late} s, over its grace of {grace} s{held}"),
        };
    }
    if held {
        // Released within the grace, it is caught up.
        let left = grace.saturating_sub(late).saturating_add(SignedDuration::from_secs(1));
        return Decision::Wait(now.saturating_add(left).unwrap_or(Timestamp::MAX));
    }
    let mut missed = 0;
    let mut earlier = next;
    while earlier < due && missed < 1_000 {
        missed += 1;
        match schedule.next_after(earlier) {
            Some(later) => earlier = later,
            None => break,
        }
    }
    Decision::Run { due, missed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn next_times_of_each_form() {
        let cases = [
            ("02:00", "2026-11-23T02:00:00Z", "2026-11-24T02:00:00Z"),
            ("Sun 03:00", "2026-11-23T00:00:00Z", "2026-11-29T03:00:00Z"),
            ("mon 00:00", "2026-11-22T23:59:59Z", "2026-11-23T00:00:00Z"),
            ("Mon#1 04:00", "2026-11-02T03:59:59Z", "2026-11-02T04:00:00Z"),
            ("Mon#1 04:00", "2026-11-02T04:00:00Z", "2026-12-07T04:00:00Z"),
            ("Mon#1 04:00", "2026-12-31T00:00:00Z", "2027-01-04T04:00:00Z"),
            ("30 1 * * *", "2028-02-28T01:30:00Z", "2028-02-29T01:30:00Z"),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("*/15 * * * *", "2026-12-31T23:45:00Z", "2027-01-01T00:00:00Z"),
        ];
        for (text, after, expected) in cases {
            let schedule = Schedule::parse(text).unwrap();
            assert_eq!(schedule.next_after(at(after)), Some(at(expected)), "{text} after {after}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for text in [
            "",
            "25:00",
            "Sun 3:0",
            "Mon#6 04:00",
            "Mon# 04:00",
            "Moon 04:00",
            "* * *",
            "61 * * * *",
            "0 0 30 2 *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?} must be refused");
        }
        assert!(Schedule::parse("Moon 04:00").unwrap_err().contains("Mon#1 04:00"));
    }

    #[test]
    fn decisions() {
        let schedule = Schedule::parse("02:00").unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let base = Situation {
            now: at("2026-11-23T01:00:00Z"),
            last_due: at("2026-11-22T02:00:00Z"),
            paused: false,
            running: false,
            held: false,
            grace: hours(6),
            splay: Duration::from_secs(60),
        };
        let run = |due: &str, missed| Decision::Run { due: at(due), missed };
        let cases: Vec<(&str, Situation, Decision)> = vec![
            ("not due", base.clone(), Decision::Wait(at("2026-11-23T02:01:00Z"))),
            (
                "due, but this host's delay is not over",
                Situation { now: at("2026-11-23T02:00:59Z"), ..base.clone() },
                Decision::Wait(at("2026-11-23T02:01:00Z")),
            ),
            (
                "due",
                Situation { now: at("2026-11-23T02:01:00Z"), ..base.clone() },
                run("2026-11-23T02:00:00Z", 0),
            ),
            (
                "late within the grace",
                Situation { now: at("2026-11-23T08:01:00Z"), ..base.clone() },
                run("2026-11-23T02:00:00Z", 0),
            ),
            (
                "late over the grace",
                Situation { now: at("2026-11-23T08:01:01Z"), ..base.clone() },
                Decision::Skip {
                    due: at("2026-11-23T02:00:00Z"),
                    why: "missed by 21601 s, over its grace of 21600 s".into(),
                },
            ),
            (
                "three missed, one caught up",
                Situation { now: at("2026-11-25T02:30:00Z"), ..base.clone() },
                run("2026-11-25T02:00:00Z", 2),
            ),
            (
                "paused",
                Situation { now: at("2026-11-23T02:01:00Z"), paused: true, ..base.clone() },
                Decision::Skip { due: at("2026-11-23T02:00:00Z"), why: "paused".into() },
            ),
            (
                "running",
                Situation { now: at("2026-11-23T02:01:00Z"), running: true, ..base.clone() },
                Decision::Skip {
                    due: at("2026-11-23T02:00:00Z"),
                    why: "the activation before was still going on".into(),
                },
            ),
            (
                "held by an emergency, within the grace",
                Situation { now: at("2026-11-23T02:02:00Z"), held: true, ..base.clone() },
                Decision::Wait(at("2026-11-23T08:01:01Z")),
            ),
            (
                "held by an emergency, over the grace",
                Situation { now: at("2026-11-23T08:01:01Z"), held: true, ..base.clone() },
                Decision::Skip {
                    due: at("2026-11-23T02:00:00Z"),
                    why: "missed by 21601 s, over its grace of 21600 s, while an emergency is in force".into(),
                },
            ),
            (
                "clock set back by a month",
                Situation { now: at("2026-10-23T01:00:00Z"), ..base },
                Decision::Wait(at("2026-10-23T02:01:00Z")),
            ),
        ];
        for (name, situation, expected) in cases {
            assert_eq!(decide(&schedule, &situation), expected, "{name}");
        }
    }

    #[test]
    fn splay_is_stable_and_within_its_spread() {
        let spread = Duration::from_secs(300);
        let delays: Vec<Duration> =
            (0..50).map(|host| splay(&format!("host-{host}"), "job", spread)).collect();
        assert!(delays.iter().all(|delay| *delay <= spread));
        assert_eq!(delays[7], splay("host-7", "job", spread));
        let different: std::collections::BTreeSet<_> = delays.iter().collect();
        assert!(different.len() > 30, "hosts must not start together");
    }
}
