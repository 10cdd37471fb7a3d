//! The fleet's matrix as the contract has it.

use genesis_proto::v1;

use super::super::sharing::Sharing;
use super::super::sharing::acks::{Acked, OfFleet, State};
use super::super::sharing::published::Published;
use crate::server::convert::time;
use crate::server::telling::fitting;

fn sharing(sharing: Sharing) -> v1::MatrixSharing {
    match sharing {
        Sharing::Off => v1::MatrixSharing::Off,
        Sharing::Publish => v1::MatrixSharing::Publish,
        Sharing::Follow => v1::MatrixSharing::Follow,
    }
}

fn published(it: &Published) -> v1::FleetMatrix {
    v1::FleetMatrix {
        number: it.number,
        published_at: Some(time(it.at)),
        hostname: it.host.clone(),
        host_id: it.host_id.clone(),
        version: it.version,
        digest: it.digest.clone(),
        series: it.series,
        calculated_at: Some(time(it.calculated_at)),
        going_back: it.back,
        hash: it.hash.clone(),
        bytes: it.bytes,
    }
}

fn host(it: &Acked) -> v1::FleetMatrixHost {
    let state = match it.ack.state {
        State::InForce => v1::FleetMatrixState::InForce,
        State::RollingOut => v1::FleetMatrixState::RollingOut,
        State::Waiting => v1::FleetMatrixState::Waiting,
        State::Refused => v1::FleetMatrixState::Refused,
        State::RolledBack => v1::FleetMatrixState::RolledBack,
    };
    v1::FleetMatrixHost {
        hostname: it.ack.host.clone(),
        host_id: it.host_id.clone(),
        sharing: sharing(it.ack.sharing).into(),
        number: it.ack.number,
        state: state.into(),
        percent: it.ack.percent,
        version: it.ack.version,
        since: Some(time(it.ack.since)),
        why: it.ack.why.clone(),
        alive: it.alive,
    }
}

/// The answer of GetFleetMatrix.
pub(super) fn response(own: Sharing, of: &OfFleet) -> v1::GetFleetMatrixResponse {
    let (hosts, more) = fitting(of.hosts.iter().map(host));
    v1::GetFleetMatrixResponse {
        sharing: sharing(own).into(),
        current: of.versions.first().map(published),
        versions: of.versions.iter().map(published).collect(),
        hosts,
        more,
    }
}
