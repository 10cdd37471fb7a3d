//! An experiment on a page of its own.

use genesis_client::v1::{
    ArmTally, Conclusion, Decision, Experiment, ExperimentDefinition, ExperimentDesign,
    ExperimentLook, ExperimentRules, GetExperimentResponse, ParameterTrial, RuleCondition,
    RuleLine,
};

use super::{curve, fleet, parse};
use crate::format::{self, count, figure, p_value};
use crate::render::{Cell, Part};

const ARM_COLUMNS: &[&str] = &["ARM", "N", "MEAN", "SD", "LOW", "HIGH"];
const REASON_COLUMNS: &[&str] = &["CONDITION", "HOLDS"];
const TABLE_COLUMNS: &[&str] = &["LINE", "NAME", "CONDITION", "HOLDS"];

/// Above so much evidence nothing is decided.
const MISMATCH: f64 = 1_000.0;

/// The parts of the page. `verbose`: with the rules and the whole decision table.
pub(super) fn parts(response: &GetExperimentResponse, verbose: bool) -> Vec<Part> {
    let Some(experiment) = &response.experiment else { return Vec::new() };
    let definition = experiment.definition.clone().unwrap_or_default();
    let id = &experiment.id;
    let about = |what: &str| format!("{id}: {what}");
    let ended = experiment.conclusion.as_ref();
    let (control, variant) = match ended {
        // What it was decided by.
        Some(ended) if ended.by_fleet => {
            (ended.fleet_control.as_ref(), ended.fleet_variant.as_ref())
        }
        Some(ended) => (ended.control.as_ref(), ended.variant.as_ref()),
        None => (experiment.control.as_ref(), experiment.variant.as_ref()),
    };
    let mut parts = vec![
        said(id.clone(), facts(experiment, &definition, verbose)),
        arms(about("arms"), &definition, control, variant),
    ];
    parts.extend(fleet::parts(id, response));
    parts.extend(ended.map(|ended| said(about("how it ended"), conclusion(experiment, ended))));
    match look(experiment) {
        Some(look) => {
            parts.push(said(about("what the last look found"), findings(look, &definition)));
            parts.extend(look.decision.as_ref().map(|one| decision(&about("decision"), one)));
        }
        None => {
            let none = match experiment.fleet_id.as_str() {
                "" => {
                    "no look was taken yet: looks are taken after each batch of trades".to_owned()
                }
                id if *id == experiment.id => "no look was taken yet".to_owned(),
                id => format!(
                    "looks are taken at what all hosts count: `genesisctl experiment show {id}`"
                ),
            };
            parts.push(said(about("looks"), vec![none]));
        }
    }
    if verbose {
        parts.push(table(about("decision table"), &response.table));
    }
    parts.push(said(about("trades that do not count"), left_out(experiment)));
    let alpha = rules(&definition).alpha;
    parts.extend(curve::part(about("p_seq over the trades"), &response.curve, alpha));
    parts.retain(|part| !(part.rows.is_empty() && part.lines.is_empty()));
    parts
}

/// The last look; of one that has ended, that at its end.
pub(super) fn look(experiment: &Experiment) -> Option<&ExperimentLook> {
    let ended = experiment.conclusion.as_ref().and_then(|ended| ended.look.as_ref());
    ended.or(experiment.look.as_ref())
}

fn said(title: String, lines: Vec<String>) -> Part {
    let lines = lines.into_iter().map(|line| format!("  {line}")).collect();
    Part { title, lines, ..Part::default() }
}

/// Such as "threshold: 0.002 -> 0.003".
fn trial(one: &ParameterTrial) -> String {
    format!("{} {} -> {}", one.name, shown(&one.control), shown(&one.variant))
}

/// A value in a few characters; an empty one is seen.
fn shown(value: &str) -> String {
    if value.is_empty() { "\"\"".to_owned() } else { format::excerpt(value, 24) }
}

/// What is tried, in a line.
pub(super) fn tries(definition: &ExperimentDefinition) -> String {
    let tries: Vec<_> = definition.parameters.iter().map(trial).collect();
    format::or_none(&tries.join(", "))
}

