//! The drill of an emergency: declared, halted, closed, proven and released, by the code of the real one, with a flag, a
//! record and a trading system of its own. The host's emergency, its record and its trading system are not touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use genesis_storage::{CoursePhase, DrillOutcome, DrillRecord};
use jiff::{SignedDuration, Timestamp};

use super::super::config::Config;
use super::super::course::{Course, Live};
use crate::emergency::Emergency;
use crate::error::{Error, Result, Unmet};
use crate::events::Bell;
use crate::outside::Outside;
use crate::outside::control::{Means, same_place};
use crate::paper::Practice;
use crate::plan::PlanStep;
use crate::runs::Context;
use crate::runs::drill::{Rehearsal, Rehearsed, end, scratch_state};
use crate::state::State;

/// So long the sandbox has to halt, and to go on.
const HALT: Duration = Duration::from_secs(30);
/// An emergency is to be durable after that time.
const DURABLE: Duration = Duration::from_millis(100);
/// An emergency that is practised is declared within that time of the drill's begin.
const DECLARED: SignedDuration = SignedDuration::from_mins(1);
const BY: &str = "drill";
const KIND: &str = "emergency";
/// A drill of an emergency has been in the folder where this file is.
const OWN: &str = "emergency-drill";
const CUT_OFF: &str = "the drill was cut off";

/// Practises an emergency.
pub struct EmergencyDrill {
    /// What is known of the drills before.
    state: State,
    outside: Outside,
    config: Config,
    /// Drills have a folder of their own below it.
    home: PathBuf,
}

impl EmergencyDrill {
    /// One for this host.
    pub fn new(state: State, outside: Outside, mut config: Config, home: PathBuf) -> Self {
        // On a host for practice the sandbox is what emergencies themselves go to: it keeps to their numbers.
        config.sandbox = config.sandbox.filter(|_| !config.staging);
        Self { state, outside, config, home }
    }

    /// A number that no drill before was above.
    fn last_number(&self) -> Result<u64> {
        let before = self.state.read(|it| Ok(it.drills().list(KIND, usize::MAX)?))?;
        Ok(last_number(&before))
    }

    /// Refuses a sandbox that leads to the real trading system, by whatever name.
    async fn spares_control(&self) -> Result<()> {
        let (Some(control), Some(sandbox)) = (&self.config.control, &self.config.sandbox) else {
            return Ok(());
        };
        if !same_place(control, sandbox).await {
            return Ok(());
        }
        let message = "[trading] sandbox leads to the same place as control: a drill would close real positions; name \
                       another one, or none for the paper venue within the agent";
        let unmet = Unmet {
            code: "SANDBOX_IS_CONTROL",
            subject: "[trading] sandbox".to_owned(),
            message: message.to_owned(),
        };
        Err(Error::refused("SANDBOX_IS_CONTROL", message, vec![unmet]))
    }

    /// An emergency of its own: its state, its flag, its course against `means`.
    async fn stage(&self, folder: &Path, means: Means) -> Result<Stage> {
        tokio::fs::write(folder.join(OWN), b"").await.map_err(|error| {
            Error::unavailable("DRILL_FAILED", "the drill's folder can't be written")
                .caused_by(error)
        })?;
        let state = scratch_state(folder).await?;
        let clock = Arc::clone(&self.outside.clock);
        let flag = Emergency::open(state.clone(), clock, folder.join("EMERGENCY")).await?;
        let flag = flag.numbered_after(self.last_number()?);
        let config = Config {
            control: Some(means),
            venues: Vec::new(),
            lease: None,
            approvals: 1,
            ..self.config.clone()
        };
        let file = folder.join("EMERGENCY-CLOSE");
        let course = Course::open(
            state,
            self.outside.clone(),
            config,
            flag.clone(),
            (Bell::default(), file),
        )?;
        let serving = tokio::spawn(Arc::clone(&course).serve());
        Ok(Stage { flag, course, serving })
    }
}

