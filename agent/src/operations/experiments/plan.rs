//! What an experiment may be, who is in which arm, and what a strategy is to use. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use genesis_stats::experiment::{Arm, Design, Guard, Rules, Split, Verdict};
use genesis_storage::{ExperimentRecord, ParameterRecord, RulesRecord, TrialRecord};
use jiff::Timestamp;

use super::fleet;
use crate::error::Error;

/// The most parameters of one experiment.
pub const TRIALS: usize = 16;
/// The longest value of a parameter, in bytes.
pub const VALUE: usize = 1_024;
/// The longest name of a strategy or a parameter.
pub const NAME: usize = 64;
/// The longest unit, in bytes.
pub const UNIT: usize = 256;
/// The longest name of a host, in bytes.
pub const OWNER: usize = 253;
/// The whole, in hundredths of a percent.
pub const WHOLE: u32 = 10_000;

/// What somebody asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Whose parameters.
    pub strategy: String,
    /// Parameters, and the values that are to be tried.
    pub trials: Vec<(String, String)>,
    /// The variant's share, in hundredths of a percent.
    pub variant_basis_points: u32,
    /// By what significance is judged; empty: sequential.
    pub design: String,
    /// Zeros stand for the procedures' numbers.
    pub rules: RulesRecord,
    /// Empty: its id.
    pub seed: String,
    /// Empty: this host.
    pub owner: String,
}

/// Why something is refused: its code, and in words.
pub type Refused = (&'static str, String);

/// A name of a strategy or a parameter.
pub fn is_name(text: &str) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=NAME).contains(&text.len()) && text.bytes().all(ok)
}

/// What is wrong with a value of a parameter.
pub fn wrong_value(value: &str) -> Option<String> {
    if value.len() > VALUE {
        return Some(format!("a value has at most {VALUE} bytes, this one {}", value.len()));
    }
    let control = value.chars().any(char::is_control);
    control.then(|| "a value holds no control characters".to_owned())
}

/// Refuses what is no parameter.
///
/// # Errors
/// `PARAMETER_INVALID`.
pub fn wrong_parameter(strategy: &str, name: &str, value: &str) -> Result<(), Error> {
    let invalid = |why: String| Error::invalid("PARAMETER_INVALID", why);
    for (what, text) in [("strategy", strategy), ("parameter", name)] {
        if !is_name(text) {
            let shown: String = text.chars().take(NAME).collect();
            return Err(invalid(format!(
                "{shown:?} is no {what}; use 1 to {NAME} of a-z, A-Z, 0-9 and -_"
            )));
        }
    }
    wrong_value(value).map_or(Ok(()), |why| Err(invalid(why)))
}

/// What an experiment tries, in a line.
pub fn tried(record: &ExperimentRecord) -> String {
    let each = record.trials.iter();
    let tried: Vec<String> = each
        .map(|trial| format!("{}: {} -> {}", trial.name, trial.control, trial.variant))
        .collect();
    format!(
        "{} {}, {} % of the units",
        record.strategy,
        tried.join(", "),
        f64::from(record.variant_basis_points) / 100.0
    )
}

/// What is wrong with a unit.
pub fn wrong_unit(unit: &str) -> Option<String> {
    match unit.len() {
        0 => Some("a unit has a name".to_owned()),
        1..=UNIT => None,
        bytes => Some(format!("a unit has at most {UNIT} bytes, this one {bytes}")),
    }
}

/// The id of an experiment.
pub fn id(number: u64) -> String {
    format!("TEST_{number}")
}

/// The one of this id: what this host calls it, or what its fleet does. Of several that have had the fleet's name it is the
/// one that goes on, or the last.
pub fn find<'a>(
    id: &str,
    known: &'a BTreeMap<u64, Arc<ExperimentRecord>>,
) -> Option<&'a Arc<ExperimentRecord>> {
    if fleet::plan::number(id).is_none() {
        return number(id).and_then(|number| known.get(&number));
    }
    known.values().filter(|it| it.fleet == id).max_by_key(|it| (it.conclusion.is_none(), it.number))
}

