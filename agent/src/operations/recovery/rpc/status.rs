//! How recovery stands, for the agent's page.

use genesis_proto::v1;
use genesis_storage::{CoursePhase, EmergencyRecord};

use super::super::course::Live;

/// An emergency that is in force with what trading has not come to, or one that is over while trading has not been told to
/// go on; `None`: neither. Pure.
pub(super) fn of(
    emergency: Option<EmergencyRecord>,
    live: &Live,
    configured: bool,
) -> Option<v1::DomainStatus> {
    let record = emergency?;
    let finding = |code: &str, message: String| v1::Finding {
        code: code.to_owned(),
        subject: format!("emergency {}", record.epoch),
        message,
    };
    // Of an older emergency nothing is told beside the newer one.
    let ours = configured && live.record.epoch == record.epoch;
    if !record.active() {
        let owed = ours && live.record.told && live.record.resumed_at.is_none();
        if !owed {
            return None;
        }
        let why = match live.resume_trouble.as_str() {
            "" => "it has not answered yet",
            why => why,
        };
        let message = format!(
            "the emergency was released, and trading has NOT been told to go on: {why}; it is tried again until it is"
        );
        return Some(v1::DomainStatus {
            domain: "recovery".into(),
            condition: v1::Condition::Warn.into(),
            summary: format!("EMERGENCY {} is over, trading is still halted by it", record.epoch),
            findings: vec![finding("TRADING_NOT_RESUMED", message)],
        });
    }
    let end = match record.fleet {
        Some(_) => "`genesisctl emergency release --fleet`",
        None => "`genesisctl emergency release`",
    };
    let message = format!(
        "declared at {} by {}: {}; release it with {end}",
        record.since, record.activated_by, record.reason
    );
    let mut findings = vec![finding("EMERGENCY", message)];
    if ours && live.halt_tried && !live.halt_trouble.is_empty() {
        let message = format!(
            "trading is not known to be halted: {}; stop the trading system by hand",
            live.halt_trouble
        );
        findings.push(finding("TRADING_NOT_HALTED", message));
    }
    if ours && live.record.phase == CoursePhase::FlatUnproven {
        let message = "positions may be open; `genesisctl emergency close-positions` goes on with the same orders";
        findings.push(finding("FLAT_UNPROVEN", message.to_owned()));
    }
    Some(v1::DomainStatus {
        domain: "recovery".into(),
        condition: v1::Condition::Critical.into(),
        summary: format!("EMERGENCY {} is in force", record.epoch),
        findings,
    })
}

#[cfg(test)]
mod tests {
    use genesis_storage::{CourseRecord, EmergencyRelease};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_owed_to_trading_outlives_the_emergency() {
        let emergency = |released: bool| EmergencyRecord {
            epoch: 3,
            since: Timestamp::UNIX_EPOCH,
            activated_by: "olga".into(),
            reason: "prices".into(),
            release: released.then(|| EmergencyRelease {
                at: Timestamp::UNIX_EPOCH,
                by: "olga".into(),
                reason: "over".into(),
            }),
            fleet: None,
        };
        let live = |epoch: u64, told: bool, resumed: bool| Live {
            record: CourseRecord {
                epoch,
                told,
                resumed_at: resumed.then_some(Timestamp::UNIX_EPOCH),
                ..CourseRecord::default()
            },
            ..Live::default()
        };
        let away = Live { resume_trouble: "away".into(), ..live(3, true, false) };
        let running =
            Live { halt_tried: true, halt_trouble: "no answer".into(), ..live(3, true, false) };
        let mut unproven = live(3, true, false);
        unproven.record.phase = CoursePhase::FlatUnproven;
        let (over, on) = (true, false);
        for (released, live, configured, codes) in [
            (on, live(3, true, false), true, vec!["EMERGENCY"]),
            (on, running.clone(), true, vec!["EMERGENCY", "TRADING_NOT_HALTED"]),
            (on, unproven, true, vec!["EMERGENCY", "FLAT_UNPROVEN"]),
            (on, running, false, vec!["EMERGENCY"]),
            (over, away, true, vec!["TRADING_NOT_RESUMED"]),
            // After a start it is owed before anybody has been asked again.
            (over, live(3, true, false), true, vec!["TRADING_NOT_RESUMED"]),
            (over, live(3, true, true), true, vec![]),
            (over, live(3, false, false), true, vec![]),
            (over, live(2, true, false), true, vec![]),
            (over, live(3, true, false), false, vec![]),
        ] {
            let status = of(Some(emergency(released)), &live, configured);
            let found = status.as_ref().map_or(&[][..], |it| it.findings.as_slice());
            let found: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
            assert_eq!(found, codes, "{released} {live:?}");
            let ok = status.is_none_or(|it| it.condition() == v1::Condition::Ok);
            assert_eq!(ok, codes.is_empty());
        }
        assert!(of(None, &Live::default(), true).is_none());
    }
}
