//! How old the newest verified backup is, as the agent's own state tells.

use std::time::Duration;

use genesis_storage::{BackupLevel, BackupRecord, VerifiedBackup, WantedBackup, verified_backup};

use super::Health;
use crate::outside::database::Engine;
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::probes::{Measured, Outcome};

/// Of a source, so many backups are looked at.
const LOOKED_AT: usize = 1_000;
/// Whose age does not matter here is not too old.
const ANY_AGE: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Health {
    /// Hours since the newest backup of `source` that is verified to `level`; infinite when there is none.
    pub(super) async fn measure_backup(&self, source: &str, level: BackupLevel) -> Outcome {
        let records = self
            .state
            .read(|reading| Ok(reading.backups().list(Some(source), LOOKED_AT)?))
            .map_err(|error| error.chain())?;
        if records.is_empty() {
            // On a new host nobody can have made one yet: it is as bad as if the last one was made before that.
            let since =
                self.state.read(|reading| Ok(reading.identity().get()?.map(|it| it.created_at)));
            let since = since.map_err(|error| error.chain())?;
            let age = since.map(|since| self.outside.clock.now().duration_since(since));
            let value = age.map_or(f64::INFINITY, |age| age.unsigned_abs().as_secs_f64() / 3_600.0);
            let detail =
                format!("there is no backup of {source}, {value:.1} h after the first start");
            return Ok(Measured { value, detail });
        }
        let system = self.system_of(source, &records).await?;
        let wanted = WantedBackup {
            source,
            level,
            max_age: ANY_AGE,
            system_identifier: Some(system.as_str()),
        };
        let now = self.outside.clock.now();
        match verified_backup(&records, &wanted, now) {
            VerifiedBackup::Yes(backup) => {
                let age = now.duration_since(backup.started_at).unsigned_abs();
                let (value, id) = (age.as_secs_f64() / 3_600.0, &backup.id);
                let detail = format!(
                    "backup {id} of {source}, {value:.1} h old, is verified to {}",
                    backup.level.unwrap_or(level)
                );
                Ok(Measured { value, detail })
            }
            VerifiedBackup::No(why) => Ok(Measured { value: f64::INFINITY, detail: why }),
            VerifiedBackup::Unknown(why) => Err(why),
        }
    }

    /// Which system a backup must be of: the one that runs. What has no name of its own is what its backups say.
    async fn system_of(&self, source: &str, records: &[BackupRecord]) -> Result<String, String> {
        let known = self.outside.databases.get(source).ok();
        let Some(Engine::Postgres(postgres)) = known.map(|known| known.entry.target.engine.clone())
        else {
            return Ok(records.first().map_or_else(String::new, |it| it.system_identifier.clone()));
        };
        let told = async {
            let mut session = Session::open(&postgres, "backup", Limits::LOOK).await?;
            let told = session.text("SELECT system_identifier FROM pg_control_system()").await;
            session.close().await;
            told
        };
        told.await.map_err(|failure| format!("which system {source} is can't be told: {failure}"))
    }
}