/// Such as "80/20".
pub(super) fn shares(definition: &ExperimentDefinition) -> String {
    let variant = definition.variant_basis_points;
    let control = 10_000_u32.saturating_sub(variant);
    format!("{}/{}", parse::percent(control), parse::percent(variant))
}

pub(super) fn split(definition: &ExperimentDefinition) -> String {
    let share = parse::percent(definition.variant_basis_points);
    let design = match definition.design() {
        ExperimentDesign::Sequential | ExperimentDesign::Unspecified => "sequential",
        ExperimentDesign::Fixed => "fixed",
        ExperimentDesign::LanDemets => "lan-demets",
        ExperimentDesign::AlwaysValid => "always-valid",
    };
    format!("{share} % of the units get the variant; design {design}")
}

/// By what it is decided. An agent names all of it; 0 is the procedures' number.
pub(super) fn rules(definition: &ExperimentDefinition) -> ExperimentRules {
    let given = definition.rules.unwrap_or_default();
    let whole = |given: u64, usual| if given == 0 { usual } else { given };
    let real = |given: f64, usual| if given == 0.0 { usual } else { given };
    ExperimentRules {
        least_trades: whole(given.least_trades, 100),
        planned_trades: whole(given.planned_trades, 500),
        most_trades: whole(given.most_trades, 1_000),
        promote_lift: real(given.promote_lift, 0.1),
        rollback_lift: real(given.rollback_lift, -0.1),
        least_effect: real(given.least_effect, 0.2),
        alpha: real(given.alpha, 0.05),
        guarded_rollback: given.guarded_rollback,
    }
}

fn facts(experiment: &Experiment, definition: &ExperimentDefinition, verbose: bool) -> Vec<String> {
    let mut facts = vec![
        format!("state: {}", state(experiment)),
        format!("strategy: {}; {}", format::or_none(&definition.strategy), split(definition)),
    ];
    let version = |one: &ParameterTrial| match one.control_version {
        0 => trial(one),
        version => format!("{} (in force: version {version})", trial(one)),
    };
    facts.extend(definition.parameters.iter().map(version));
    facts.extend(fleet::fact(experiment));
    let reason = match experiment.reason.as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    facts.push(format!(
        "started at {} by {}{reason}",
        format::time(experiment.started_at.as_ref()),
        format::or_none(&experiment.started_by)
    ));
    if verbose {
        facts.extend(by_rules(&rules(definition)));
        facts.push(format!(
            "looks are taken by: {}; units are assigned by: {}",
            format::or_none(&definition.owner),
            format::or_none(&definition.seed)
        ));
        facts.push(format!("definition hash: {}", format::or_none(&definition.hash)));
    }
    facts
}

fn by_rules(rules: &ExperimentRules) -> Vec<String> {
    let guard = if rules.guarded_rollback { ", and only with evidence" } else { "" };
    vec![
        format!(
            "trades: at least {}, planned {}, at most {}; alpha {}",
            count(rules.least_trades),
            count(rules.planned_trades),
            count(rules.most_trades),
            rules.alpha
        ),
        format!(
            "promoted from {} and an effect above {} on; rolled back at {}{guard}",
            format::lift(rules.promote_lift),
            rules.least_effect,
            format::lift(rules.rollback_lift)
        ),
    ]
}

fn state(experiment: &Experiment) -> &'static str {
    format::short_name(experiment.state().as_str_name(), "EXPERIMENT_STATE_")
}

/// Both arms. The interval of a mean is at the confidence of the rules.
pub(super) fn arms(
    title: String,
    definition: &ExperimentDefinition,
    control: Option<&ArmTally>,
    variant: Option<&ArmTally>,
) -> Part {
    let row = |name: &'static str, arm: Option<&ArmTally>| {
        let arm = arm.copied().unwrap_or_default();
        let known = |number: Option<f64>| {
            Cell::number(number.map_or_else(|| format::NONE.to_owned(), figure))
        };
        vec![
            Cell::from(name),
            Cell::number(count(arm.n)),
            known((arm.n > 0).then_some(arm.mean)),
            known(arm.deviation),
            known(arm.mean_low),
            known(arm.mean_high),
        ]
    };
    let lines = vec![format!("low and high: where the mean lies, {}", confidence(definition))];
    let rows = vec![row("control", control), row("variant", variant)];
    Part { title, columns: ARM_COLUMNS, rows, lines }
}

