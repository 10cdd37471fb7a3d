//! What a host has to do so that it has of experiments and parameters what its fleet has, and how the hosts' tallies are put
//! together. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use genesis_stats::experiment::Moments;
use genesis_storage::{ExperimentRecord, FleetVersion, ParameterRecord};
use jiff::{SignedDuration, Timestamp};

use super::super::plan as local;
use super::super::tally::{Counts, Tally, identity};
use super::record::{Defined, FleetParameter, Share};
use crate::bits::bits_of;

/// Hosts tell what they have tallied at most so often.
pub const PACE: Duration = Duration::from_secs(2);
/// And all hosts together at most so often a second.
const TELLS: u64 = 1_000;
/// So many experiments of the fleet that have ended are kept there.
pub const HISTORY: usize = 50;
/// So many shares are shown one by one.
pub const SHOWN: usize = 200;
/// The owner of an experiment that the fleet decides begins so.
const OWNER: &str = "fleet:";

/// The id of an experiment of the fleet.
pub fn id(number: u64) -> String {
    format!("FLEET_{number}")
}

/// The number of such an id.
pub fn number(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("FLEET_")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Who a record says takes the looks, where that is whoever holds the fleet's lock.
pub fn owner(number: u64) -> String {
    format!("{OWNER}{}", id(number))
}

/// Whether an owner is the fleet's, which nobody may ask for.
pub fn is_owner(text: &str) -> bool {
    text.starts_with(OWNER)
}

/// The lock of whoever takes the looks.
pub fn lock(number: u64) -> String {
    format!("experiments/{}", id(number))
}

/// What a host has to do about an experiment of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// Begin it.
    Begin,
    /// End it as the fleet did.
    End,
    /// Tell the fleet that it has ended: its record was put back to before that.
    Tell,
}

/// What has to be done about one. `record`: what this host has of it, if it is the same one.
pub fn due(defined: &Defined, record: Option<&ExperimentRecord>) -> Due {
    let ended = record.and_then(|record| record.conclusion.as_ref());
    match (record, ended, &defined.conclusion) {
        (None, _, None) => Due::Begin,
        // What was promoted meanwhile comes as a parameter.
        (None, _, Some(_)) => Due::Nothing,
        (Some(_), None, Some(_)) => Due::End,
        // One that was ended on this host alone goes on elsewhere.
        (Some(_), Some(ended), None) if ended.fleet.is_some() => Due::Tell,
        (Some(_), _, _) => Due::Nothing,
    }
}

/// Whether an experiment that goes on here is the fleet's and the fleet does not know it, although all that it knows is known:
/// nobody looks whether its variant does harm.
pub fn forsaken(record: &ExperimentRecord, fleet: &[std::sync::Arc<Defined>]) -> bool {
    !record.fleet.is_empty()
        && record.conclusion.is_none()
        && !fleet.iter().any(|defined| defined.is(record))
}

/// When a version is told to have been set: after the one before it, whatever the clocks of their hosts say, so that versions
/// can be compared by it.
pub fn after(before: Option<Timestamp>, now: Timestamp) -> Timestamp {
    let least = before.and_then(|it| it.checked_add(SignedDuration::from_millis(1)).ok());
    least.map_or(now, |least| now.max(least))
}

/// Whether a host has to take the fleet's value over: once for each version, also of a fleet whose count began anew. Of two of
/// one number the fleet has the one that counts: it was set where the other had been forgotten.
pub fn takes_over(parameter: &FleetParameter, record: Option<&ParameterRecord>) -> bool {
    let taken = record.and_then(|record| record.fleet);
    taken.is_none_or(|taken| {
        let other = parameter.version == taken.version && parameter.at != taken.at;
        other || parameter.version > taken.version || parameter.at > taken.at
    })
}

/// Whether the fleet has forgotten what it had when a host took this version over: one that came before it is in its place, as
/// where etcd was put back.
pub fn forgot(parameter: &FleetParameter, taken: FleetVersion) -> bool {
    parameter.version < taken.version && parameter.at <= taken.at
}

