//! When a certificate is due, what is done about a failure, and what takes the place of one that can't be used. Pure: the
//! state and the time are arguments.

use std::time::Duration;

use genesis_storage::{
    BackoffRecord, CertificateOrigin, CertificateRecord, CertificateTrouble, DeployingRecord,
    GenerationRecord, OrderRecord,
};
use jiff::{SignedDuration, Timestamp};

use super::backoff;
use super::due::{SHORT, due, margin};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// A check that did not come is not waited for longer than that.
const OVERDUE: Duration = DAY;
/// CAs keep an order for a week.
const ORDER_LASTS: Duration = Duration::from_secs(6 * 86_400);
/// What was noted later than that from now was noted by a clock that was ahead.
const AHEAD: Duration = Duration::from_secs(300);
/// A self-signed certificate lives so long, and is made anew a day before its end.
pub const SELF_SIGNED_LIFE: Duration = Duration::from_secs(7 * 86_400);

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Later by so much.
pub fn plus(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(signed(duration)).unwrap_or(Timestamp::MAX)
}

/// Earlier by so much.
pub fn minus(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_sub(signed(duration)).unwrap_or(Timestamp::MIN)
}

/// How long a generation lives in all.
pub fn lifetime(generation: &GenerationRecord) -> Duration {
    let span = generation.not_after.duration_since(generation.not_before);
    Duration::try_from(span).unwrap_or(Duration::ZERO)
}

/// As people write a time.
fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Whether a generation is good in itself; else why not. What it is for is another matter: a name that was added to the
/// configuration makes the one in force no worse than it was.
///
/// # Errors
/// In words.
pub fn good(generation: &GenerationRecord, now: Timestamp) -> Result<(), String> {
    if let Some(at) = generation.compromised_at {
        return Err(format!("its key was said to be compromised at {}", whole_second(at)));
    }
    if let Some(at) = generation.revoked_at {
        return Err(format!("its CA has revoked it, as was seen at {}", whole_second(at)));
    }
    if generation.not_after <= now {
        return Err(format!("it ended at {}", generation.not_after));
    }
    if generation.not_before > plus(now, AHEAD) {
        return Err(format!("it begins at {}", generation.not_before));
    }
    Ok(())
}

/// Whether a generation may come into service; else why not.
///
/// # Errors
/// In words.
pub fn usable(
    generation: &GenerationRecord,
    identifiers: &[String],
    now: Timestamp,
) -> Result<(), String> {
    good(generation, now)?;
    match identifiers.iter().find(|wanted| !covers(&generation.identifiers, wanted)) {
        Some(missing) => Err(format!("it is not for {missing}")),
        None => Ok(()),
    }
}

/// Whether one of these names stands for `wanted`, itself or as a wildcard.
pub fn covers(names: &[String], wanted: &str) -> bool {
    names.iter().any(|name| {
        name == wanted
            || (!wanted.starts_with("*.")
                && name.strip_prefix("*.").is_some_and(|zone| {
                    wanted.split_once('.').is_some_and(|(_, above)| above == zone)
                }))
    })
}

/// What is asked about one certificate.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// What it is for.
    pub identifiers: &'a [String],
    /// See the configuration.
    pub renew_before: Duration,
    /// The CAs that may be asked, in their order.
    pub cas: &'a [String],
    /// How it stands.
    pub record: &'a CertificateRecord,
    /// Its generations, the newest first, without the one for need.
    pub generations: &'a [GenerationRecord],
    /// The one for need.
    pub backup: Option<&'a GenerationRecord>,
    /// What names its configuration.
    pub configuration: &'a str,
    /// Why the clock is not to be trusted; `None`: it is.
    pub clock: Option<&'a str>,
    /// Whether this is the daily check.
    pub checking: bool,
    /// Now.
    pub now: Timestamp,
}