/// What is practised on.
struct Stage {
    flag: Emergency,
    course: Arc<Course>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stage {
    /// Waits until `over` holds, for so long; how it stands then.
    async fn until(&self, limit: Duration, over: impl Fn(&Live) -> bool) -> Live {
        let mut live = self.course.follow_live();
        // Who can't wait any longer looks at how it is.
        let _ = tokio::time::timeout(limit, live.wait_for(|live| over(live))).await;
        self.course.live()
    }

    /// As [`Stage::until`], unless the run is to stop.
    async fn unless_cancelled(
        &self,
        context: &Context,
        limit: Duration,
        over: impl Fn(&Live) -> bool,
    ) -> Result<Live> {
        tokio::select! {
            live = self.until(limit, over) => Ok(live),
            () = context.cancelled() => Err(Error::cancelled()),
        }
    }

    /// Has the trading system go on, whatever it was in the middle of; why it does not.
    async fn let_go(&self, reason: &str) -> Result<(), String> {
        if self.flag.active() {
            // Only who was told to halt is told to go on, and whether it was is known once it is told again.
            self.until(HALT, |live| live.record.told).await;
            self.flag.release(BY, reason, "").await.map_err(|error| error.chain())?;
        }
        let live = self.until(HALT, |live| live.record.resumed_at.is_some()).await;
        match live.record.resumed_at {
            Some(_) => Ok(()),
            None => Err(format!("it has not gone on: {}", live.resume_trouble)),
        }
    }
}

#[async_trait]
impl Rehearsal for EmergencyDrill {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn description(&self) -> &'static str {
        "declare, halt, cancel, close, prove and release, against a sandbox"
    }

    async fn has(&self, name: &str) -> Result<(), String> {
        match name {
            "" => Ok(()),
            name => Err(format!("the drill is called \"emergency\", without {name:?}")),
        }
    }

    async fn plan(&self, _: &str) -> Result<Vec<PlanStep>> {
        let where_to = match &self.config.sandbox {
            Some(means) => shown(means),
            None => "a paper venue within the agent".to_owned(),
        };
        let step = |action: &str, why: &str| PlanStep::new(action, where_to.as_str(), why);
        Ok(vec![
            step("declare", "with a flag and a record of the drill's own"),
            step("halt", "no order leaves any more"),
            step("close", "every position, by orders that only reduce"),
            step("prove", "seen empty twice, 2 s apart"),
            step("release", "orders leave again"),
        ])
    }

    async fn rehearse(&self, _: &str, context: &Context) -> Result<Rehearsed> {
        self.spares_control().await?;
        let folder = super::folder(self.home.clone()).await?;
        let clock = &self.outside.clock;
        let practice = match &self.config.sandbox {
            Some(_) => None,
            None => Some(Practice::start(folder.path(), Arc::clone(clock)).await?),
        };
        let means = match (&self.config.sandbox, &practice) {
            (Some(means), _) => means.clone(),
            (None, practice) => Means::Grpc {
                target: practice.as_ref().map(|it| it.target().to_owned()).unwrap_or_default(),
                ca: None,
                timeout: Duration::from_secs(5),
            },
        };
        let stage = self.stage(folder.path(), means).await?;
        let rehearsed = self.go_through(&stage, practice.as_ref(), context).await;
        // A sandbox that others use as well does not stay halted, whatever kept this from being ended.
        let held = match (&rehearsed, &practice) {
            (_, Some(_)) => false,
            (Ok(_), None) => stage.course.live().record.resumed_at.is_none(),
            (Err(_), None) if stage.flag.current().is_none() => false,
            (Err(_), None) => stage.let_go(CUT_OFF).await.is_err(),
        };
        drop(stage);
        if held {
            // By what is kept here the next start gives it back, unless the next drill does.
            let kept = folder.keep();
            tracing::warn!(folder = %kept.display(), "the drill has left the sandbox halted");
        }
        rehearsed
    }

