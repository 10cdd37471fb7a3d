//! How long the next attempt waits, and when a CA is asked again. Pure: what was said and the time are arguments.

use std::time::Duration;

use genesis_storage::CertificateTrouble;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::plan::plus;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// How long the next attempt waits.
struct Wait {
    trouble: CertificateTrouble,
    first: Duration,
    longest: Duration,
}

/// What is done about each sort of failure.
const WAITS: [Wait; 5] = [
    Wait { trouble: CertificateTrouble::RateLimited, first: HOUR, longest: DAY },
    // At most two in an hour for one name: five would bar it.
    Wait {
        trouble: CertificateTrouble::Authorization,
        first: Duration::from_secs(1_800),
        longest: Duration::from_secs(6 * 3_600),
    },
    Wait {
        trouble: CertificateTrouble::Server,
        first: Duration::from_secs(60),
        longest: Duration::from_secs(6 * 3_600),
    },
    Wait { trouble: CertificateTrouble::Local, first: Duration::from_secs(60), longest: HOUR },
    Wait {
        trouble: CertificateTrouble::Clock,
        first: Duration::from_secs(300),
        longest: Duration::from_secs(300),
    },
];
/// With less than a day left, or nothing trusted in service, a CA that fails is asked again after that time.
const URGENT: Duration = Duration::from_secs(900);

/// What a CA asks for is not longer than what it could mean.
pub const LONGEST: Duration = Duration::from_secs(8 * 86_400);

/// The next whole second: a time that people are told has no more than that, and is none at which it is still too soon.
pub fn whole(at: Timestamp) -> Timestamp {
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    at.round(up).unwrap_or(at)
}

/// Until when a CA wants to be left alone that said so now.
pub fn asked_for(now: Timestamp, asked: Duration) -> Timestamp {
    whole(plus(now, asked.min(LONGEST)))
}

/// Until when the next attempt waits after so many failures in a row; `None`: until the configuration is another. What the
/// CA says is obeyed. `seed` spreads hosts that failed together.
pub fn wait_until(
    trouble: CertificateTrouble,
    failures: u32,
    retry_after: Option<Duration>,
    (urgent, seed): (bool, &str),
    now: Timestamp,
) -> Option<Timestamp> {
    let wait = WAITS.iter().find(|wait| wait.trouble == trouble)?;
    let doublings = failures.saturating_sub(1).min(16);
    let mut pause = wait.first.saturating_mul(1 << doublings).min(wait.longest);
    if urgent && matches!(trouble, CertificateTrouble::Server | CertificateTrouble::Local) {
        pause = pause.min(URGENT);
    }
    let digest = blake3::hash(format!("{seed}\0{failures}").as_bytes());
    let share = u32::from(digest.as_bytes()[0]);
    pause += pause / 4 * share / 256;
    let asked = retry_after.map(|asked| asked.min(LONGEST));
    let wait = asked.map_or(pause, |asked| {
        asked.max(match trouble {
            CertificateTrouble::RateLimited => Duration::from_secs(1),
            _ => pause,
        })
    });
    Some(whole(plus(now, wait)))
}

/// The instant within a window, by a number that stays the same for a certificate and a window.
pub fn choose(start: Timestamp, end: Timestamp, seed: &str) -> Timestamp {
    let digest = blake3::hash(seed.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    let span = Duration::try_from(end.duration_since(start)).unwrap_or(Duration::ZERO);
    let share = u64::from_le_bytes(first) % span.as_secs().saturating_add(1);
    whole(plus(start, Duration::from_secs(share))).min(end)
}

/// When a CA is asked again for its window: as it says, from a minute to a day; six hours where it says nothing.
pub fn ask_again(now: Timestamp, asked: Option<Duration>) -> Timestamp {
    let pause = asked.map_or(HOUR * 6, |asked| asked.clamp(Duration::from_secs(60), DAY));
    plus(now, pause)
}
