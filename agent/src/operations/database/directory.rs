//! Tells the outside which databases there are, at the start and whenever the configuration changes.

use std::sync::Arc;

use async_trait::async_trait;

use super::Config;
use crate::config::Follower;
use crate::outside::database::directory::{Databases, Entry};

/// Keeps the directory of the outside what the configuration says.
pub struct Directory(pub Arc<Databases>);

impl Directory {
    /// The databases are these from now on.
    pub fn fill(&self, config: &Config) {
        let entries = config.instances.iter().map(|instance| Entry {
            target: instance.target.clone(),
            pooler: instance.pgbouncer.clone(),
            spared_roles: instance.spared_roles.clone(),
            trades: instance.trades.clone(),
        });
        self.0.replace(entries.collect());
    }
}

#[async_trait]
impl Follower for Directory {
    async fn follow(&self, config: &crate::config::Config) {
        self.fill(&config.database);
    }
}