    async fn holds(&self, folder: &Path) -> Option<String> {
        let sandbox = self.config.sandbox.as_ref()?;
        let is_held = async {
            let flag = folder.join("EMERGENCY");
            // Other drills have a state there too, but no course of an emergency.
            let own = flag.exists() || folder.join(OWN).exists();
            if !own {
                return Ok::<_, Error>(false);
            }
            let state = scratch_state(folder).await?;
            let flag =
                Emergency::open(state.clone(), Arc::clone(&self.outside.clock), flag).await?;
            let course = state.read(|reading| Ok(reading.course().get()?))?.unwrap_or_default();
            Ok(match flag.current() {
                None => false,
                Some(record) if record.active() => true,
                Some(record) => {
                    course.epoch == record.epoch && course.told && course.resumed_at.is_none()
                }
            })
        };
        match is_held.await {
            Ok(false) => None,
            // What can't be told may be so.
            Ok(true) | Err(_) => Some(shown(sandbox)),
        }
    }

    async fn give_back(&self, folder: &Path) -> Result<String> {
        self.spares_control().await?;
        let Some(sandbox) = &self.config.sandbox else {
            return Ok("no sandbox is configured any more".to_owned());
        };
        let stage = self.stage(folder, sandbox.clone()).await?;
        match stage.let_go(CUT_OFF).await {
            Ok(()) => Ok("orders leave again".to_owned()),
            Err(why) => Err(Error::unavailable("DRILL_FAILED", why)),
        }
    }
}

/// A number that none of these drills was above. The sandbox takes no lower one, and what a clock says it may have said before it
/// was set back, or went so slowly that a number was counted on from the one before. Pure.
fn last_number(before: &[DrillRecord]) -> u64 {
    let latest = before.iter().map(|drill| drill.started_at.max(drill.ended_at)).max();
    let counted = u64::try_from(before.len()).unwrap_or(u64::MAX);
    // It is numbered a moment after it began, which may lie in the next minute, and may not have lived to its end.
    let declared = |latest: Timestamp| latest.checked_add(DECLARED).unwrap_or(latest);
    latest.map_or(0, |latest| Emergency::number(declared(latest)).saturating_add(counted))
}

/// What deviates of an emergency that was durable after so long. It is in force from its first moment; a slow disk is for
/// people to know.
fn slow(took: Duration) -> Option<String> {
    let (took_ms, wanted) = (took.as_millis(), DURABLE.as_millis());
    (took > DURABLE).then(|| format!("durable after {took_ms} ms: {wanted} ms are wanted"))
}

/// Where a sandbox is.
fn shown(means: &Means) -> String {
    match means {
        Means::Grpc { target, .. } => target.clone(),
        Means::Command(hook) => hook.command.join(" "),
    }
}

