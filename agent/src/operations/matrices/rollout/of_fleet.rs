//! What the fleet changes of rollouts and versions: a matrix that is taken over, and a way back that the publisher went.

use std::sync::Arc;

use genesis_stats::correlation::Correlation;
use genesis_storage::MatrixRecord;

use super::super::calculate::Made;
use super::super::plan::{self, Back, By};
use super::super::sharing::CAUSE;
use super::super::{ACTOR, Matrices};
use super::Change;
use crate::error::{Error, Result};

impl Matrices {
    fn tally_of_stage(&self) -> String {
        match self.canary() {
            // What can't be read keeps nobody from going back.
            Some(canary) => self.stage_of(&canary).map(|it| it.to_text()).unwrap_or_default(),
            None => String::new(),
        }
    }

    async fn change_for_fleet(&self, change: Change<'_>) -> Result<()> {
        let staged = self.canary().is_some();
        self.change(change).await?;
        if staged && self.canary().is_none() {
            self.live().stage = None;
            self.metrics.staged(plan::FORCED);
        }
        Ok(())
    }

    /// Notes the number by which the fleet has a version.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(in super::super) async fn mark(
        &self,
        version: u64,
        number: u64,
        action: &'static str,
    ) -> Result<()> {
        let _alone = self.turn().await?;
        let Some(record) = self.versions().get(&version).cloned() else { return Ok(()) };
        let records = vec![MatrixRecord { fleet: number, ..(*record).clone() }];
        let by = By { at: self.now(), who: ACTOR, reason: "" };
        let detail = format!("it is version {number} of the fleet's");
        let change = Change { action, target: version, detail, by, records, values: None };
        self.change(change).await
    }

    /// Takes over a matrix of the fleet's: by stages, as one of its own; or at once, where the publisher went back to it.
    ///
    /// # Errors
    /// `ROLLOUT_RUNNING`, `EMERGENCY`, `PLAN_CHANGED`, `STORAGE_FAILED`.
    pub(in super::super) async fn take_over(
        &self,
        (record, matrix): (MatrixRecord, Correlation),
        back: bool,
        (who, reason): (&str, &str),
    ) -> Result<Arc<MatrixRecord>> {
        if !back {
            let against = self.serving().active().map_or(0, |it| it.version);
            let made = Made { record, matrix: Some(matrix), days: 0, fresh: 0, against };
            return self.admit(made, CAUSE, (who, reason)).await;
        }
        let _alone = self.turn().await?;
        let version = self.state.read(|reading| Ok(reading.matrices().next_version()?))?;
        let by = By { at: self.now(), who, reason };
        let mut record = MatrixRecord { version, ..record };
        (record.by, record.reason, record.cause) =
            (who.to_owned(), reason.to_owned(), CAUSE.to_owned());
        let detail = format!("{} as version {} of the fleet's", plan::ACTIVE, record.fleet);
        let records = plan::replace(&self.versions(), record, &self.tally_of_stage(), by);
        let values = Some((version, matrix.to_bytes()));
        let (action, target) = ("matrices.rolled-back", version);
        self.change_for_fleet(Change { action, target, detail, by, records, values }).await?;
        self.metrics.rolled_back();
        self.version(version)
    }

    /// Goes back to a version that is kept here, since the publisher went back to its content. It is version `number` of the
    /// fleet's from then on.
    ///
    /// # Errors
    /// `FLEET_MATRIX_GONE`, `STORAGE_RECORD_UNREADABLE`, `STORAGE_FAILED`.
    pub(in super::super) async fn go_back_for_fleet(
        &self,
        to: u64,
        number: u64,
        (who, reason): (&str, &str),
    ) -> Result<()> {
        let _alone = self.turn().await?;
        let versions = self.versions();
        let back =
            plan::back(&versions, to).map_err(|(_, why)| Error::conflict("PLAN_CHANGED", why))?;
        if let Back::Activate { to, .. } = back {
            self.readable(to)?;
        }
        let by = By { at: self.now(), who, reason };
        let mut records = plan::go_back(&versions, back, &self.tally_of_stage(), by);
        match records.iter_mut().find(|it| it.version == to) {
            Some(record) => record.fleet = number,
            // It was active all the time.
            None => records.extend(
                versions.get(&to).map(|it| MatrixRecord { fleet: number, ..(**it).clone() }),
            ),
        }
        let detail = format!("as version {number} of the fleet's");
        let action = "matrices.rolled-back";
        self.change_for_fleet(Change { action, target: to, detail, by, records, values: None })
            .await?;
        self.metrics.rolled_back();
        Ok(())
    }

    /// Leaves what the publisher left: the version before it is active again, for what the publisher went back to did harm
    /// here, as this version.
    ///
    /// # Errors
    /// `STORAGE_FAILED`.
    pub(in super::super) async fn leave_for_fleet(
        &self,
        harmful: u64,
        number: u64,
        (who, reason): (&str, &str),
    ) -> Result<()> {
        let _alone = self.turn().await?;
        let versions = self.versions();
        let by = By { at: self.now(), who, reason };
        let way = plan::back(&versions, 0);
        let mut records = match way {
            // One that can't be read serves nobody.
            Ok(Back::Activate { to, .. }) if self.readable(to).is_err() => Vec::new(),
            Ok(back) => plan::go_back(&versions, back, &self.tally_of_stage(), by),
            Err(_) => Vec::new(),
        };
        if records.iter().any(|it| it.version == harmful) {
            // The way leads to the very version.
            records.clear();
        }
        records.extend(
            versions.get(&harmful).map(|it| MatrixRecord { fleet: number, ..(**it).clone() }),
        );
        let detail = format!("version {number} of the fleet's did harm here");
        let action = "matrices.rolled-back";
        self.change_for_fleet(Change {
            action,
            target: harmful,
            detail,
            by,
            records,
            values: None,
        })
        .await?;
        self.metrics.rolled_back();
        Ok(())
    }
}
