//! Experiments and parameters, as the contract tells them.

use genesis_proto::v1;
use genesis_stats::experiment::{
    self, ArmSummary, Design, Lift, Look, Moments, NoLift, Reasons, Stage, Verdict,
};
use genesis_storage::{ExperimentRecord, ParameterRecord};
use jiff::Timestamp;

use super::super::fleet::plan::{self as fleet_plan, SHOWN};
use super::super::fleet::record::FleetParameter;
use super::super::fleet::view::{FleetDetails, FleetView, HostShare};
use super::super::plan::{self, Use};
use super::super::tally::{Arm, Point};
use super::super::verbs::{State, View};
use crate::server::convert::{maybe, time};

pub(super) fn arm(arm: Arm) -> v1::Arm {
    match arm {
        Arm::Control => v1::Arm::Control,
        Arm::Variant => v1::Arm::Variant,
    }
}

fn design(name: &str) -> v1::ExperimentDesign {
    match Design::named(name) {
        Some(Design::Sequential) => v1::ExperimentDesign::Sequential,
        Some(Design::Fixed) => v1::ExperimentDesign::Fixed,
        Some(Design::LanDemets) => v1::ExperimentDesign::LanDemets,
        Some(Design::AlwaysValid) => v1::ExperimentDesign::AlwaysValid,
        None => v1::ExperimentDesign::Unspecified,
    }
}

/// The name of a design; `None`: there is none of that number. What is not said is the usual one.
pub(super) fn design_name(design: i32) -> Option<&'static str> {
    Some(match v1::ExperimentDesign::try_from(design).ok()? {
        v1::ExperimentDesign::Unspecified | v1::ExperimentDesign::Sequential => {
            Design::Sequential.name()
        }
        v1::ExperimentDesign::Fixed => Design::Fixed.name(),
        v1::ExperimentDesign::LanDemets => Design::LanDemets.name(),
        v1::ExperimentDesign::AlwaysValid => Design::AlwaysValid.name(),
    })
}

fn definition(record: &ExperimentRecord) -> v1::ExperimentDefinition {
    let rules = &record.rules;
    v1::ExperimentDefinition {
        strategy: record.strategy.clone(),
        parameters: record
            .trials
            .iter()
            .map(|trial| v1::ParameterTrial {
                name: trial.name.clone(),
                control: trial.control.clone(),
                control_version: trial.control_version,
                variant: trial.variant.clone(),
            })
            .collect(),
        variant_basis_points: record.variant_basis_points,
        design: design(&record.design).into(),
        rules: Some(v1::ExperimentRules {
            least_trades: rules.least,
            planned_trades: rules.planned,
            most_trades: rules.most,
            promote_lift: rules.promote_lift,
            rollback_lift: rules.rollback_lift,
            least_effect: rules.least_effect,
            alpha: rules.alpha,
            guarded_rollback: rules.guarded,
        }),
        seed: record.seed.clone(),
        owner: record.owner.clone(),
        hash: record.hash.clone(),
    }
}

fn tally(moments: &Moments, summary: &ArmSummary) -> v1::ArmTally {
    let parts = moments.parts();
    v1::ArmTally {
        n: parts.n,
        origin: parts.origin,
        mean_less_origin: parts.mean,
        m2: parts.m2,
        m3: parts.m3,
        mean: summary.mean,
        deviation: summary.sd,
        mean_low: summary.interval.map(|(low, _)| low),
        mean_high: summary.interval.map(|(_, high)| high),
    }
}

fn conditions(reasons: &Reasons) -> Vec<v1::RuleCondition> {
    let each = reasons.iter();
    each.map(|reason| v1::RuleCondition { text: reason.to_string(), holds: reason.holds }).collect()
}