fn confidence(definition: &ExperimentDefinition) -> String {
    let percent = 100.0 * (1.0 - rules(definition).alpha);
    format!("{} % confidence", (percent * 1_000.0).round() / 1_000.0)
}

/// What a look found, but for its decision.
fn findings(look: &ExperimentLook, definition: &ExperimentDefinition) -> Vec<String> {
    let mut lines = vec![format!("at {}", format::time(look.at.as_ref()))];
    lines.extend(comparison(look, definition));
    lines.push(format!(
        "p_seq = {} (for the variant alone: {}), valid however often it is looked at; {}, information {}",
        p_value(look.p_sequential),
        p_value(look.p_sequential_better),
        format::or_none(&look.stage),
        format::share(look.information)
    ));
    lines.push(mismatch(look.mismatch));
    if let Some(chance) = look.false_rollback {
        lines.push(format!(
            "a variant that is no different would be rolled back with a chance of {}",
            format::share(chance)
        ));
    }
    lines
}

/// What one arm is against the other: the same of one node as of many.
pub(super) fn comparison(look: &ExperimentLook, definition: &ExperimentDefinition) -> Vec<String> {
    let bounds = |low: Option<f64>, high: Option<f64>, show: fn(f64) -> String| match (low, high) {
        (Some(low), Some(high)) => format!(", from {} to {}", show(low), show(high)),
        _ => ", without bounds".to_owned(),
    };
    let sure = confidence(definition);
    let mut lines = Vec::new();
    lines.push(match look.lift {
        Some(lift) => {
            let bounds = bounds(look.lift_low, look.lift_high, format::lift);
            format!("lift {}{bounds} ({sure})", format::lift(lift))
        }
        None => format!("lift undefined: {}", format::or_none(&look.lift_undefined)),
    });
    if let Some(difference) = look.difference {
        let bounds = bounds(look.difference_low, look.difference_high, figure);
        lines.push(format!("difference {}{bounds} ({sure})", figure(difference)));
    }
    if let (Some(t), Some(nu), Some(p)) = (look.t, look.nu, look.p) {
        lines.push(format!("Welch: t = {t:.3}, nu = {nu:.1}, p = {}", p_value(p)));
    }
    if let Some(d) = look.d {
        let least = rules(definition).least_effect;
        let g = look.g.map_or_else(String::new, |g| format!(", Hedges' g = {g:.3}"));
        lines.push(format!("effect: Cohen's d = {d:.3}{g} (more than {least} is wanted)"));
    }
    if let Some(z) = look.z_star {
        lines.push(format!("z* = {z:.3}, safe for skew"));
    }
    let needed = match look.trades_needed {
        Some(0) => "80 % is reached".to_owned(),
        Some(trades) => format!("80 % takes {} more in the smaller arm", count(trades)),
        None => "no number of trades is enough for 80 %".to_owned(),
    };
    lines.push(format!("power {} for the least effect; {needed}", format::share(look.power)));
    if let Some(p) = look.equivalence_p {
        lines.push(format!("p = {} against a difference that matters (TOST)", p_value(p)));
    }
    lines
}

pub(super) fn mismatch(evidence: f64) -> String {
    let means = match evidence > MISMATCH {
        true => "they are not split as they should be, so nothing is decided",
        false => "above 1,000 nothing is decided",
    };
    format!("evidence of a wrong split: {} ({means})", figure(evidence))
}

fn decision(title: &str, one: &Decision) -> Part {
    let title = format!("{title}: {}", said_line(one));
    let rows = one.conditions.iter().map(|one| vec![Cell::from(one.text.as_str()), holds(one)]);
    let lines = if one.text.is_empty() { Vec::new() } else { vec![format!("  {}", one.text)] };
    Part { title, columns: REASON_COLUMNS, rows: rows.collect(), lines }
}

fn holds(condition: &RuleCondition) -> Cell {
    Cell::from(if condition.holds { "yes" } else { "no" })
}

