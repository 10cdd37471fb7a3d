//! Every seam to the world, in one struct.

use std::sync::Arc;

pub mod archive;
pub mod aside;
pub mod clock;
pub mod dial;
pub mod failpoint;
pub mod files;
pub mod heads;
pub mod hooks;
pub mod host;
pub mod lease;
pub mod probes;
pub mod process;
pub mod web;

pub use archive::Archive;
pub use clock::{Clock, ManualClock, SystemClock};
pub use host::{Appending, Holders, Host};

/// What the agent reaches the world through; tests put fakes at the seams.
#[derive(Clone)]
pub struct Outside {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The host.
    pub host: Arc<Host>,
}

impl Outside {
    /// The real world.
    pub fn real() -> Self {
        Self { clock: Arc::new(SystemClock::new()), host: Arc::new(Host) }
    }
}