fn look(look: &Look, at: Option<i64>, false_rollback: Option<f64>) -> v1::ExperimentLook {
    let (lift, interval, undefined) = match look.lift {
        Lift::Defined { value, interval } => (Some(value), interval, ""),
        Lift::Undefined(NoLift::TooFew) => (None, None, "an arm has fewer than two trades"),
        Lift::Undefined(NoLift::ControlMayBeZero) => {
            (None, None, "the control's mean may be zero, and a share of it says nothing")
        }
        Lift::Undefined(NoLift::NotFinite) => (None, None, "the control's mean is too small"),
    };
    let compared = look.comparison;
    let row = look.decision.row;
    v1::ExperimentLook {
        at: maybe(at.and_then(|at| Timestamp::from_millisecond(at).ok())),
        lift,
        lift_low: interval.map(|(low, _)| low),
        lift_high: interval.map(|(_, high)| high),
        lift_undefined: undefined.to_owned(),
        difference: compared.map(|it| it.difference),
        difference_low: look.difference_interval.map(|(low, _)| low),
        difference_high: look.difference_interval.map(|(_, high)| high),
        t: compared.map(|it| it.t),
        nu: compared.map(|it| it.nu),
        p: compared.map(|it| it.p),
        d: compared.map(|it| it.d),
        g: compared.map(|it| it.g),
        z_star: compared.map(|it| it.z_star),
        p_sequential: look.evidence.p,
        p_sequential_better: look.evidence.up,
        stage: match look.evidence.stage {
            Stage::Waiting => "waiting",
            Stage::Looking => "looking",
            Stage::Done => "done",
        }
        .to_owned(),
        information: look.information,
        mismatch: look.mismatch,
        power: look.power,
        trades_needed: look.still_needed,
        false_rollback,
        equivalence_p: look.equivalence_p,
        decision: Some(v1::Decision {
            line: row.number.into(),
            name: row.name.to_owned(),
            text: row.says.to_owned(),
            conditions: conditions(&look.decision.why),
        }),
    }
}

fn state(view: &View) -> v1::ExperimentState {
    match (view.state, view.record.conclusion.as_ref().map(|it| it.how.as_str())) {
        (_, Some(plan::PROMOTED)) => v1::ExperimentState::Promoted,
        (_, Some(plan::NO_DIFFERENCE)) => v1::ExperimentState::NoDifference,
        (_, Some(plan::BELOW_THRESHOLD)) => v1::ExperimentState::BelowThreshold,
        (_, Some(_)) | (State::Ended, None) => v1::ExperimentState::RolledBack,
        (State::Held, None) => v1::ExperimentState::Held,
        (State::Extended, None) => v1::ExperimentState::Extended,
        (State::Running, None) => v1::ExperimentState::Running,
    }
}

pub(super) fn experiment(view: &View) -> v1::Experiment {
    let record = &view.record;
    let arms = || {
        let of = |arm, summary| Some(tally(view.tally.trial.moments(arm), summary));
        (of(Arm::Control, &view.look.control), of(Arm::Variant, &view.look.variant))
    };
    let (control, variant) = arms();
    // What it costs is a tenth of a millisecond, and it is of use with a rollback only.
    let rollback = view.look.decision.row.verdict == Verdict::Rollback;
    let false_rollback = if rollback { view.tally.trial.false_rollback() } else { None };
    let taken = look(&view.look, view.tally.looked_at, false_rollback);
    let last = view.tally.last_trade.and_then(|at| Timestamp::from_nanosecond(i128::from(at)).ok());
    v1::Experiment {
        id: view.id(),
        definition: Some(definition(record)),
        state: state(view).into(),
        started_at: Some(time(record.started_at)),
        started_by: record.started_by.clone(),
        reason: record.reason.clone(),
        control,
        variant,
        look: view.tally.looked_at.map(|_| taken.clone()),
        conclusion: record.conclusion.as_ref().map(|ended| {
            let (control, variant) = arms();
            let fleet = view.together.as_ref().map(|together| (together, together.trial.view()));
            let of_fleet = |arm, summary: fn(&Look) -> &ArmSummary| {
                let (together, found) = fleet.as_ref()?;
                Some(tally(together.trial.moments(arm), summary(found)))
            };
            let by_fleet = fleet
                .as_ref()
                .map(|(_, found)| look(found, Some(ended.at.as_millisecond()), false_rollback));
            v1::Conclusion {
                by_fleet: ended.fleet.is_some(),
                fleet_control: of_fleet(Arm::Control, |found| &found.control),
                fleet_variant: of_fleet(Arm::Variant, |found| &found.variant),
                at: Some(time(ended.at)),
                forced: ended.forced,
                by: ended.by.clone(),
                reason: ended.reason.clone(),
                control,
                variant,
                look: by_fleet.or_else(|| Some(taken.clone())),
            }
        }),
        duplicate: view.counts.duplicate,
        late: view.counts.late,
        rejected: view.counts.rejected,
        after_end: view.counts.after_end,
        last_trade_at: maybe(last),
        fleet_id: record.fleet.clone(),
        here: String::new(),
        not_begun: String::new(),
    }
}