/// Such as "line 6, continue".
fn said_line(one: &Decision) -> String {
    match one.line {
        0 => "none yet".to_owned(),
        line => format!("line {line}, {}", one.name),
    }
}

/// The line that holds after a look, such as "6 continue".
pub(super) fn held_line(look: &ExperimentLook) -> String {
    match &look.decision {
        Some(one) if one.line > 0 => format!("{} {}", one.line, one.name),
        _ => format::NONE.to_owned(),
    }
}

/// The whole decision table: a row for each condition, "or" before another way in which a line can hold.
fn table(title: String, lines: &[RuleLine]) -> Part {
    let mut rows = Vec::new();
    let mut said = Vec::new();
    for line in lines {
        let mut name = (line.line.to_string(), line.name.clone());
        for (index, way) in line.alternatives.iter().enumerate() {
            let conditions = way.conditions.iter().enumerate();
            rows.extend(conditions.map(|(place, condition)| {
                let or = if index > 0 && place == 0 { "or " } else { "" };
                let (number, name) = std::mem::take(&mut name);
                vec![
                    Cell::number(number),
                    Cell::from(name),
                    Cell::from(format!("{or}{}", condition.text)),
                    holds(condition),
                ]
            }));
        }
        // One without conditions holds where no other does.
        if !name.0.is_empty() {
            let otherwise = vec![Cell::number(name.0), Cell::from(name.1), Cell::from("otherwise")];
            rows.push(otherwise.into_iter().chain([Cell::from("")]).collect());
        }
        said.push(format!("  {} {}: {}", line.line, line.name, line.text));
    }
    Part { title, columns: TABLE_COLUMNS, rows, lines: said }
}

fn left_out(experiment: &Experiment) -> Vec<String> {
    let counts = [
        (experiment.duplicate, "there before"),
        (experiment.late, "too late"),
        (experiment.rejected, "rejected"),
        (experiment.after_end, "after its end"),
    ];
    let counts: Vec<_> =
        counts.iter().map(|(number, what)| format!("{} {what}", count(*number))).collect();
    let last = match &experiment.last_trade_at {
        Some(at) => format!("; the last trade came at {}", format::time(Some(at))),
        None => String::new(),
    };
    vec![format!("{}{last}", counts.join(", "))]
}

/// By what it ended: "forced", or the line of the table.
pub(super) fn how(ended: &Conclusion) -> String {
    if ended.forced {
        return "forced".to_owned();
    }
    let line = ended.look.as_ref().and_then(|look| look.decision.as_ref());
    line.map_or_else(|| format::NONE.to_owned(), said_line)
}

fn conclusion(experiment: &Experiment, ended: &Conclusion) -> Vec<String> {
    let by = if ended.by.is_empty() { String::new() } else { format!(" by {}", ended.by) };
    let mut lines = vec![format!(
        "{} at {}{by}: {}",
        state(experiment),
        format::time(ended.at.as_ref()),
        how(ended)
    )];
    if !ended.reason.is_empty() {
        lines.push(format!("reason: {}", ended.reason));
    }
    lines
}

/// An experiment in a line.
pub(super) fn line(experiment: &Experiment) -> String {
    let mut text = format!("{} {}", experiment.id, state(experiment));
    if let Some(ended) = &experiment.conclusion {
        text += &format!(" at {}, {}", format::time(ended.at.as_ref()), how(ended));
        if !ended.reason.is_empty() {
            text += &format!(": {}", ended.reason);
        }
        return text;
    }
    let n = |arm: Option<&ArmTally>| count(arm.map_or(0, |arm| arm.n));
    let (control, variant) = (experiment.control.as_ref(), experiment.variant.as_ref());
    text += &format!(", {} / {} trades", n(control), n(variant));
    let Some(look) = &experiment.look else { return text + ", no look yet" };
    if let Some(lift) = look.lift {
        text += &format!(", lift {}", format::lift(lift));
    }
    text += &format!(", p_seq {}", p_value(look.p_sequential));
    match &look.decision {
        Some(decision) => text + ", " + &said_line(decision),
        None => text,
    }
}
