//! The trades of several nodes as if one agent had had them all: moments add up, looks do not.

use std::collections::BTreeMap;

use genesis_client::v1::{
    ArmTally, Experiment, ExperimentDefinition, ExperimentDesign, ExperimentLook,
};
use genesis_client::{Error, Kind};
use genesis_stats::experiment::{
    ArmSummary, Design, Lift, Look, MomentParts, Moments, NoLift, Rules, State, Trial,
};
use serde_json::{Value, json};

use super::{list, page};
use crate::connect::Session;
use crate::format::{self, count, p_value};
use crate::render::{Answer, Cell, Part, View};

const NODE_COLUMNS: &[&str] = &["NODE", "STATE", "CONTROL", "VARIANT", "LOOKS"];

/// What came of the nodes so far.
#[derive(Debug, Default)]
pub(super) struct Merged {
    answered: usize,
    /// By id, then by node: whoever answers first, they are added in the order of the nodes' names.
    experiments: BTreeMap<String, BTreeMap<String, Counted>>,
}

/// What a node has of an experiment.
#[derive(Debug)]
struct Counted {
    experiment: Experiment,
    control: Moments,
    variant: Moments,
}

impl Merged {
    /// Adds what a node knows of its experiments; of none of them where one can't be added up.
    pub(super) fn add<'a>(
        &mut self,
        node: &str,
        found: impl IntoIterator<Item = &'a Experiment>,
    ) -> Result<(), Error> {
        let mut known = Vec::new();
        for experiment in found {
            let moments = |arm: Option<&ArmTally>| {
                of_message(arm)
                    .ok_or_else(|| unreadable(&experiment.id, "no trades have such sums"))
            };
            let (control, variant) =
                (moments(experiment.control.as_ref())?, moments(experiment.variant.as_ref())?);
            known.push(Counted { experiment: experiment.clone(), control, variant });
        }
        self.answered += 1;
        for one in known {
            // Each host of a fleet has a number of its own for what is one.
            let id = match one.experiment.fleet_id.as_str() {
                "" => one.experiment.id.clone(),
                fleet => fleet.to_owned(),
            };
            let of_id = self.experiments.entry(id).or_default();
            of_id.insert(node.to_owned(), one);
        }
        Ok(())
    }

    /// What all nodes come to.
    pub(super) fn answer(&self, session: &Session<'_>) -> Result<Answer, Error> {
        let missing = session.nodes.len().saturating_sub(self.answered);
        let all = self.experiments.iter().map(|(id, nodes)| Together::of(id, nodes));
        let all = all.collect::<Result<Vec<_>, _>>()?;
        let json = all.iter().map(|one| one.json(session)).collect::<Result<Vec<_>, _>>()?;
        let json = json!({
            "nodes": self.answered,
            "unanswered": missing,
            "experiments": json,
        });
        let mut view = View {
            columns: list::COLUMNS,
            rows: all.iter().map(Together::row).collect(),
            parts: all.iter().flat_map(Together::parts).collect(),
            ..View::default()
        };
        if missing > 0 {
            let asked = count(session.nodes.len() as u64);
            view.tail.push(format!("without {} of {asked} nodes", count(missing as u64)));
        }
        if all.is_empty() {
            view.tail.push("no experiment goes on on any node".to_owned());
        }
        Ok(Answer::new(json, view))
    }
}

/// One experiment on all nodes.
struct Together<'a> {
    id: &'a str,
    nodes: &'a BTreeMap<String, Counted>,
    definition: ExperimentDefinition,
    control: ArmTally,
    variant: ArmTally,
    /// What one arm is against the other, of all trades. Of what many looks found it has nothing.
    compared: ExperimentLook,
    /// Who takes the looks, and what the last one found.
    owner: Option<(&'a str, &'a ExperimentLook)>,
}

