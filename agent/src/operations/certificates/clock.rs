//! Whether the clock can be trusted. With a wrong one every certificate looks ended, or not begun, and an order would be
//! placed for nothing; so nothing is done until it is right again.

use std::time::Duration;

use genesis_storage::Moment;
use jiff::Timestamp;

use super::plan::plus;
use super::{Certificates, Standing, lock};

/// The clock of a CA and this one's may differ by so much.
const DIFFERENCE: Duration = Duration::from_secs(300);
/// While the clock is doubted, a CA is asked again after that time.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// What a CA has said of the time counts for so long.
const HEARD: Duration = Duration::from_secs(6 * 3_600);

/// What is known of the clock.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// When it was last looked at.
    last: Option<Moment>,
    /// By how much it was set since then and not back again, as the clock that counts from the boot tells; and when that was
    /// seen first.
    stepped: Option<(jiff::SignedDuration, Moment)>,
    /// What a CA's clock said last: its time and ours.
    heard: Option<(Timestamp, Moment)>,
    /// When a CA was asked last because of the step.
    asked: Option<Moment>,
}

impl Trust {
    /// Looks at the clock; why it is not to be trusted, or `None`.
    pub(super) fn look(&mut self, now: &Moment) -> Option<String> {
        if let Some(last) = &self.last
            && last.boot == now.boot
            && !now.boot.is_empty()
        {
            let boot = jiff::SignedDuration::try_from(now.since(last)).unwrap_or_default();
            let step = now.wall.duration_since(last.wall).saturating_sub(boot);
            let before =
                self.stepped.as_ref().map_or(jiff::SignedDuration::ZERO, |(step, _)| *step);
            let sum = before.saturating_add(step);
            if self.stepped.is_none() {
                self.asked = None;
            }
            self.stepped = (sum.unsigned_abs() > DIFFERENCE)
                .then(|| (sum, self.stepped.take().map_or_else(|| now.clone(), |(_, at)| at)));
        }
        self.last = Some(now.clone());
        if let Some((theirs, ours)) = &self.heard
            && now.since(ours) < HEARD
            && ours.boot == now.boot
        {
            // By now it is so late there.
            let theirs = plus(*theirs, now.since(ours));
            let off = now.wall.duration_since(theirs);
            if off.unsigned_abs() <= DIFFERENCE {
                // A clock that was set right is right.
                self.stepped = None;
                return None;
            }
            return Some(format!(
                "the clock is {} {} that of a CA",
                super::view::span(off.unsigned_abs()),
                if off.is_negative() { "behind" } else { "ahead of" }
            ));
        }
        let (step, at) = self.stepped.as_ref()?;
        // A CA is asked meanwhile. Where none answers for long, the clock is all there is.
        (now.since(at) < HEARD).then(|| {
            format!(
                "the clock was set {} by {}, and no CA has confirmed that yet",
                if step.is_negative() { "back" } else { "ahead" },
                super::view::span(step.unsigned_abs())
            )
        })
    }

    /// A CA has said what time it is.
    pub(super) fn heard(&mut self, theirs: Timestamp, now: &Moment) {
        self.heard = Some((theirs, now.clone()));
    }

    /// Whether a CA should be asked for the time now; then it counts as asked.
    pub(super) fn is_to_be_asked(&mut self, now: &Moment) -> bool {
        let due = self.stepped.is_some()
            && self.asked.as_ref().is_none_or(|at| now.since(at) >= ASK_AGAIN);
        if due {
            self.asked = Some(now.clone());
        }
        due
    }
}

impl Certificates {
    /// Why the clock is not to be trusted; `None`: it is.
    pub(super) fn clock_trouble(&self) -> Option<String> {
        lock(&self.clock).look(&self.moment())
    }

    /// A CA has said what time it is; why ours is not to be trusted, or `None`.
    pub(super) fn heard(&self, date: Option<Timestamp>) -> Option<String> {
        let now = self.moment();
        let mut trust = lock(&self.clock);
        if let Some(date) = date {
            trust.heard(date, &now);
        }
        trust.look(&now)
    }

    /// Why the clock is not to be trusted, as this certificate shows it too: one in force that begins in the future is of
    /// another time.
    pub(super) fn clock_for(&self, standing: &Standing) -> Option<String> {
        let now = self.now();
        self.clock_trouble().or_else(|| {
            let begins = standing.current()?.not_before;
            (begins > plus(now, DIFFERENCE)).then(|| {
                format!("the certificate in force begins at {begins}, and the clock says {now}")
            })
        })
    }
}
