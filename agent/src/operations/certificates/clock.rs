//! Whether the clock can be trusted. With a wrong one every certificate looks ended, or not begun, and an order would be
//! placed for nothing; so nothing is done until it is right again.

use std::time::Duration;

use genesis_storage::{CertificateOrigin, Moment};
use jiff::Timestamp;

use super::config::{Ca, Certificate};
use super::plan::plus;
use super::{Certificates, Standing, lock};
use crate::error::Result;
use crate::outside::acme::OUT_OF_TIME;

/// The clock of a CA and this one's may differ by so much.
const DIFFERENCE: Duration = Duration::from_secs(300);
/// While the clock is doubted, the CAs are asked again after that time.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// What a CA has said of the time counts for so long.
const HEARD: Duration = Duration::from_secs(6 * 3_600);

/// A CA is asked for the time so long.
const TIME: Duration = Duration::from_secs(10);
/// While a certificate in force begins in the future, a CA is to have confirmed the time no longer ago than that.
const CONFIRMED: Duration = Duration::from_secs(3_600);

/// What is known of the clock.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// When it was last looked at.
    last: Option<Moment>,
    /// By how much it was set since then and not back again, as the clock that counts from the boot tells; and when that was
    /// seen first.
    stepped: Option<(jiff::SignedDuration, Moment)>,
    /// What the clock of a CA said last that agreed with ours then: its time and ours.
    agreed: Option<(Timestamp, Moment)>,
    /// The same of one that contradicted since.
    contradicted: Option<(Timestamp, Moment)>,
    /// Why the clock is doubted although no CA has said what time it is, and since when.
    doubt: Option<(String, Moment)>,
    /// Whether the last look found that what a CA said contradicts.
    contradicts: bool,
    /// When CAs were asked last because of any of that.
    asked: Option<Moment>,
}

impl Trust {
    /// Looks at the clock; why it is not to be trusted, or `None`.
    pub(super) fn look(&mut self, now: &Moment) -> Option<String> {
        self.note_step(now);
        let off: Vec<_> = [&self.agreed, &self.contradicted]
            .into_iter()
            .filter_map(|heard| off(heard.as_ref()?, now))
            .collect();
        self.contradicts = false;
        if off.iter().any(|off| off.unsigned_abs() <= DIFFERENCE) {
            // A clock that was set right is right.
            (self.stepped, self.doubt) = (None, None);
            return None;
        }
        if let Some(off) = off.last() {
            self.contradicts = true;
            return Some(format!(
                "the clock is {} {} that of a CA",
                super::view::span(off.unsigned_abs()),
                if off.is_negative() { "behind" } else { "ahead of" }
            ));
        }
        // CAs are asked meanwhile. Where none answers for long, the clock is all there is.
        if let Some((step, at)) = &self.stepped
            && now.since(at) < HEARD
        {
            return Some(format!(
                "the clock was set {} by {}, and no CA has confirmed that yet",
                if step.is_negative() { "back" } else { "ahead" },
                super::view::span(step.unsigned_abs())
            ));
        }
        let (why, at) = self.doubt.as_ref()?;
        (now.since(at) < HEARD).then(|| why.clone())
    }

    fn note_step(&mut self, now: &Moment) {
        if let Some(last) = &self.last
            && last.boot == now.boot
            && !now.boot.is_empty()
        {
            let boot = jiff::SignedDuration::try_from(now.since(last)).unwrap_or_default();
            let step = now.wall.duration_since(last.wall).saturating_sub(boot);
            let before =
                self.stepped.as_ref().map_or(jiff::SignedDuration::ZERO, |(step, _)| *step);
            let sum = before.saturating_add(step);
            self.stepped = (sum.unsigned_abs() > DIFFERENCE)
                .then(|| (sum, self.stepped.take().map_or_else(|| now.clone(), |(_, at)| at)));
        }
        self.last = Some(now.clone());
    }

    /// A CA has said what time it is. One that agrees with our clock counts more than any that do not: two clocks that
    /// nobody sets together are seldom wrong by the same, and a CA whose own clock is wrong stops no other.
    pub(super) fn heard(&mut self, theirs: Timestamp, now: &Moment) {
        let heard = (theirs, now.clone());
        match off(&heard, now).is_some_and(|off| off.unsigned_abs() <= DIFFERENCE) {
            true => (self.agreed, self.contradicted) = (Some(heard), None),
            false => self.contradicted = Some(heard),
        }
    }

    /// The clock is doubted for a reason that no CA's clock gives. It counts for a while, from when it came up first.
    pub(super) fn doubt(&mut self, why: String, now: &Moment) {
        let since = self.doubt.take().map_or_else(|| now.clone(), |(_, since)| since);
        self.doubt = Some((why, since));
    }

