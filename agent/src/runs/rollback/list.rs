//! All components as they stand, so that the one that failed can be found.

use std::sync::Arc;
use std::time::Duration;

use genesis_storage::RollbackRecord;

use super::{
    Brief, Care, Dispatcher, Family, Health, Known, Point, Rollback, bounded, choose, full, split,
};
use crate::error::Result;

/// A component that does not answer for so long is one that can't tell.
const PATIENCE: Duration = Duration::from_secs(5);

/// A component as it stands.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub brief: Brief,
    /// Its points, newest first; only where it was asked for by its name.
    pub points: Vec<(Point, Known)>,
    /// When it was rolled back last.
    pub last: Option<RollbackRecord>,
    /// What its rollback demands.
    pub care: Care,
}

impl Dispatcher {
    /// The components of this name or family; empty: all. Whoever can't answer is unknown, with the reason.
    ///
    /// # Errors
    /// `COMPONENT_NOT_FOUND`.
    pub async fn list(&self, wanted: &str, limit: usize) -> Result<Vec<Listed>> {
        let latest = self.latest().unwrap_or_default();
        let (kind, own) = split(wanted);
        let mut found = Vec::new();
        let of_kind = |it: &&Arc<dyn Family>| wanted.is_empty() || it.family() == kind;
        for family in self.0.families.iter().filter(of_kind) {
            let names = match tokio::time::timeout(PATIENCE, family.names()).await {
                Ok(Ok(names)) => names,
                Ok(Err(error)) => {
                    found.push(unknown(family.family().to_owned(), error.message));
                    continue;
                }
                Err(_) => {
                    found.push(unknown(family.family().to_owned(), silent()));
                    continue;
                }
            };
            for name in names {
                // A family's name stands for all of it.
                if !own.is_empty() && name != own {
                    continue;
                }
                let component = family.member(&name);
                let name = full(family.family(), &name);
                let mut one = self.look(name, &*component).await;
                one.last = latest.get(&one.name).cloned();
                if one.name == wanted {
                    self.add_points(&mut one, &*component, limit).await;
                }
                found.push(one);
            }
        }
        let known = self.0.families.iter().any(|it| it.family() == kind) && own.is_empty();
        if found.is_empty() && !wanted.is_empty() && !known {
            return Err(self.not_found(wanted).await);
        }
        Ok(found)
    }

    async fn look(&self, name: String, component: &dyn Rollback) -> Listed {
        let care = component.care();
        let brief = match tokio::time::timeout(PATIENCE, component.brief()).await {
            Ok(Ok(brief)) => brief,
            Ok(Err(error)) => return Listed { care, ..unknown(name, error.message) },
            Err(_) => return Listed { care, ..unknown(name, silent()) },
        };
        let brief = match self.0.surroundings.checks(&name) {
            // Of two that say something the worse counts, and checks say more than nothing.
            Some((health, why)) if health == Health::Bad || brief.health == Health::Unknown => {
                match health {
                    Health::Unknown => brief,
                    health => Brief { health, why, ..brief },
                }
            }
            _ => brief,
        };
        Listed { name, brief, points: Vec::new(), last: None, care }
    }

    async fn add_points(&self, one: &mut Listed, component: &dyn Rollback, limit: usize) {
        match component.points().await.map(bounded) {
            Ok(points) => {
                let evidence = self.evidence(&one.name, &points).await;
                let at = (self.0.clock.now(), (self.0.settled)());
                let known = |it: &Point| choose::known(&points, it, at, &evidence);
                one.points = points.iter().take(limit).map(|it| (it.clone(), known(it))).collect();
            }
            Err(error) => {
                one.brief.health = Health::Unknown;
                one.brief.why = error.message;
            }
        }
    }
}

fn unknown(name: String, why: String) -> Listed {
    let brief = Brief { why, ..Brief::default() };
    Listed { name, brief, points: Vec::new(), last: None, care: Care::default() }
}

fn silent() -> String {
    format!("it did not answer within {} s", PATIENCE.as_secs())
}
