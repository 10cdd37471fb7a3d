//! `param set`, `param rollback`.

use genesis_client::Error;
use genesis_client::v1::{Parameter, RollbackParameterRequest, SetParameterRequest};

use super::super::experiment::one_agent;
use super::super::incomplete_answer;
use super::SERVICE;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::plan;
use crate::render::{Answer, View};

pub(super) async fn set(
    session: &Session<'_>,
    strategy: &str,
    (name, value): &(String, String),
    (expected_version, fleet): (u64, bool),
) -> Result<Exit, Halt> {
    one_agent(session, fleet)?;
    let request = SetParameterRequest {
        strategy: strategy.to_owned(),
        name: name.clone(),
        value: value.clone(),
        expected_version,
        plan_hash: session.plan_hash(),
        fleet,
    };
    if session.global.plan {
        return plan::ask!(session, request, parameters, plan_set_parameter);
    }
    reason(session, "param set", "why is it another one?")?;
    consent(
        session,
        SERVICE,
        "SetParameter",
        &format!("set {name} of {strategy}{}", place(fleet)),
    )?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.parameters().set_parameter(r).await })
                .await?;
            let json = session.json("SetParameterResponse", &response)?;
            let parameter = response.parameter;
            let exit = exit(fleet, parameter.as_ref());
            Ok(Answer::new(json, View::line(line(parameter)?)).exit(exit))
        })
        .await
}

pub(super) async fn rollback(
    session: &Session<'_>,
    strategy: &str,
    name: &str,
    (to_version, fleet): (u64, bool),
) -> Result<Exit, Halt> {
    one_agent(session, fleet)?;
    let request = RollbackParameterRequest {
        strategy: strategy.to_owned(),
        name: name.to_owned(),
        to_version,
        plan_hash: session.plan_hash(),
        fleet,
    };
    if session.global.plan {
        return plan::ask!(session, request, parameters, plan_rollback_parameter);
    }
    reason(session, "param rollback", "why is the earlier one better?")?;
    let what = format!("take {name} of {strategy} back to an earlier version{}", place(fleet));
    consent(session, SERVICE, "RollbackParameter", &what)?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.parameters().rollback_parameter(r).await },
                )
                .await?;
            let json = session.json("RollbackParameterResponse", &response)?;
            let parameter = response.parameter;
            let exit = exit(fleet, parameter.as_ref());
            Ok(Answer::new(json, View::line(line(parameter)?)).exit(exit))
        })
        .await
}

/// Where the fleet was asked for and its agent knows of none, it was done on that host only.
fn exit(fleet: bool, parameter: Option<&Parameter>) -> Exit {
    match parameter {
        Some(set) if fleet && set.fleet_version == 0 => Exit::Unknown,
        _ => Exit::Ok,
    }
}

fn line(parameter: Option<Parameter>) -> Result<String, Error> {
    let set = parameter.ok_or_else(|| incomplete_answer("the parameter"))?;
    let fleet = match set.fleet_version {
        0 => String::new(),
        version => format!(", version {version} of the fleet"),
    };
    let (name, strategy, value, version) = (set.name, set.strategy, set.value, set.version);
    Ok(format!("{name} of {strategy} is {value} (version {version}{fleet})"))
}

fn place(fleet: bool) -> &'static str {
    if fleet { " in the whole fleet" } else { "" }
}
