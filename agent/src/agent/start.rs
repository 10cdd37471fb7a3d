//! What comes first when an agent starts: its state is opened, the host identified, and what a crash cut off settled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use genesis_storage::{FleetRecord, GapRecord, Identity, Intent, Options, Store};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::config::{Config, Places};
use crate::error::{Error, Result};
use crate::fleet;
use crate::operations::Operations;
use crate::operations::backup;
use crate::operations::backup::turned;
use crate::operations::backup::turnover::{self, Turned};
use crate::operations::baselines;
use crate::operations::baselines::job::RecalculationTable;
use crate::operations::certificates::job::RenewTable;
use crate::operations::database::job::CareTable;
use crate::operations::dependencies::update::settle;
use crate::operations::experiments::job::UpkeepTable;
use crate::operations::health::{self, RemediationTable};
use crate::operations::logs::HostIdentity;
use crate::operations::logs::job::{ARCHIVE_RETENTION, CLEANUP, ExpiryTable, LOCAL_RETENTION};
use crate::operations::logs::rebuild::RebuildTable;
use crate::operations::logs::rotate::RotationTable;
use crate::operations::matrices;
use crate::operations::matrices::job::UpdateTable;
use crate::operations::recovery::drill::{self, DrillTable};
use crate::outside::{Outside, failpoint};
use crate::runs::{Reconcile, Runs, system_time};
use crate::server::listen::Addresses;
use crate::server::{self, Listeners};
use crate::state::State;

pub(super) fn process() -> String {
    format!("pid {}", std::process::id())
}

fn open_state(places: &Places) -> Result<State> {
    let (newest, follow) = watch::channel(0);
    let on_oplog = Box::new(move |sequence: u64| {
        // Two writers may report in the other order.
        newest.send_if_modified(|known| {
            let newer = sequence > *known;
            *known = sequence.max(*known);
            newer
        });
    });
    let options = Options { on_oplog: Some(on_oplog), ..Options::default() };
    let store = Store::open(&places.database(), options).map_err(|error| {
        let code = error.code();
        Error::unavailable(code, "can't open the agent's state").caused_by(error)
    })?;
    Ok(State::new(Arc::new(store), follow))
}

/// Binds the places at which the agent can be reached.
pub(super) async fn bind(places: &Places, config: &Config) -> Result<Listeners> {
    Listeners::bind(Addresses {
        socket: &places.socket,
        group: &config.agent.operator_group,
        plaintext: config.listen.plaintext_grpc,
        tls: config.tls.is_some().then_some(config.listen.grpc),
        http: config.listen.http,
        https: config.listen.https,
    })
    .await
}

/// Opens the state; an earlier one takes its place first, where that is wanted. Also what came of that.
pub(super) fn take_state(places: &Places, now: Timestamp) -> Result<(State, Option<Turned>)> {
    let turned = turnover::at_start(&places.state, &places.database(), now)?;
    Ok((open_state(places)?, turned))
}

/// Whether the state that was here is gone: this one is nobody's yet and does not say so, and an agent has left other
/// files. Told by what lasts, so that it is also known to the start after one that was cut off.
fn is_lost(state: &State, places: &Places) -> Result<bool> {
    let known =
        state.read(|it| Ok(it.identity().get()?.is_some() || it.gaps().get()?.is_some()))?;
    let files = [
        places.observations(),
        places.trades(),
        places.series(),
        places.advisories(),
        places.emergency_flag(),
    ];
    Ok(!known && files.iter().any(|file| file.exists()))
}

/// Writes down what became of the state before it was opened.
pub(super) async fn tell_of_state(
    (state, places): (&State, &Places),
    turned: Option<Turned>,
    now: Timestamp,
) -> Result<()> {
    failpoint::hit("state.opened");
    turned::settle(state, &places.state, turned, now).await?;
    if is_lost(state, places)? {
        let detail = format!(
            "{} was gone when the agent started, so that nothing of before {now:.0} is known; `genesisctl rollback \
             --component state --to BACKUP --confirm state --reason lost` brings a backup of it back",
            places.database().display()
        );
        tracing::error!("{detail}");
        let gap = GapRecord { at: now, lost: true, detail: detail.clone() };
        let intent = Intent::new(now, "system:agent", "state.lost")
            .target(places.database().display().to_string())
            .outcome("STATE_LOST")
            .detail(detail);
        state.write(intent, move |writing| Ok(writing.gaps().put(&gap)?)).await?;
    }
    Ok(())
}