/// An experiment of the fleet, as the fleet has it.
pub(super) fn of_fleet(it: &FleetView) -> v1::Experiment {
    v1::Experiment {
        here: it.here.as_ref().map(|record| plan::id(record.number)).unwrap_or_default(),
        not_begun: it.refused.clone(),
        ..experiment(&it.view)
    }
}

fn share(it: &HostShare) -> v1::FleetShare {
    let told = it.share.clone().unwrap_or_default();
    let last = told.last_trade.and_then(|at| Timestamp::from_nanosecond(i128::from(at)).ok());
    v1::FleetShare {
        host_id: it.host_id.clone(),
        hostname: it.host.clone(),
        here: told.local,
        not_begun: told.refused,
        silent: it.share.is_none(),
        left: told.left,
        control: told.arms[0].0,
        variant: told.arms[1].0,
        last_trade_at: maybe(last),
    }
}

/// How the whole fleet is at one of its experiments.
pub(super) fn details(it: &FleetDetails) -> v1::FleetExperiment {
    let count = |wanted: fn(&HostShare) -> bool| {
        u32::try_from(it.hosts.iter().filter(|host| wanted(host)).count()).unwrap_or(u32::MAX)
    };
    let owner = it.owner.clone().unwrap_or_default();
    v1::FleetExperiment {
        fleet: it.fleet.clone(),
        owner: owner.host,
        owner_id: owner.host_id,
        token: owner.token,
        counting: count(|host| host.trouble().is_empty()),
        not_begun: count(|host| host.share.is_some() && !host.trouble().is_empty()),
        silent: count(|host| host.share.is_none()),
        hosts: it.hosts.iter().take(SHOWN).map(share).collect(),
        more: it.hosts.len() > SHOWN,
    }
}

pub(super) fn point(point: &Point) -> v1::LookPoint {
    v1::LookPoint {
        at: maybe(Timestamp::from_millisecond(point.at).ok()),
        trades: point.trades,
        p_sequential: point.p,
        lift: point.lift,
    }
}

/// The whole decision table, held against an experiment as it is now.
pub(super) fn table(view: &View) -> Vec<v1::RuleLine> {
    let trial = &view.tally.trial;
    let lines = experiment::explain(&trial.situation(&view.look)).into_iter();
    lines
        .map(|(row, alternatives)| v1::RuleLine {
            line: row.number.into(),
            name: row.name.to_owned(),
            text: row.says.to_owned(),
            alternatives: alternatives
                .iter()
                .map(|reasons| v1::RuleAlternative { conditions: conditions(reasons) })
                .collect(),
        })
        .collect()
}

pub(super) fn parameter(
    record: ParameterRecord,
    test: Option<u64>,
    fleet: Option<(FleetParameter, String)>,
) -> v1::Parameter {
    v1::Parameter {
        fleet_version: record.fleet.map_or(0, |fleet| fleet.version),
        fleet: fleet.map(|(it, differs)| v1::FleetParameter {
            version: it.version,
            value: it.value,
            set_at: Some(time(it.at)),
            set_by: it.by,
            reason: it.reason,
            hostname: it.host,
            in_test: if it.in_test == 0 { String::new() } else { fleet_plan::id(it.in_test) },
            differs,
        }),
        strategy: record.strategy,
        name: record.name,
        value: record.value,
        version: record.version,
        set_at: Some(time(record.set_at)),
        set_by: record.set_by,
        reason: record.reason,
        cause: record.cause,
        experiment: record.experiment,
        in_test: test.map(plan::id).unwrap_or_default(),
    }
}

pub(super) fn value(it: Use) -> v1::ParameterValue {
    let (experiment, arm) = match it.test {
        None => (String::new(), ""),
        Some((number, Arm::Control)) => (plan::id(number), "control"),
        Some((number, Arm::Variant)) => (plan::id(number), "variant"),
    };
    v1::ParameterValue {
        name: it.name,
        value: it.value,
        version: it.version,
        experiment,
        arm: arm.to_owned(),
    }
}
