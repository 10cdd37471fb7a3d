//! `matrix fleet`: the matrix that is published for all hosts, and which of them have it.

use genesis_client::v1::{
    FleetMatrix, FleetMatrixHost, FleetMatrixState, GetFleetMatrixRequest, GetFleetMatrixResponse,
    MatrixSharing,
};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format::{self, count};
use crate::render::{Answer, Cell, Part, View};

const COLUMNS: &[&str] = &["HOST", "DOES", "NUMBER", "STATE", "VERSION", "SINCE", "AGENT", "WHY"];
const VERSIONS: &[&str] =
    &["NUMBER", "PUBLISHED", "BY", "VERSION", "CALCULATED", "SERIES", "SIZE", "DIGEST"];

pub(super) async fn fleet(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let request = GetFleetMatrixRequest {};
            let response = client
                .call(request, |c, r| async move { c.matrices().get_fleet_matrix(r).await })
                .await?;
            let json = session.json("GetFleetMatrixResponse", &response)?;
            let exit = exit(&response);
            let detailed = session.global.verbose && !session.many();
            let view = View {
                columns: COLUMNS,
                lead: if session.many() { Vec::new() } else { vec![lead(&response)] },
                rows: response.hosts.iter().map(row).collect(),
                parts: if detailed { vec![versions(&response)] } else { Vec::new() },
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit))
        })
        .await
}

/// The number of the version that is published; 0: none is.
fn published(response: &GetFleetMatrixResponse) -> u64 {
    response.current.as_ref().map_or(0, |it| it.number)
}

/// What is published, and how many have it.
fn lead(response: &GetFleetMatrixResponse) -> String {
    let Some(current) = &response.current else {
        let why = match response.hosts.as_slice() {
            [] => "no host publishes or follows: `[matrices] fleet` of its configuration says so",
            _ => "nothing is published for the fleet yet",
        };
        return why.to_owned();
    };
    let has = |it: &&FleetMatrixHost| stands(it, current.number) == Stands::InForce;
    let back = if current.going_back { ", which was gone back to" } else { "" };
    format!(
        "version {} of {} series{back}, published at {} by {}: in force on {} of {}",
        current.number,
        count(current.series.into()),
        format::time(current.published_at.as_ref()),
        current.hostname,
        count(response.hosts.iter().filter(has).count() as u64),
        format::plural(response.hosts.len() as u64, "host"),
    )
}

/// How a host stands to what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    InForce,
    /// It has it not, and will not have it by itself.
    Against,
    /// It has not said so yet, or nobody can say it any more.
    Open,
}

fn stands(host: &FleetMatrixHost, number: u64) -> Stands {
    use FleetMatrixState as S;
    match host.state() {
        // What a host said whose agent is gone says nothing of now.
        _ if !host.alive || host.number != number => Stands::Open,
        S::InForce => Stands::InForce,
        S::Refused | S::RolledBack => Stands::Against,
        S::RollingOut | S::Waiting | S::Unspecified => Stands::Open,
    }
}

fn exit(response: &GetFleetMatrixResponse) -> Exit {
    let number = published(response);
    let all: Vec<Stands> = response.hosts.iter().map(|host| stands(host, number)).collect();
    if response.more || all.contains(&Stands::Open) {
        Exit::Unknown
    } else if all.contains(&Stands::Against) {
        Exit::Findings
    } else {
        Exit::Ok
    }
}

fn row(host: &FleetMatrixHost) -> Vec<Cell> {
    let does = match host.sharing() {
        MatrixSharing::Publish => "publishes",
        MatrixSharing::Follow => "follows",
        MatrixSharing::Off | MatrixSharing::Unspecified => format::NONE,
    };
    let number = |number: u64| match number {
        0 => format::NONE.to_owned(),
        number => number.to_string(),
    };
    let why = match host.state() {
        FleetMatrixState::RollingOut => format!("{} % of its consumers use it", host.percent),
        _ => host.why.clone(),
    };
    vec![
        Cell::from(host.hostname.as_str()),
        Cell::from(does),
        Cell::number(number(host.number)),
        Cell::fleet_matrix_state(host.state(), host.alive),
        Cell::number(number(host.version)),
        Cell::from(format::time(host.since.as_ref())),
        Cell::from(if host.alive { "up" } else { "gone" }),
        Cell::from(why),
    ]
}

fn versions(response: &GetFleetMatrixResponse) -> Part {
    let row = |it: &FleetMatrix| {
        vec![
            Cell::number(it.number.to_string()),
            Cell::from(format::time(it.published_at.as_ref())),
            Cell::from(it.hostname.as_str()),
            Cell::number(it.version.to_string()),
            Cell::from(format::time(it.calculated_at.as_ref())),
            Cell::number(count(it.series.into())),
            Cell::number(format::bytes(it.bytes)),
            Cell::from(it.digest.as_str()),
        ]
    };
    let title = "versions that are kept".to_owned();
    let rows = response.versions.iter().map(row).collect();
    Part { title, columns: VERSIONS, rows, ..Part::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u64, state: FleetMatrixState, alive: bool) -> FleetMatrixHost {
        FleetMatrixHost { number, state: state.into(), alive, ..Default::default() }
    }

    #[test]
    fn only_a_fleet_that_has_it_all_over_is_well() {
        use FleetMatrixState::{InForce, Refused, RolledBack, RollingOut, Waiting};

        let has = || host(7, InForce, true);
        for (hosts, is) in [
            (vec![], Exit::Ok),
            (vec![has(), has()], Exit::Ok),
            (vec![has(), host(7, RollingOut, true)], Exit::Unknown),
            (vec![has(), host(7, Waiting, true)], Exit::Unknown),
            // It has an older one, or said so before its agent was gone.
            (vec![has(), host(6, InForce, true)], Exit::Unknown),
            (vec![has(), host(7, InForce, false)], Exit::Unknown),
            (vec![has(), host(7, Refused, true)], Exit::Findings),
            (vec![has(), host(7, RolledBack, true)], Exit::Findings),
            // What is not known comes first.
            (vec![host(7, Refused, true), host(7, Waiting, true)], Exit::Unknown),
            // Of an older one it has gone back from.
            (vec![has(), host(6, RolledBack, true)], Exit::Unknown),
        ] {
            let current = Some(FleetMatrix { number: 7, ..Default::default() });
            let response = GetFleetMatrixResponse { current, hosts, ..Default::default() };
            assert_eq!(exit(&response), is, "{:?}", response.hosts);
        }
    }
}