impl<'a> Together<'a> {
    fn of(id: &'a str, nodes: &'a BTreeMap<String, Counted>) -> Result<Self, Error> {
        let of_node = |one: &Counted| one.experiment.definition.clone().unwrap_or_default();
        let mut definitions = nodes.iter().map(|(node, one)| (node, of_node(one)));
        let Some((first, definition)) = definitions.next() else {
            return Err(unreadable(id, "no node has it"));
        };
        if let Some((other, unlike)) = definitions.find(|(_, one)| one.hash != definition.hash) {
            return Err(differ(id, (first, &definition), (other, &unlike)));
        }
        let mut arms = [Moments::new(), Moments::new()];
        for one in nodes.values() {
            arms[0].merge(&one.control);
            arms[1].merge(&one.variant);
        }
        let look = judge(arms, &definition).map_err(|why| unreadable(id, &why))?;
        let [control, variant] = [(arms[0], look.control), (arms[1], look.variant)]
            .map(|(moments, summary)| to_message(&moments, &summary));
        let owner = nodes
            .iter()
            .find_map(|(node, one)| Some((node.as_str(), page::look(&one.experiment)?)));
        let compared = comparison(&look);
        Ok(Self { id, nodes, definition, control, variant, compared, owner })
    }

    /// As an experiment of the contract, as far as there is one of all nodes.
    fn row(&self) -> Vec<Cell> {
        let known = |number: Option<String>| {
            Cell::number(number.unwrap_or_else(|| format::NONE.to_owned()))
        };
        let owners = self.owner.map(|(_, look)| look);
        vec![
            Cell::from(self.id),
            Cell::from(format::NONE),
            Cell::from(self.definition.strategy.as_str()),
            Cell::from(page::tries(&self.definition)),
            Cell::from(page::shares(&self.definition)),
            Cell::number(format!("{} / {}", count(self.control.n), count(self.variant.n))),
            known(self.compared.lift.map(format::lift)),
            known(self.compared.p.map(p_value)),
            known(owners.map(|look| p_value(look.p_sequential))),
            Cell::from(owners.map_or_else(|| format::NONE.to_owned(), page::held_line)),
            Cell::from(format::NONE),
        ]
    }

    fn parts(&self) -> Vec<Part> {
        let about = |what: &str| format!("{}: {what}", self.id);
        let n = |moments: &Moments| Cell::number(count(moments.n()));
        let state = |one: &Counted| Cell::experiment_state(one.experiment.state());
        let looks = |one: &Counted| if page::look(&one.experiment).is_some() { "yes" } else { "" };
        let rows = self.nodes.iter().map(|(node, one)| {
            let looks = Cell::from(looks(one));
            vec![Cell::from(node.as_str()), state(one), n(&one.control), n(&one.variant), looks]
        });
        let counted = Part {
            title: about("what counts"),
            columns: NODE_COLUMNS,
            rows: rows.collect(),
            lines: Vec::new(),
        };
        let (control, variant) = (Some(&self.control), Some(&self.variant));
        let mut lines = page::comparison(&self.compared, &self.definition);
        lines.push(page::mismatch(self.compared.mismatch));
        lines.push(match self.owner {
            Some((node, look)) => format!(
                "p_seq = {} at {}, by the looks of {node}, which are of the trades that it has itself",
                p_value(look.p_sequential),
                format::time(look.at.as_ref())
            ),
            None => "no look was taken yet, so there is no p_seq".to_owned(),
        });
        let lines = lines.iter().map(|line| format!("  {line}")).collect();
        vec![
            counted,
            page::arms(about("arms of all nodes"), &self.definition, control, variant),
            Part { title: about("all trades together"), lines, ..Part::default() },
        ]
    }

    fn json(&self, session: &Session<'_>) -> Result<Value, Error> {
        let mut compared = session.json("ExperimentLook", &self.compared)?;
        if let Value::Object(fields) = &mut compared {
            // What only looks have, one after the other.
            for name in OF_LOOKS {
                fields.remove(*name);
            }
        }
        let owner = match self.owner {
            Some((node, look)) => {
                json!({ "node": node, "look": session.json("ExperimentLook", look)? })
            }
            None => Value::Null,
        };
        Ok(json!({
            "id": self.id,
            "hash": self.definition.hash,
            "definition": session.json("ExperimentDefinition", &self.definition)?,
            "nodes": self.nodes.keys().collect::<Vec<_>>(),
            "control": session.json("ArmTally", &self.control)?,
            "variant": session.json("ArmTally", &self.variant)?,
            "comparison": compared,
            "owner": owner,
        }))
    }
}

/// The fields of a look that its owner alone has.
const OF_LOOKS: &[&str] =
    &["at", "pSequential", "pSequentialBetter", "stage", "falseRollback", "decision"];

