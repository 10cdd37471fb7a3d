//! Looks at a database: all that the preflight and the plan depend on, in one go.

use std::time::Duration;

use super::config::Instance;
use super::preflight::{self, Situation};
use super::record::{Item, Truth, micros};
use super::{Databases, ledger, plan};
use crate::error::Result;
use crate::outside::database::facts::{self, Index, Standing, Table};
use crate::outside::database::postgres::{Limits, Session};
use crate::outside::database::{Failure, Postgres, upkeep};

/// What a look found.
#[derive(Debug)]
pub struct Survey {
    /// How the server stands.
    pub standing: Standing,
    /// Its tables.
    pub tables: Vec<Table>,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// The preflight.
    pub items: Vec<Item>,
    /// How long it took.
    pub took: Duration,
}

impl Databases {
    /// Looks at a server through this session.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_FAILED`, `STORAGE_FAILED`.
    pub async fn survey(&self, instance: &Instance, session: &mut Session) -> Result<Survey> {
        let name = &instance.target.name;
        let about = |failure: Failure| failure.about(name);
        let clock = &self.outside.clock;
        let since = clock.monotonic();
        let looking = async {
            let direct = session.direct();
            let standing = facts::standing(session).await?;
            let took = clock.monotonic().saturating_sub(since);
            let tables = facts::tables(session, None).await?;
            let indexes = facts::indexes(session).await?;
            let mut left = (Vec::new(), Vec::new());
            for entry in self.ledger(name).unwrap_or_default() {
                if entry.system_identifier == standing.system {
                    let there = upkeep::of_table(session, entry.table_oid).await?;
                    left.0.extend(ledger::left(&entry, &there).ours);
                }
            }
            let ours: Vec<u32> = left.0.iter().map(|index| index.oid).collect();
            let foreign = standing.invalid.iter().filter(|index| !ours.contains(&index.oid));
            left.1 = foreign.map(|index| plan::qualified(&index.schema, &index.name)).collect();
            Ok::<_, Failure>((direct, standing, took, tables, indexes, left))
        };
        let trades = async {
            let seen = self.neighbours.trades(name).await;
            (seen, clock.monotonic().saturating_sub(since))
        };
        let (looked, (trades, trades_took), ()) =
            tokio::join!(looking, trades, self.neighbours.refresh_backups(name));
        let (direct, standing, took, tables, indexes, (ours, foreign)) = looked.map_err(about)?;
        let disk = self.disk(instance, &standing).await;
        let recent = self.rebuilt(name)?;
        let chosen = plan::reindexes(&indexes, &instance.bloat, &recent, clock.now());
        let largest = plan::largest(&indexes, &instance.bloat, &chosen);
        let backup = self.verified(instance, Some(&standing.system))?;
        let own: Vec<String> =
            ours.iter().map(|index| plan::qualified(&index.schema, &index.name)).collect();
        let situation = Situation {
            standing: &standing,
            direct,
            backup: &backup,
            trades: &trades,
            disk,
            largest,
            own_leftovers: &own,
            foreign_leftovers: &foreign,
        };
        let mut items = preflight::judge(instance, &situation);
        for item in &mut items {
            item.took_us = micros(if item.name == preflight::TRADES { trades_took } else { took });
        }
        let took = clock.monotonic().saturating_sub(since);
        Ok(Survey { standing, tables, indexes, items, took })
    }

    /// The preflight, as `db preflight` shows it.
    ///
    /// # Errors
    /// Those of [`Databases::survey`].
    pub async fn preflight(
        &self,
        instance: &Instance,
        target: &Postgres,
    ) -> Result<(Vec<Item>, Duration)> {
        let name = &instance.target.name;
        let since = self.outside.clock.monotonic();
        let opened = Session::open(target, "preflight", Limits::LOOK).await;
        let mut session = opened.map_err(|failure| failure.about(name))?;
        let survey = self.survey(instance, &mut session).await?;
        let turn =
            upkeep::turn_is_free(&mut session).await.map_err(|failure| failure.about(name))?;
        session.close().await;
        let mut items = survey.items;
        items.push(one_at_a_time(turn));
        Ok((items, self.outside.clock.monotonic().saturating_sub(since)))
    }
}

/// Whether nobody else cares for it now.
pub fn one_at_a_time(turn: bool) -> Item {
    let (truth, value) = if turn { (Truth::Pass, "free") } else { (Truth::Fail, "held") };
    let evidence = if turn { "" } else { "an agent cares for this database now" };
    Item::new("one-at-a-time", truth, value, "free", evidence)
}
