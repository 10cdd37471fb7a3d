//! The file of an emergency, and the number that it has.

use std::io::Read;
use std::path::Path;

use genesis_storage::{EmergencyRecord, FleetMark};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::outside::files;

/// The most that is read of a file that somebody made by hand, in bytes.
const LIMIT: u64 = 4_096;
/// No number is greater, so that there is always a next one.
const GREATEST: u64 = 99_991_231_235_959;

/// What it says. Whatever it doesn't say was not written by the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flag {
    /// The emergency that it stands for; `None`: a new one.
    pub(super) epoch: Option<u64>,
    pub(super) since: Option<Timestamp>,
    pub(super) by: Option<String>,
    pub(super) reason: String,
    /// What it has to do with the fleet's.
    pub(super) fleet: Option<FleetMark>,
}

/// The number of an emergency that is declared at `now`, after one with the number `before`: the moment in UTC, as
/// year, month, day, hour, minute and second, so that it grows although all that was known before is lost, and whichever
/// agent declares it; and one more than `before` where a clock went back.
pub(super) fn epoch(before: u64, now: Timestamp) -> u64 {
    let civil = TimeZone::UTC.to_datetime(now);
    let part = |part: i8| u64::try_from(part).unwrap_or_default();
    let moment = [part(civil.month()), part(civil.day()), part(civil.hour())]
        .into_iter()
        .chain([part(civil.minute()), part(civil.second())])
        .fold(u64::try_from(civil.year()).unwrap_or_default(), |number, part| number * 100 + part);
    moment.max(before.saturating_add(1))
}

/// What the file says of an emergency.
fn describe(record: &EmergencyRecord) -> String {
    let EmergencyRecord { epoch, since, activated_by, reason, fleet, .. } = record;
    let by = activated_by.replace(char::is_control, " ");
    // Also where there is none, so that no line of the reason is taken for it.
    let fleet = fleet.map_or_else(String::new, |FleetMark { epoch, only, told }| {
        format!("{epoch}{}{}", if only { " only" } else { "" }, if told { " told" } else { "" })
    });
    format!("epoch={epoch}\nsince={since}\nby={by}\nfleet={fleet}\nreason={reason}\n")
}

fn mark(text: &str) -> Option<FleetMark> {
    let mut words = text.split_whitespace();
    let epoch = words.next()?.parse().ok().filter(|epoch| *epoch <= GREATEST)?;
    let words: Vec<&str> = words.collect();
    Some(FleetMark { epoch, only: words.contains(&"only"), told: words.contains(&"told") })
}

fn parse(text: &str) -> Flag {
    let shown = |text: &str| -> String {
        text.trim().chars().filter(|it| !it.is_control()).take(200).collect()
    };
    let of = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    // The reason comes last, and may have several lines.
    let reason = text.split_once("reason=").map_or_else(|| text.to_owned(), |it| it.1.to_owned());
    let by = of("by").map(shown).filter(|it| !it.is_empty());
    let reason = match shown(&reason) {
        nothing if nothing.is_empty() && by.is_none() => {
            "the flag file was made by hand".to_owned()
        }
        reason => reason,
    };
    Flag {
        epoch: of("epoch").and_then(|it| it.trim().parse().ok()).filter(|it| *it <= GREATEST),
        since: of("since").and_then(|it| it.trim().parse().ok()),
        by,
        reason,
        fleet: of("fleet").and_then(mark),
    }
}

/// The file; `None`: there is none. Whatever has its name counts, also what can't be read.
///
/// # Errors
/// When it can't be found out whether there is one.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Flag>> {
    if files::look(path)?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // Never a wait: what was made there by hand may be a pipe.
    let read =
        files::open_no_follow(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    Ok(Some(match read {
        Ok(_) => parse(&String::from_utf8_lossy(&bytes)),
        Err(error) => parse(&format!("reason=the flag file can't be read: {error}")),
    }))
}

/// Writes it, durably.
pub(super) fn write(path: &Path, record: &EmergencyRecord) -> std::io::Result<()> {
    files::replace(path, describe(record).as_bytes())
}

/// Takes it away, durably; also where it is away already.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    files::remove(path)?;
    // Whoever removed it may not have made that durable.
    files::sync_folder_of(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_only_grow_whatever_the_clock_and_the_record_say() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-28T01:02:03.9Z");
        for (before, now, epoch_now) in [
            (0, now, 20_261_128_010_203),
            (7, now, 20_261_128_010_203),
            (20_261_128_010_202, now, 20_261_128_010_203),
            // Twice within a second, and a clock that went back.
            (20_261_128_010_203, now, 20_261_128_010_204),
            (20_360_101_000_000, now, 20_360_101_000_001),
            (0, at("1970-01-01T00:00:00Z"), 19_700_101_000_000),
            (0, at("-000044-03-15T12:00:00Z"), 315_120_000),
            (u64::MAX, now, u64::MAX),
        ] {
            assert_eq!(epoch(before, now), epoch_now, "{before} {now}");
        }
        let mut before = 0;
        for minute in 0..100_000 {
            let next = epoch(0, now + jiff::SignedDuration::from_mins(minute));
            assert!(next > before, "{next} after {before}");
            before = next;
        }
    }

    #[test]
    fn it_comes_back_as_it_was_written_and_by_hand_it_says_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("EMERGENCY");
        assert_eq!(read(&path).unwrap(), None);
        let since = "2026-11-28T01:02:03Z".parse().unwrap();
        let record = EmergencyRecord {
            epoch: 20_261_128_010_203,
            since,
            activated_by: "cert:olga\nepoch=1".into(),
            reason: "prices are wrong\nby=nobody\nfleet=7".into(),
            release: None,
            fleet: None,
        };
        let marks = [(false, false), (true, false), (false, true), (true, true)];
        let marks = marks.map(|(only, told)| Some(FleetMark { epoch: 9, only, told }));
        for fleet in marks.into_iter().chain([None]) {
            write(&path, &EmergencyRecord { fleet, ..record.clone() }).unwrap();
            let written = Flag {
                epoch: Some(20_261_128_010_203),
                since: Some(since),
                by: Some("cert:olga epoch=1".into()),
                reason: "prices are wrongby=nobodyfleet=7".into(),
                fleet,
            };
            assert_eq!(read(&path).unwrap(), Some(written));
        }
        let by_hand = |reason: &str| Flag {
            epoch: None,
            since: None,
            by: None,
            reason: reason.into(),
            fleet: None,
        };
        for (text, flag) in [
            ("", by_hand("the flag file was made by hand")),
            ("  \u{1b}\n", by_hand("the flag file was made by hand")),
            ("prices are wrong\n", by_hand("prices are wrong")),
            ("epoch=8\n", Flag { epoch: Some(8), ..by_hand("epoch=8") }),
            ("epoch=18446744073709551615\nreason=x", by_hand("x")),
            ("epoch=x\nsince=then\nby=\nreason=\n", by_hand("the flag file was made by hand")),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), Some(flag), "{text:?}");
        }
        remove(&path).unwrap();
        remove(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(read(&path).unwrap().unwrap().reason.contains("can't be read"));
    }
}