impl<'a> Situation<'a> {
    /// The generation in force.
    pub fn current(&self) -> Option<&'a GenerationRecord> {
        self.generation(self.record.generation)
    }

    fn generation(&self, number: u32) -> Option<&'a GenerationRecord> {
        self.generations.iter().find(|it| it.number == number)
    }

    pub(super) fn is_usable(&self, generation: &GenerationRecord) -> bool {
        usable(generation, self.identifiers, self.now).is_ok()
    }

    /// The generation in force, where it came from somebody whom clients trust and may be in service.
    pub fn sound(&self) -> Option<&'a GenerationRecord> {
        self.current()
            .filter(|it| it.origin != CertificateOrigin::SelfSigned && good(it, self.now).is_ok())
    }

    /// The sound one, unless it is the one for need: that stands in for what is still to be had.
    pub(super) fn ordinary(&self) -> Option<&'a GenerationRecord> {
        self.sound().filter(|it| it.origin != CertificateOrigin::Backup)
    }

    /// The one that was issued, and that a crash or a failed hook kept from service.
    pub fn staged(&self) -> Option<&'a GenerationRecord> {
        let sound = self.ordinary();
        self.generations.iter().find(|it| {
            it.number > self.record.generation
                // An order that was placed first may have come last.
                && self.current().is_none_or(|current| it.created_at >= current.created_at)
                && it.origin != CertificateOrigin::SelfSigned
                && it.origin != CertificateOrigin::Backup
                && self.is_usable(it)
                // A CA's other profile may make it end sooner.
                && sound.is_none_or(|sound| it.not_before >= sound.not_before)
        })
    }

    /// What somebody who asks for it gets without an order: what is on its way into service, or was issued for it.
    pub fn waiting(&self) -> Option<&'a GenerationRecord> {
        let on_its_way = self.record.deploying.as_ref();
        let on_its_way = on_its_way.and_then(|it| self.generation(it.generation));
        on_its_way
            .filter(|it| self.is_usable(it))
            .or_else(|| self.staged().filter(|_| self.record.pin.is_none()))
    }

    /// The order that was placed with this CA for these names, and has not ended.
    pub fn open_order(&self, ca: &str) -> Option<&'a OrderRecord> {
        self.record.orders.iter().find(|order| {
            order.ca == ca
                && order.identifiers == self.identifiers
                && plus(order.at, ORDER_LASTS) > self.now
        })
    }

    /// Until when this CA wants no order, as it has said itself.
    pub fn asked_to_wait(&self, ca: &str) -> Option<Timestamp> {
        let waits = self.record.waits.iter().filter(|(name, _)| name == ca);
        let longest = plus(self.now, backoff::LONGEST + HOUR);
        waits.map(|(_, until)| *until).filter(|it| *it > self.now && *it <= longest).max()
    }

    /// Whether a failure was noted by a clock that was ahead: its times mean nothing.
    fn noted_ahead(&self, backoff: &BackoffRecord) -> bool {
        backoff.at > plus(self.now, AHEAD)
    }

    /// Whether the last failure holds the next attempt back, and until when (`None`: until the configuration is another).
    pub fn held(&self) -> Option<Option<Timestamp>> {
        let backoff = self.record.backoff.as_ref()?;
        if backoff.configuration != self.configuration {
            return None;
        }
        match backoff.until {
            Some(until) if until <= self.now || self.noted_ahead(backoff) => None,
            until => Some(until),
        }
    }

    /// Whether it is held back because a generation could not be brought into service.
    fn is_held_by_placing(&self) -> bool {
        self.record.backoff.as_ref().is_some_and(|it| it.placing) && self.held().is_some()
    }

    /// Of what the last attempt failed with, the CAs that are not to be asked yet, and until when.
    pub fn waits(&self) -> Vec<(String, Option<Timestamp>)> {
        let same = |it: &&BackoffRecord| it.configuration == self.configuration;
        let Some(backoff) = self.record.backoff.as_ref().filter(same) else { return Vec::new() };
        let ahead = self.noted_ahead(backoff);
        let waits = |until: Timestamp| until > self.now && !ahead;
        let waits = backoff.waits.iter().filter(|(_, until)| until.is_none_or(waits));
        waits.cloned().collect()
    }

    /// Whether there is one of the CAs that may be asked now which has not failed.
    fn has_another(&self) -> bool {
        use CertificateTrouble::{Clock, Local};
        let of_a_ca =
            |it: &BackoffRecord| !it.waits.is_empty() && !matches!(it.trouble, Clock | Local);
        let waits = self.waits();
        self.record.backoff.as_ref().is_some_and(of_a_ca)
            && self.cas.iter().take(cas(self)).any(|ca| waits.iter().all(|(name, _)| name != ca))
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Nothing,
    /// Put a generation into service that is on the disk.
    Deploy(u32),
    /// Put the one for need into service.
    DeployBackup,
    /// Make one ourselves, and put it into service.
    SelfSign,
    /// Go on with the order that was placed, or place one; the first so many CAs may be asked.
    Order {
        /// See there.
        cas: usize,
    },
}