/// The host's identity, made at first start; a changed name is recorded.
pub(super) async fn identify(state: &State, outside: &Outside) -> Result<HostIdentity> {
    let (now, name) = (outside.clock.now(), outside.host.hostname());
    let known = state.read(|reading| Ok(reading.identity().get()?))?;
    let identity = match known {
        Some(identity) if identity.hostname == name => identity,
        Some(identity) => {
            let detail = format!("was {}", identity.hostname);
            let renamed = Identity { hostname: name.clone(), ..identity };
            write_identity(state, now, "host.renamed", &detail, renamed).await?
        }
        None => {
            let host_id = ulid::Ulid::from_datetime(system_time(now)).to_string();
            let identity = Identity { host_id, created_at: now, hostname: name.clone() };
            write_identity(state, now, "host.identified", "", identity).await?
        }
    };
    Ok(HostIdentity { id: identity.host_id, name })
}

/// Where genesisctl reaches this agent: as it is configured, over TLS by its host's name, or on this host only.
pub(super) fn node_of(
    config: &Config,
    places: &Places,
    (name, tls): (&str, Option<SocketAddr>),
) -> String {
    match (config.fleet.advertise.as_str(), tls) {
        ("", Some(address)) => format!("{name}:{}", address.port()),
        ("", None) => format!("unix:{}", places.socket.display()),
        (advertise, _) => advertise.to_owned(),
    }
}

/// Who this agent is in its fleet; the next one of this host will know of it.
pub(super) async fn member(
    state: &State,
    now: Timestamp,
    (host, node): (&HostIdentity, String),
    fleet: &fleet::Config,
) -> Result<fleet::Me> {
    let before = state.read(|reading| Ok(reading.fleet().get()?))?.unwrap_or_default().session;
    let session = ulid::Ulid::from_datetime(system_time(now)).to_string();
    if fleet.etcd.is_some() {
        let record = FleetRecord { session: session.clone() };
        let intent = Intent::new(now, "system:agent", "fleet.joined").target(fleet.name.clone());
        state.write(intent, move |writing| Ok(writing.fleet().put(&record)?)).await?;
    }
    Ok(fleet::Me {
        host_id: host.id.clone(),
        host: host.name.clone(),
        session,
        before,
        version: server::agent_rpc::VERSION.to_owned(),
        node,
        since: now,
    })
}

async fn write_identity(
    state: &State,
    now: Timestamp,
    action: &str,
    detail: &str,
    identity: Identity,
) -> Result<Identity> {
    let intent =
        Intent::new(now, "system:agent", action).target(identity.hostname.clone()).detail(detail);
    state
        .write(intent, move |writing| {
            writing.identity().put(&identity)?;
            Ok(identity)
        })
        .await
}

/// What must be settled before anything new begins: the start is recorded, and what a crash cut off is
/// brought to an end.
pub(super) async fn history_first(
    operations: &Operations,
    state: &State,
    runs: &Runs,
) -> Result<()> {
    let Operations {
        logs,
        health: _,
        breaker: _,
        baselines: _,
        experiments: _,
        matrices: _,
        dependencies,
        database,
        backup,
        certificates: _,
        recovery,
        storage: _,
        config,
        vitals: _,
    } = operations;
    let now = config.loaded_at();
    let intent = Intent::new(now, "system:agent", "agent.started")
        .target(process())
        .detail(format!("version {}", server::agent_rpc::VERSION));
    state.note(intent).await?;
    config.record("system:agent", "start").await?;
    backup.settle().await?;
    dependencies.settle().await?;
    recovery.drills.sweep().await;
    let mut tables: Vec<Arc<dyn Reconcile>> = vec![
        Arc::new(backup::MakeTable(Arc::clone(backup))),
        Arc::new(backup::VerifyTable),
        Arc::new(backup::RestoreTable),
        Arc::new(RotationTable(Arc::clone(logs))),
        Arc::new(RebuildTable),
        Arc::new(ExpiryTable(CLEANUP)),
        Arc::new(ExpiryTable(LOCAL_RETENTION)),
        Arc::new(ExpiryTable(ARCHIVE_RETENTION)),
        Arc::new(CareTable(Arc::clone(database))),
        Arc::new(RenewTable),
        Arc::new(UpkeepTable),
        Arc::new(RecalculationTable(baselines::RECALCULATE)),
        Arc::new(RecalculationTable(baselines::UPKEEP)),
        Arc::new(UpdateTable(matrices::UPDATE)),
        Arc::new(UpdateTable(matrices::UPKEEP)),
        Arc::new(DrillTable(drill::RUN, Arc::clone(&recovery.drills))),
        Arc::new(DrillTable(drill::JOB, Arc::clone(&recovery.drills))),
    ];
    tables.extend(settle::Table::each(dependencies));
    let actions = health::run_kinds().into_iter();
    tables.extend(actions.map(|(kind, _)| Arc::new(RemediationTable(kind)) as Arc<dyn Reconcile>));
    runs.reconcile(&tables).await?;
    recovery.dispatcher.settle().await
}

/// Tells systemd that the checks go round, where it wants to know, and how soon it wants to know again.
pub(super) fn tell_systemd() -> Option<Duration> {
    let wanted = sd_notify::watchdog_enabled()?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    Some(wanted / 2)
}