/// The number of an id; also of the number alone.
pub fn number(id: &str) -> Option<u64> {
    let digits = id.strip_prefix("TEST_").unwrap_or(id);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// The design of a record.
///
/// # Errors
/// That there is none of its name.
pub fn design(record: &ExperimentRecord) -> Result<Design, String> {
    Design::named(&record.design).ok_or_else(|| format!("there is no design {:?}", record.design))
}

/// The rules as the kernel has them.
pub fn rules(record: &RulesRecord) -> Rules {
    Rules {
        least: record.least,
        horizon: record.planned,
        cap: record.most,
        alpha: record.alpha,
        promote_lift: record.promote_lift,
        rollback_lift: record.rollback_lift,
        least_d: record.least_effect,
        // Power is told for the effect that matters.
        detect_d: if record.least_effect > 0.0 {
            record.least_effect
        } else {
            Rules::default().detect_d
        },
        guard: if record.guarded { Guard::Sequential } else { Guard::Literal },
        ..Rules::default()
    }
}

/// The procedures' numbers where nothing else was asked for.
fn filled(asked: &RulesRecord) -> RulesRecord {
    let usual = Rules::default();
    let whole = |asked, usual| if asked == 0 { usual } else { asked };
    let number = |asked, usual| if asked == 0.0 { usual } else { asked };
    let least = whole(asked.least, usual.least);
    let planned = whole(asked.planned, usual.horizon.max(least));
    RulesRecord {
        least,
        planned,
        most: whole(asked.most, usual.cap.max(planned.saturating_mul(2))),
        promote_lift: number(asked.promote_lift, usual.promote_lift),
        rollback_lift: number(asked.rollback_lift, usual.rollback_lift),
        least_effect: number(asked.least_effect, usual.least_d),
        alpha: number(asked.alpha, usual.alpha),
        guarded: asked.guarded,
    }
}

/// The experiment that is asked for, without a number, or why there can't be one. `parameters`: those of its strategy in
/// force; `running`: what goes on.
///
/// # Errors
/// `EXPERIMENT_INVALID`, `SPLIT_INVALID`, `STRATEGY_NOT_FOUND`, `PARAMETER_NOT_FOUND`, `PARAMETER_IN_TEST`.
pub fn define<'a>(
    asked: &Asked,
    parameters: &BTreeMap<(String, String), ParameterRecord>,
    running: impl Iterator<Item = &'a ExperimentRecord>,
) -> Result<ExperimentRecord, Refused> {
    let invalid = |why: String| ("EXPERIMENT_INVALID", why);
    let strategy = &asked.strategy;
    if !is_name(strategy) {
        let why = format!("{strategy:?} is no strategy; use 1 to {NAME} of a-z, A-Z, 0-9 and -_");
        return Err(invalid(why));
    }
    if !(1..WHOLE).contains(&asked.variant_basis_points) {
        let why = format!(
            "the variant gets {} % of the units; both arms need some: 0.01 to 99.99 %",
            f64::from(asked.variant_basis_points) / 100.0
        );
        return Err(("SPLIT_INVALID", why));
    }
    if asked.trials.is_empty() || asked.trials.len() > TRIALS {
        let why = format!("it tries {} parameters; 1 to {TRIALS} are possible", asked.trials.len());
        return Err(invalid(why));
    }
    let own = |name: &str| parameters.get(&(strategy.clone(), name.to_owned()));
    if !parameters.keys().any(|(of, _)| of == strategy) {
        let why = format!(
            "no parameter of the strategy {strategy:?} is set; `genesisctl param set --strategy {strategy} NAME=VALUE` does so"
        );
        return Err(("STRATEGY_NOT_FOUND", why));
    }
    let running: Vec<&ExperimentRecord> = running.filter(|it| it.strategy == *strategy).collect();
    let mut trials: Vec<TrialRecord> = Vec::new();
    for (name, value) in &asked.trials {
        let Some(current) = own(name) else {
            let shown: String = name.chars().take(NAME).collect();
            let why = format!(
                "{strategy} has no parameter {shown:?}; `genesisctl param list --strategy {strategy}` lists those that are set"
            );
            return Err(("PARAMETER_NOT_FOUND", why));
        };
        if let Some(why) = wrong_value(value) {
            return Err(invalid(format!("{name}: {why}")));
        }
        if *value == current.value {
            return Err(invalid(format!("{name} is {value:?} already: there is nothing to try")));
        }
        if trials.iter().any(|trial| trial.name == *name) {
            return Err(invalid(format!("{name} is there twice")));
        }
        if let Some(other) =
            running.iter().find(|it| it.trials.iter().any(|trial| trial.name == *name))
        {
            let why = format!(
                "{name} of {strategy} is in {} already; `genesisctl experiment conclude --test-id {} --action rollback` ends that",
                id(other.number),
                id(other.number)
            );
            return Err(("PARAMETER_IN_TEST", why));
        }
        trials.push(TrialRecord {
            name: name.clone(),
            control: current.value.clone(),
            control_version: current.version,
            variant: value.clone(),
        });
    }
    let design = if asked.design.is_empty() { Design::default().name() } else { &asked.design };
    if Design::named(design).is_none() {
        let names: Vec<&str> = Design::ALL.iter().map(|design| design.name()).collect();
        return Err(invalid(format!("{design:?} is not one of {}", names.join(", "))));
    }
    let filled = filled(&asked.rules);
    if filled.planned < filled.least || filled.most < filled.planned {
        let RulesRecord { least, planned, most, .. } = filled;
        let why = format!(
            "the least trades ({least}), those planned ({planned}) and the most ({most}) must not fall in this order"
        );
        return Err(invalid(why));
    }
    if let Some(fault) = rules(&filled).fault() {
        return Err(invalid(fault.to_owned()));
    }
    if !asked.seed.is_empty() && wrong_unit(&asked.seed).is_some() {
        return Err(invalid(format!("a seed has at most {UNIT} bytes")));
    }
    let of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let fleets = fleet::plan::is_owner(&asked.owner);
    if asked.owner.len() > OWNER || !asked.owner.bytes().all(of_host) || fleets {
        let shown: String = asked.owner.chars().take(NAME).collect();
        let why = format!(
            "{shown:?} is no host; use up to {OWNER} of a-z, A-Z, 0-9 and -_.:, or none for this host"
        );
        return Err(invalid(why));
    }
    Ok(ExperimentRecord {
        strategy: strategy.clone(),
        trials,
        variant_basis_points: asked.variant_basis_points,
        design: design.to_owned(),
        rules: filled,
        seed: asked.seed.clone(),
        owner: asked.owner.clone(),
        ..ExperimentRecord::default()
    })
}