    /// Whether a CA has confirmed the time no longer ago than that, and still does.
    pub(super) fn is_confirmed(&self, within: Duration, now: &Moment) -> bool {
        [&self.agreed, &self.contradicted].into_iter().flatten().any(|heard| {
            now.since(&heard.1) < within
                && off(heard, now).is_some_and(|off| off.unsigned_abs() <= DIFFERENCE)
        })
    }

    /// Whether CAs should be asked for the time now; then they count as asked. `future`: a certificate in force begins in
    /// the future.
    pub(super) fn is_to_be_asked(&mut self, now: &Moment, future: bool) -> bool {
        let wanted = self.stepped.is_some()
            || self.contradicts
            || self.doubt.is_some()
            || (future && !self.is_confirmed(CONFIRMED, now));
        if !wanted {
            self.asked = None;
            return false;
        }
        let due = self.asked.as_ref().is_none_or(|at| now.since(at) >= ASK_AGAIN);
        if due {
            self.asked = Some(now.clone());
        }
        due
    }
}

/// By how much our clock is ahead by now of what was heard; `None`: that was too long ago.
fn off((theirs, ours): &(Timestamp, Moment), now: &Moment) -> Option<jiff::SignedDuration> {
    let since = now.since(ours);
    // By now it is so late there.
    (since < HEARD && ours.boot == now.boot).then(|| now.wall.duration_since(plus(*theirs, since)))
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
        self.clock_trouble().or_else(|| {
            let begins = self.begins_in_future(standing)?;
            let now = self.moment();
            // A CA knows better than a certificate that somebody made when its clock was wrong.
            (!lock(&self.clock).is_confirmed(HEARD, &now)).then(|| {
                format!(
                    "the certificate in force begins at {begins}, and the clock says {:.0}",
                    now.wall
                )
            })
        })
    }

    /// When the certificate in force begins, if that is in the future. One that the agent signed itself says nothing: it
    /// has the time of the very clock that is asked about.
    fn begins_in_future(&self, standing: &Standing) -> Option<Timestamp> {
        let current = standing.current().filter(|it| it.origin != CertificateOrigin::SelfSigned)?;
        Some(current.not_before).filter(|begins| *begins > plus(self.now(), DIFFERENCE))
    }

    /// A clock that is doubted is compared with those of the CAs, all of them at once.
    pub(super) async fn confirm_the_time(&self) -> Result<()> {
        let config = self.config.load_full();
        let _ = self.clock_trouble();
        let mut future = false;
        for certificate in &config.certificates {
            future |= self.begins_in_future(&self.standing(&certificate.name)?).is_some();
        }
        if !lock(&self.clock).is_to_be_asked(&self.moment(), future) {
            return Ok(());
        }
        self.ask_cas(config.authorities.iter().collect()).await;
        Ok(())
    }

    /// Asks the CAs of a certificate what time it is, before another takes its place; why the clock is not to be trusted.
    /// Nobody's answer is no reason, but one: a CA whose own certificate looks out of its time. Then either its clock is
    /// wrong or ours, and where ours says that this certificate has ended, that is not believed.
    pub(super) async fn ask_the_time(&self, certificate: &Certificate) -> Option<String> {
        let config = self.config.load_full();
        let cas = certificate.cas.iter().filter_map(|name| config.ca(name)).collect();
        let doubt = self.ask_cas(cas).await;
        let ended = self.standing(&certificate.name).ok().is_some_and(|standing| {
            standing.current().is_some_and(|it| it.not_after <= self.now())
        });
        if let Some(why) = doubt.filter(|_| ended) {
            lock(&self.clock).doubt(why, &self.moment());
        }
        self.clock_trouble()
    }

    /// Asks CAs what time it is, all of them at once; where none said it and the TLS certificate of one looks out of its
    /// time, that.
    async fn ask_cas(&self, cas: Vec<&Ca>) -> Option<String> {
        let asked = cas.into_iter().map(|ca| async move {
            let asked = self.outside.acme.directory(&ca.authority);
            (&ca.authority.name, tokio::time::timeout(TIME, asked).await)
        });
        let (mut doubt, mut said) = (None, false);
        for (name, answer) in futures_util::future::join_all(asked).await {
            let date = match answer {
                Ok(Ok(directory)) => directory.date,
                Ok(Err(trouble)) => {
                    if trouble.kind == OUT_OF_TIME {
                        doubt = Some(format!(
                            "by this clock the TLS certificate of {name} itself has ended or is still to begin, so one of \
                             the two is wrong"
                        ));
                    }
                    trouble.date
                }
                Err(_) => None,
            };
            said |= date.is_some();
            let _ = self.heard(date);
        }
        doubt.filter(|_| !said)
    }
}