/// An experiment of the fleet as this host would begin it, under no number yet, or why it can't. `running`: what goes on here.
///
/// # Errors
/// In words.
pub fn begin<'a>(
    defined: &Defined,
    parameters: &BTreeMap<(String, String), ParameterRecord>,
    running: impl Iterator<Item = &'a ExperimentRecord>,
    most: usize,
) -> Result<ExperimentRecord, String> {
    if let Some(fault) = defined.fault() {
        return Err(fault);
    }
    let running: Vec<&ExperimentRecord> = running.collect();
    if running.len() >= most {
        return Err(format!("{most} experiments go on here already (max_running)"));
    }
    let mut record = defined.record();
    for trial in &mut record.trials {
        let key = (defined.strategy.clone(), trial.name.clone());
        let Some(current) = parameters.get(&key) else {
            return Err(format!("{} has no parameter {} here", defined.strategy, trial.name));
        };
        if current.value != trial.control {
            return Err(format!(
                "{} of {} is {:?} here and not {:?}",
                trial.name, defined.strategy, current.value, trial.control
            ));
        }
        let tries = |it: &&&ExperimentRecord| {
            it.strategy == defined.strategy && it.trials.iter().any(|one| one.name == trial.name)
        };
        if let Some(other) = running.iter().find(tries) {
            return Err(format!(
                "{} of {} is in {} here",
                trial.name,
                defined.strategy,
                local::id(other.number)
            ));
        }
        trial.control_version = current.version;
    }
    Ok(record)
}

/// How often each host tells what it has tallied, where so many do.
pub fn pace(hosts: usize) -> Duration {
    let seconds = (hosts as u64).div_ceil(TELLS);
    PACE.max(Duration::from_secs(seconds))
}

/// What all hosts have tallied together, with what the looks at it have shown so far. Shares are added in the order in which
/// they come, which has to be that of the hosts' identities: then whoever adds them finds the same bits.
///
/// # Errors
/// What is wrong with it.
pub fn together<'a>(
    record: &ExperimentRecord,
    before: Option<Tally>,
    shares: impl IntoIterator<Item = &'a Share>,
) -> Result<(Tally, u64), String> {
    let of = identity(record);
    let (mut arms, mut counts, mut hosts) = ([Moments::new(); 2], Counts::default(), 0);
    let (mut last_trade, mut units) = (None, Some([0_u64; 2]));
    for share in shares {
        // One of another experiment that had its number does not count, nor what no trades have.
        let Some(more) = share.moments().filter(|_| share.of == of && !share.local.is_empty())
        else {
            continue;
        };
        hosts += 1;
        arms.iter_mut().zip(&more).for_each(|(sum, more)| sum.merge(more));
        counts.duplicate = counts.duplicate.saturating_add(share.counts.duplicate);
        counts.late = counts.late.saturating_add(share.counts.late);
        counts.rejected = counts.rejected.saturating_add(share.counts.rejected);
        counts.after_end = counts.after_end.saturating_add(share.counts.after_end);
        last_trade = last_trade.max(share.last_trade);
        units = units
            .zip(share.units)
            .map(|(sum, more)| [sum[0].saturating_add(more[0]), sum[1].saturating_add(more[1])]);
    }
    let before = match before {
        Some(before) => before,
        None => Tally::new(record)?,
    };
    let mut tally = before.with(record, arms, units)?;
    (tally.counts, tally.last_trade) = (counts, last_trade);
    Ok((tally, hosts))
}

/// Whether something came in that counts since a look was taken.
pub fn news(now: &Tally, before: &Tally) -> bool {
    use super::super::tally::Arm;

    let of = |tally: &Tally| {
        let arms = [Arm::Control, Arm::Variant].map(|arm| bits_of(tally.trial.moments(arm)));
        (arms, tally.units())
    };
    of(now) != of(before)
}

/// Those that ended before the last so many did.
pub fn forgotten(fleet: &[std::sync::Arc<Defined>]) -> Vec<u64> {
    let ended = fleet.iter().filter_map(|it| Some((it.conclusion.as_ref()?.at, it.number)));
    let mut ended: Vec<_> = ended.collect();
    ended.sort_unstable_by(|one, other| other.cmp(one));
    ended.drain(..HISTORY.min(ended.len()));
    ended.into_iter().map(|(_, number)| number).collect()
}