impl EmergencyDrill {
    /// The course of an emergency, from its beginning to its end.
    async fn go_through(
        &self,
        stage: &Stage,
        practice: Option<&Practice>,
        context: &Context,
    ) -> Result<Rehearsed> {
        let clock = &self.outside.clock;
        let mut done = Rehearsed::default();
        let outcome = |well: bool| if well { DrillOutcome::Passed } else { DrillOutcome::Failed };

        let step = context.begin("declare", "emergency").await?;
        let began = clock.monotonic();
        let (record, _) = stage.flag.activate(BY, "a drill", "").await?;
        let took = clock.monotonic().saturating_sub(began);
        let said = format!("durable after {} ms", took.as_millis());
        step.done(said.clone()).await?;
        done.step("declare", took, DrillOutcome::Passed, said);
        done.deviations.extend(slow(took));

        context.safe_point()?;
        let step = context.begin("halt", "the sandbox").await?;
        let began = clock.monotonic();
        let live =
            stage.unless_cancelled(context, HALT, |live| live.record.halted_at.is_some()).await?;
        let took = clock.monotonic().saturating_sub(began);
        let halted = live.record.halted_at.is_some();
        let said = match halted {
            true => "no order leaves any more".to_owned(),
            false => format!("it has not halted: {}", live.halt_trouble),
        };
        end(step, outcome(halted), &said).await?;
        done.step("halt", took, outcome(halted), said);

        context.safe_point()?;
        let step = context.begin("close", "every position").await?;
        let began = clock.monotonic();
        stage.course.ask_to_close(record.epoch, BY, "a drill").await?;
        let limit = self.config.close_within + HALT;
        let ended = |live: &Live| {
            live.record.closing.as_ref().is_some_and(|closing| closing.ended_at.is_some())
        };
        let live = stage.unless_cancelled(context, limit, ended).await?;
        let took = clock.monotonic().saturating_sub(began);
        let flat = live.record.phase == CoursePhase::Flat;
        let orders: usize = live.record.venues.values().map(|venue| venue.orders.len()).sum();
        let said = match flat {
            true => format!("FLAT: {} venues, {orders} orders", live.record.venues.len()),
            false => {
                let mut why: Vec<String> = live
                    .record
                    .venues
                    .iter()
                    .filter(|(_, venue)| !venue.why.is_empty())
                    .map(|(name, venue)| format!("{name}: {}", venue.why))
                    .collect();
                why.extend((!live.record.trouble.is_empty()).then(|| live.record.trouble.clone()));
                format!("FLAT_UNPROVEN: {}", why.join("; "))
            }
        };
        end(step, outcome(flat), &said).await?;
        done.step("close", took, outcome(flat), said);
        if flat && orders == 0 {
            done.deviations.push("the sandbox had no position: nothing was closed".to_owned());
        }
        if let Some(practice) = practice {
            let (seen, said) = match practice.left().await {
                Ok(left) if left.is_empty() => {
                    (DrillOutcome::Passed, "the venue's own book is empty".to_owned())
                }
                Ok(left) => {
                    (DrillOutcome::Failed, format!("the venue's own book has {}", left.join(", ")))
                }
                Err(why) => (DrillOutcome::Unknown, why),
            };
            done.step("witness", Duration::ZERO, seen, said);
        }

        let step = context.begin("release", "the sandbox").await?;
        let began = clock.monotonic();
        stage.flag.release(BY, "the drill is over", "").await?;
        let live =
            stage.unless_cancelled(context, HALT, |live| live.record.resumed_at.is_some()).await?;
        let took = clock.monotonic().saturating_sub(began);
        let resumed = live.record.resumed_at.is_some();
        let said = match resumed {
            true => "orders leave again".to_owned(),
            false => format!("it has not gone on: {}", live.resume_trouble),
        };
        end(step, outcome(resumed), &said).await?;
        done.step("release", took, outcome(resumed), said);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emergency_that_is_durable_late_is_told() {
        for (ms, told) in [(0, false), (100, false), (101, true)] {
            let said = slow(Duration::from_millis(ms));
            assert_eq!(said.is_some(), told, "{ms}");
            assert!(said.is_none_or(|said| said == "durable after 101 ms: 100 ms are wanted"));
        }
    }
    #[test]
    fn drills_are_numbered_after_all_that_those_before_may_have_used() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let drill = |started: &str, ended: &str| DrillRecord {
            id: String::new(),
            drill: KIND.to_owned(),
            started_at: at(started),
            ended_at: at(ended),
            outcome: DrillOutcome::Failed,
            rto_ms: None,
            rpo_ms: None,
            steps: Vec::new(),
            deviations: Vec::new(),
            by: String::new(),
            reason: String::new(),
        };
        assert_eq!(last_number(&[]), 0);
        // It began in one minute and declared in the next, and its clock was set back before it ended.
        let cut_off = drill("2026-11-29T11:59:59.6Z", "2026-11-29T11:30:00Z");
        assert!(last_number(std::slice::from_ref(&cut_off)) >= 20_261_129_120_000);
        // Of several the latest counts, and that each may have counted on from the one before.
        let later = drill("2026-11-29T12:10:00Z", "2026-11-29T12:11:00Z");
        assert_eq!(last_number(&[later, cut_off]), 20_261_129_121_202);
    }
}