/// Names what two hosts must have in common for their counts to be added.
pub fn hash(record: &ExperimentRecord) -> String {
    let trials: Vec<(&str, &str, &str)> = record
        .trials
        .iter()
        .map(|it| (it.name.as_str(), it.control.as_str(), it.variant.as_str()))
        .collect();
    let rules = &record.rules;
    let numbers = (rules.least, rules.planned, rules.most, rules.guarded);
    let limits = [rules.promote_lift, rules.rollback_lift, rules.least_effect, rules.alpha]
        .map(f64::to_bits);
    let named = (
        (&record.strategy, trials, record.variant_basis_points, &record.design),
        (numbers, limits, &record.seed),
    );
    // Texts and numbers always have JSON.
    let json = serde_json::to_vec(&named).unwrap_or_default();
    blake3::hash(&json).to_hex()[..16].to_owned()
}

/// Those that ended before the last so many did: they are forgotten. The newest of all stays, so that no number comes
/// twice.
pub fn forgotten(known: &BTreeMap<u64, Arc<ExperimentRecord>>, most: usize) -> Vec<u64> {
    let newest = known.keys().next_back();
    let mut ended: Vec<(Timestamp, u64)> =
        known.values().filter_map(|it| Some((it.conclusion.as_ref()?.at, it.number))).collect();
    ended.sort_unstable_by(|one, other| other.cmp(one));
    ended.drain(..most.min(ended.len()));
    ended.into_iter().map(|(_, number)| number).filter(|number| Some(number) != newest).collect()
}

/// The arm of a unit.
pub fn arm(record: &ExperimentRecord, unit: &str) -> Arm {
    let variant = f64::from(record.variant_basis_points);
    let split = Split::new(&[f64::from(WHOLE) - variant, variant]);
    match split.map_or(0, |split| split.assign(&record.seed, unit)) {
        0 => Arm::Control,
        _ => Arm::Variant,
    }
}

/// A value that is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// The parameter.
    pub name: String,
    /// Its value.
    pub value: String,
    /// The version that is in force.
    pub version: u64,
    /// The experiment that it is in, and in which arm.
    pub test: Option<(u64, Arm)>,
}

/// What a unit of a strategy is to use; an empty unit: what is in force.
pub fn uses<'a>(
    strategy: &str,
    unit: &str,
    parameters: &BTreeMap<(String, String), ParameterRecord>,
    running: impl Iterator<Item = &'a ExperimentRecord>,
) -> Vec<Use> {
    let running: Vec<(&ExperimentRecord, Arm)> = running
        .filter(|it| it.strategy == strategy && !unit.is_empty())
        .map(|it| (it, arm(it, unit)))
        .collect();
    let own = parameters.iter().filter(|((of, _), _)| of == strategy);
    let uses = own.map(|((_, name), current)| {
        let tried = running.iter().find_map(|(it, arm)| {
            let trial = it.trials.iter().find(|trial| trial.name == *name)?;
            Some((it.number, *arm, &trial.variant))
        });
        Use {
            name: name.clone(),
            value: match tried {
                Some((_, Arm::Variant, variant)) => variant.clone(),
                _ => current.value.clone(),
            },
            version: current.version,
            test: tried.map(|(number, arm, _)| (number, arm)),
        }
    });
    uses.collect()
}

/// How a line of the decision table ends an experiment; `None`: it goes on.
pub fn ends(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Promote => Some(PROMOTED),
        Verdict::Rollback => Some(ROLLED_BACK),
        Verdict::NoDifference => Some(NO_DIFFERENCE),
        Verdict::BelowThreshold => Some(BELOW_THRESHOLD),
        Verdict::Hold | Verdict::Extend | Verdict::Continue => None,
    }
}

/// How experiments end.
pub const PROMOTED: &str = "promoted";
/// The control's values stay, since the variant was worse or somebody said so.
pub const ROLLED_BACK: &str = "rolled back";
/// The control's values stay, since no difference was found.
pub const NO_DIFFERENCE: &str = "no difference";
/// The control's values stay, since the difference is too small.
pub const BELOW_THRESHOLD: &str = "below threshold";