/// What is to be done about a certificate now. Orders wait; what is in service does not: where the one in force may not be,
/// another takes its place first, and the order comes after.
pub fn decide(situation: &Situation<'_>) -> Decision {
    // With a wrong clock everything looks ended, or not begun. What is in service is what was right before.
    if situation.clock.is_some() {
        return Decision::Nothing;
    }
    let (record, now) = (situation.record, situation.now);
    let held = situation.held().is_some();
    // One that has ended on its way is waited for no more. What was cut off is gone on with at once, whatever a CA says:
    // link and copies may be of two generations.
    if let Some(deploying) = &record.deploying
        && situation.generation(deploying.generation).is_some_and(|it| situation.is_usable(it))
        && !has_had_its_turn(situation, deploying)
    {
        return match deploying.failed && situation.is_held_by_placing() {
            true => Decision::Nothing,
            false => Decision::Deploy(deploying.generation),
        };
    }
    let sound = situation.sound();
    // What could not be shown a moment ago can't be now: nobody is asked again and again to take it.
    if sound.is_none()
        && situation.is_held_by_placing()
        && situation.current().is_some_and(|it| good(it, now).is_ok())
    {
        return Decision::Nothing;
    }
    if sound.is_none()
        && let Some(decision) = in_place(situation)
    {
        return decision;
    }
    if sound.is_some() && record.pin.is_some() {
        return Decision::Nothing;
    }
    // That needs no CA.
    if let Some(staged) = situation.staged().filter(|_| !situation.is_held_by_placing()) {
        return Decision::Deploy(staged.number);
    }
    if held && !situation.has_another() {
        return Decision::Nothing;
    }
    if situation.cas.is_empty() {
        return Decision::Nothing;
    }
    let cas = cas(situation);
    if situation.cas.iter().take(cas).any(|ca| situation.open_order(ca).is_some()) {
        return Decision::Order { cas };
    }
    let due = due(situation);
    if due.at > now {
        return Decision::Nothing;
    }
    let waits_for_check =
        situation.ordinary().is_some_and(|it| lifetime(it) > SHORT && situation.is_usable(it))
            && !due.by_ca
            && record.backoff.is_none()
            && now < plus(due.at, OVERDUE);
    match waits_for_check && !situation.checking {
        true => Decision::Nothing,
        false => Decision::Order { cas },
    }
}

/// Whether an order has its turn before what is in place and could not be shown is tried again: it is due, and the last
/// attempt was at that. So a hook that fails for ever keeps no CA from being asked.
fn has_had_its_turn(situation: &Situation<'_>, deploying: &DeployingRecord) -> bool {
    let tried = situation.record.backoff.as_ref().is_some_and(|it| it.placing);
    let due = due(situation).at <= situation.now;
    deploying.failed && tried && due && !situation.cas.is_empty()
}

/// What takes the place of one that may not be in service: the newest other generation, the one for need, one that we make
/// ourselves. A service gets none later than that: an order is placed once something is in service.
fn in_place(situation: &Situation<'_>) -> Option<Decision> {
    let (record, now) = (situation.record, situation.now);
    let trusted = |it: &&GenerationRecord| {
        it.origin != CertificateOrigin::SelfSigned && situation.is_usable(it)
    };
    if let Some(other) = situation.generations.iter().find(trusted) {
        return Some(Decision::Deploy(other.number));
    }
    if situation.backup.is_some_and(|it| situation.is_usable(it)) {
        return Some(Decision::DeployBackup);
    }
    let lasts = |it: &&GenerationRecord| {
        it.origin == CertificateOrigin::SelfSigned
            && situation.is_usable(it)
            && plus(now, DAY) < it.not_after
    };
    match situation.current() {
        // The first order has its turn before a certificate is made that nobody trusts.
        None if record.backoff.is_none() && !situation.cas.is_empty() => None,
        // So has the one that replaces what is barred and has not ended: nobody trusts one of our own any more than that.
        Some(it)
            if it.origin != CertificateOrigin::SelfSigned
                && it.not_after > situation.now
                && record.backoff.is_none()
                && !situation.cas.is_empty() =>
        {
            None
        }
        Some(it) if lasts(&it) => None,
        // One that was made and did not come into service is as good as another.
        _ => Some(
            situation
                .generations
                .iter()
                .find(lasts)
                .map_or(Decision::SelfSign, |it| Decision::Deploy(it.number)),
        ),
    }
}

/// So many CAs may be asked, in their order: the first one alone until half of the time for a renewal has gone by.
fn cas(situation: &Situation<'_>) -> usize {
    let Some(sound) = situation.ordinary() else { return situation.cas.len() };
    let margin = margin(sound, situation.renew_before);
    let half = minus(sound.not_after, margin / 2);
    if situation.now >= half {
        return situation.cas.len();
    }
    // One that refuses for good has the next one asked in its place.
    let waits = situation.waits();
    let refuses = |ca: &&String| waits.iter().any(|(name, until)| name == *ca && until.is_none());
    let refusing = situation.cas.iter().take_while(refuses).count();
    situation.cas.len().min(refusing + 1)
}

/// The generations that may go: beyond `keep` of them, the oldest that are neither in force nor on their way.
pub fn surplus(
    record: &CertificateRecord,
    generations: &[GenerationRecord],
    keep: usize,
) -> Vec<u32> {
    let busy: Vec<u32> = [record.generation]
        .into_iter()
        .chain(record.deploying.iter().map(|it| it.generation))
        .chain(record.orders.iter().map(|order| order.generation))
        .collect();
    generations
        .iter()
        .skip(keep)
        .map(|it| it.number)
        .filter(|number| !busy.contains(number))
        .collect()
}
