//! Every seam to the world, in one struct.

use std::sync::Arc;

pub mod acme;
pub mod allocator;
pub mod archive;
pub mod aside;
pub mod clock;
pub mod control;
pub mod coordinator;
pub mod database;
pub mod dial;
pub mod failpoint;
pub mod files;
pub mod handshake;
pub mod heads;
pub mod hooks;
pub mod host;
pub mod lease;
pub mod leftovers;
pub mod links;
pub mod mail;
pub mod market;
pub mod names;
pub mod notify;
#[cfg(test)]
#[path = "../../../tests/harness/ports.rs"]
pub mod ports;
pub mod probes;
pub mod process;
pub mod replaced;
pub mod secret;
pub mod survey;
pub mod tasks;
pub mod telemetry;
pub mod trees;
pub mod web;

pub use archive::Archive;
pub use clock::{Clock, ManualClock, SystemClock};
pub use host::{Appending, Holders, Host};
pub use probes::{HostProber, Probe, Prober};

/// What the agent reaches the world through; tests put fakes at the seams.
#[derive(Clone)]
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The host.
    pub host: Arc<Host>,
    /// What health's checks look through.
    pub prober: Arc<dyn Prober>,
    /// Single requests over HTTP.
    pub web: Arc<web::Web>,
    /// What alerts are sent through.
    pub notifier: Arc<dyn notify::Notifier>,
    /// The configured databases.
    pub databases: Arc<database::directory::Databases>,
    /// The trading system.
    pub market: Arc<dyn market::Market>,
    /// The trading system's control in an emergency.
    pub desk: Arc<dyn control::Desk>,
    /// Certificate authorities.
    pub acme: Arc<dyn acme::Acme>,
    /// What holds the fleet together.
    pub coordinator: Arc<dyn coordinator::Coordinator>,
}

impl Outside {
    /// The real world.
    pub fn real() -> Self {
        let clock = Arc::new(SystemClock::new());
        let databases: Arc<database::directory::Databases> = Arc::default();
        let prober =
            Arc::new(HostProber::new(Arc::clone(&clock) as Arc<dyn Clock>, Arc::clone(&databases)));
        let web: Arc<web::Web> = Arc::default();
        Self {
            host: Arc::new(Host),
            prober,
            notifier: Arc::new(notify::RealNotifier::new(
                Arc::clone(&web),
                Arc::clone(&clock) as _,
            )),
            web,
            databases,
            market: Arc::new(market::RealMarket::default()),
            desk: Arc::new(control::RealDesk::default()),
            acme: Arc::new(acme::RealAcme::new(Arc::clone(&clock) as _)),
            coordinator: Arc::new(coordinator::RealCoordinator),
            clock,
        }
    }
}
