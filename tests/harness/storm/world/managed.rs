//! An application that the agent updates.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::application::Application;
use crate::package_index::PackageIndex;
use crate::updates::{advisories, configured_project};
use crate::{Output, TestAgent};

/// The application, and where its libraries come from.
pub struct Managed {
    /// The application.
    pub app: Application,
    /// The index that its tools know.
    pub index: Arc<PackageIndex>,
    /// A file with all that is known of vulnerabilities: none of what it is made of.
    advisories: PathBuf,
}

impl Managed {
    /// It runs, in its first release.
    pub(super) fn lay_out() -> Self {
        let index = Arc::new(PackageIndex::start());
        let app = Application::lay_out(&index);
        app.restart();
        let file = app.root().with_file_name("advisories.zip");
        advisories(&file, &[]);
        Self { app, index, advisories: file }
    }

    /// What the agent is told of it. Its tools ask the index by the first address, the agent asks it by the second whether
    /// it is well.
    pub(super) fn config(&self, index: SocketAddr, health: SocketAddr) -> String {
        self.app.ask_index_at(&self.index, index);
        let told = configured_project(&self.app, "", &self.app.path("releases"));
        told.replace(&self.app.address().to_string(), &health.to_string())
    }

    /// Tells the agent what is known of vulnerabilities, without which it updates nothing. It has another look at the
    /// application, and does what it still owes.
    pub fn tell(&self, agent: &TestAgent) -> Output {
        let file = self.advisories.to_str().expect("UTF-8");
        agent.ctl(&["deps", "import-advisories", file, "--reason", "load"])
    }
}