/// What the statistics say of these arms, without any look before.
fn judge(arms: [Moments; 2], definition: &ExperimentDefinition) -> Result<Look, String> {
    let rules = page::rules(definition);
    let rules = Rules {
        least: rules.least_trades,
        horizon: rules.planned_trades,
        cap: rules.most_trades,
        alpha: rules.alpha,
        promote_lift: rules.promote_lift,
        rollback_lift: rules.rollback_lift,
        least_d: rules.least_effect,
        ..Rules::default()
    };
    let design = match definition.design() {
        ExperimentDesign::Sequential | ExperimentDesign::Unspecified => Design::Sequential,
        ExperimentDesign::Fixed => Design::Fixed,
        ExperimentDesign::LanDemets => Design::LanDemets,
        ExperimentDesign::AlwaysValid => Design::AlwaysValid,
    };
    let variant = f64::from(definition.variant_basis_points);
    let trial = Trial::restore(arms, State::new(design), [10_000.0 - variant, variant], rules);
    Ok(trial.map_err(|error| error.to_string())?.view())
}

fn comparison(look: &Look) -> ExperimentLook {
    let compared = look.comparison;
    let (lift, interval, undefined) = match look.lift {
        Lift::Defined { value, interval } => (Some(value), interval, ""),
        Lift::Undefined(NoLift::TooFew) => (None, None, "the control has fewer than two trades"),
        Lift::Undefined(NoLift::ControlMayBeZero) => {
            (None, None, "the control's mean may be 0, of which there is no share")
        }
        Lift::Undefined(NoLift::NotFinite) => (None, None, "the control's mean is next to 0"),
    };
    let finite = |number: f64| Some(number).filter(|number| number.is_finite());
    ExperimentLook {
        lift,
        lift_low: interval.map(|(low, _)| low),
        lift_high: interval.map(|(_, high)| high),
        lift_undefined: undefined.to_owned(),
        difference: compared.map(|one| one.difference),
        difference_low: look.difference_interval.map(|(low, _)| low),
        difference_high: look.difference_interval.map(|(_, high)| high),
        t: compared.and_then(|one| finite(one.t)),
        nu: compared.and_then(|one| finite(one.nu)),
        p: compared.map(|one| one.p),
        d: compared.and_then(|one| finite(one.d)),
        g: compared.and_then(|one| finite(one.g)),
        z_star: compared.and_then(|one| finite(one.z_star)),
        information: look.information,
        mismatch: look.mismatch,
        power: look.power,
        trades_needed: look.still_needed,
        equivalence_p: look.equivalence_p,
        ..ExperimentLook::default()
    }
}

/// `None`: no trades have such moments.
fn of_message(arm: Option<&ArmTally>) -> Option<Moments> {
    let Some(arm) = arm else { return Some(Moments::new()) };
    let parts = MomentParts {
        n: arm.n,
        origin: arm.origin,
        mean: arm.mean_less_origin,
        m2: arm.m2,
        m3: arm.m3,
    };
    Moments::from_parts(parts)
}

fn to_message(moments: &Moments, summary: &ArmSummary) -> ArmTally {
    let parts = moments.parts();
    ArmTally {
        n: parts.n,
        origin: parts.origin,
        mean_less_origin: parts.mean,
        m2: parts.m2,
        m3: parts.m3,
        mean: moments.mean(),
        deviation: summary.sd,
        mean_low: summary.interval.map(|(low, _)| low),
        mean_high: summary.interval.map(|(_, high)| high),
    }
}

fn differ(
    id: &str,
    (first, definition): (&str, &ExperimentDefinition),
    (other, unlike): (&str, &ExperimentDefinition),
) -> Error {
    let about = |node: &str, one: &ExperimentDefinition| {
        format!("{node} has {} ({})", format::or_none(&one.hash), page::tries(one))
    };
    let message = format!(
        "{id} is not the same experiment on all nodes, so its trades are not added up: {}, {}",
        about(first, definition),
        about(other, unlike)
    );
    let next = "name the nodes that share an experiment with -n, or leave out --merge";
    Error::new(Kind::Conflict, "ABORTED", "DEFINITIONS_DIFFER", message, next)
}

fn unreadable(id: &str, why: &str) -> Error {
    let message = format!("the agent's tallies of {id} can't be added up: {why}");
    let next = "compare the versions with `genesisctl version`";
    Error::new(Kind::Internal, "INTERNAL", "ANSWER_UNREADABLE", message, next)
}
