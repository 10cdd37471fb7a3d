//! `experiment create`, `experiment conclude`.

use std::collections::BTreeSet;

use genesis_client::Error;
use genesis_client::v1::{
    ConcludeExperimentRequest, ConclusionAction, CreateExperimentRequest, Experiment,
    ExperimentDefinition, ExperimentDesign, ExperimentRules, ParameterTrial,
};

use super::super::incomplete_answer;
use super::{Action, Create, Design, SERVICE, page};
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::{Answer, View};

/// The most parameters of an experiment.
const MOST_PARAMETERS: usize = 16;

pub(super) async fn create(session: &Session<'_>, arguments: &Create) -> Result<Exit, Halt> {
    let definition = definition(arguments)?;
    one_agent(session, arguments.fleet)?;
    let names: Vec<_> = definition.parameters.iter().map(|one| one.name.as_str()).collect();
    let place = if arguments.fleet { " in the whole fleet" } else { "" };
    let what = format!("try {} of {}{place}", names.join(", "), arguments.strategy);
    let request = CreateExperimentRequest {
        definition: Some(definition.clone()),
        plan_hash: session.plan_hash(),
        fleet: arguments.fleet,
    };
    if session.global.plan {
        return plan::ask!(session, request, experiments, plan_create_experiment);
    }
    consent(session, SERVICE, "CreateExperiment", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.experiments().create_experiment(r).await },
                )
                .await?;
            let json = session.json("CreateExperimentResponse", &response)?;
            let experiment = found(response.experiment)?;
            Ok(Answer::new(
                json,
                View { lead: begun(&experiment, &arguments.owner), ..View::default() },
            ))
        })
        .await
}

fn definition(arguments: &Create) -> Result<ExperimentDefinition, Halt> {
    let mut known = BTreeSet::new();
    if let Some((twice, _)) = arguments.params.iter().find(|(name, _)| !known.insert(name)) {
        return Err(Halt::Usage(format!("--param names {twice} twice: it can have one value")));
    }
    if arguments.params.len() > MOST_PARAMETERS {
        let count = arguments.params.len();
        return Err(Halt::Usage(format!(
            "an experiment tries at most {MOST_PARAMETERS} parameters, and {count} are named"
        )));
    }
    let trial = |(name, variant): &(String, String)| ParameterTrial {
        name: name.clone(),
        variant: variant.clone(),
        ..ParameterTrial::default()
    };
    let design = match arguments.design {
        Design::Sequential => ExperimentDesign::Sequential,
        Design::Fixed => ExperimentDesign::Fixed,
        Design::LanDemets => ExperimentDesign::LanDemets,
        Design::AlwaysValid => ExperimentDesign::AlwaysValid,
    };
    // 0 stands for the procedures' number.
    let rules = ExperimentRules {
        least_trades: arguments.least.unwrap_or_default(),
        planned_trades: arguments.planned.unwrap_or_default(),
        most_trades: arguments.most.unwrap_or_default(),
        promote_lift: arguments.promote_lift.unwrap_or_default(),
        rollback_lift: arguments.rollback_lift.unwrap_or_default(),
        least_effect: arguments.least_effect.unwrap_or_default(),
        alpha: arguments.alpha.unwrap_or_default(),
        guarded_rollback: arguments.guarded_rollback,
    };
    Ok(ExperimentDefinition {
        strategy: arguments.strategy.clone(),
        parameters: arguments.params.iter().map(trial).collect(),
        variant_basis_points: arguments.split.0,
        design: design.into(),
        rules: Some(rules),
        seed: arguments.seed.clone(),
        owner: arguments.owner.clone(),
        hash: String::new(),
    })
}

/// `owner`: who was asked to take the looks, if anybody was.
fn begun(experiment: &Experiment, owner: &str) -> Vec<String> {
    let Some(definition) = &experiment.definition else { return vec![experiment.id.clone()] };
    let mut lines = vec![format!("{} has begun: {}", experiment.id, page::tries(definition))];
    lines.push(page::split(definition));
    if !owner.is_empty() {
        lines.push(format!("decided by {owner} alone; any other host only counts"));
    }
    if !experiment.fleet_id.is_empty() {
        let id = &experiment.fleet_id;
        lines.push(format!(
            "in the whole fleet it is {id}: `genesisctl experiment show {id}` shows how each host is at it"
        ));
    }
    lines.push(format!("definition hash: {}", definition.hash));
    lines
}

/// What changes the whole fleet is told to one agent, which tells the fleet: each other one would do it again.
pub(in super::super) fn one_agent(session: &Session<'_>, fleet: bool) -> Result<(), Halt> {
    match fleet && session.many() {
        true => Err(Halt::Usage(
            "--fleet is told to one agent, which tells the fleet: name it with -n".to_owned(),
        )),
        false => Ok(()),
    }
}

pub(super) async fn conclude(
    session: &Session<'_>,
    id: &str,
    (action, fleet): (Action, bool),
) -> Result<Exit, Halt> {
    one_agent(session, fleet)?;
    let (action, what) = match action {
        Action::Promote => (ConclusionAction::Promote, "make the variant's values current and end"),
        Action::Rollback => (ConclusionAction::Rollback, "take the variant back and end"),
    };
    let request = ConcludeExperimentRequest {
        id: id.to_owned(),
        action: action.into(),
        plan_hash: session.plan_hash(),
        fleet,
    };
    if session.global.plan {
        return plan::ask!(session, request, experiments, plan_conclude_experiment);
    }
    let place = if fleet { " in the whole fleet" } else { "" };
    reason(session, "experiment conclude", "why does it not go on?")?;
    consent(session, SERVICE, "ConcludeExperiment", &format!("{what} the experiment {id}{place}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move {
                    c.experiments().conclude_experiment(r).await
                })
                .await?;
            let json = session.json("ConcludeExperimentResponse", &response)?;
            let experiment = found(response.experiment)?;
            Ok(Answer::new(json, View::line(page::line(&experiment))))
        })
        .await
}

fn found(experiment: Option<Experiment>) -> Result<Experiment, Error> {
    experiment.ok_or_else(|| incomplete_answer("the experiment"))
}
