//! The emergency of a state that does not go on from the earlier one.

use crate::capability::Reading;
use crate::error::StorageError;
use crate::tables::emergency::{EmergenciesWriting, EmergencyRecord};
use crate::tables::emergency_course::CoursesWriting;
use crate::view::Sink;

/// Whether both records are of one emergency. A state that was lost takes it up again from its flag file, which has its
/// moment.
fn same(newer: &EmergencyRecord, older: &EmergencyRecord) -> bool {
    newer.since == older.since
}

/// The epoch that the newer one of two has where both are in one history: never one that another emergency had.
fn epoch(newer: &EmergencyRecord, older: Option<&EmergencyRecord>) -> u64 {
    match older {
        Some(older) if same(newer, older) => newer.epoch.max(older.epoch),
        Some(older) if newer.epoch <= older.epoch => older.epoch.saturating_add(1),
        _ => newer.epoch,
    }
}

/// Takes over the latest emergency with the course of its trading; where there has been none since, the earlier state's
/// stays as it is.
pub(super) fn carry(live: &Reading<'_>, sink: Sink<'_>) -> Result<(), StorageError> {
    let Some(newer) = live.emergency().get()? else { return Ok(()) };
    let (emergencies, courses) = (EmergenciesWriting::new(sink), CoursesWriting::new(sink));
    let older = emergencies.get()?;
    let epoch = epoch(&newer, older.as_ref());
    let of_newer = live.course().get()?.filter(|it| it.epoch == newer.epoch);
    let of_older = courses.get()?.filter(|it| {
        older.as_ref().is_some_and(|older| it.epoch == older.epoch && same(&newer, older))
    });
    if let Some(mut course) = of_newer.or(of_older) {
        if course.epoch != epoch {
            // They agreed to the release of another number.
            course.approvals.clear();
            course.epoch = epoch;
        }
        courses.put(&course)?;
    }
    emergencies.put(&EmergencyRecord { epoch, ..newer })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn no_epoch_comes_twice_and_one_emergency_has_one() {
        let emergency = |epoch: u64, since: i64| EmergencyRecord {
            epoch,
            since: Timestamp::from_second(since).unwrap(),
            activated_by: "olga".into(),
            reason: "feed".into(),
            release: None,
            fleet: None,
        };
        for (newer, older, expected, what) in [
            (emergency(1, 9), None, 1, "the first"),
            (emergency(1, 9), Some(7), 8, "another, counted from one again"),
            (emergency(7, 9), Some(7), 8, "another, by chance of the same number"),
            (emergency(9, 9), Some(7), 9, "another, counted on"),
            (emergency(7, 5), Some(7), 7, "the same"),
            (emergency(9, 5), Some(7), 9, "the same, under a number that it was given since"),
        ] {
            let older = older.map(|number| emergency(number, 5));
            assert_eq!(epoch(&newer, older.as_ref()), expected, "{what}");
        }
    }
}
