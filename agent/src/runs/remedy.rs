//! Remedies: what a domain can do when health finds something wrong, and the leave that it asks for before each
//! side effect.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use crate::error::Result;
use crate::plan::PlanStep;

/// Of what there is too little on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Bytes.
    Bytes,
    /// Inodes.
    Inodes,
}

/// What a remedy is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Aim {
    /// The check that is bad.
    pub check: String,
    /// Where, for file systems.
    pub path: Option<PathBuf>,
    /// Of what there is too little there.
    pub room: Room,
    /// Which database, for databases.
    pub database: Option<String>,
    /// Who waits for less is left alone.
    pub patience: Duration,
    /// The check's value at which it is good again, in the probe's unit.
    pub goal: f64,
    /// In words, for the record of each side effect.
    pub reason: String,
    /// The run that it is done in.
    pub run: String,
}

/// Leave to begin one side effect. Whoever withdraws the leave waits until it is dropped, so it is held until the
/// effect has begun, and no longer.
pub struct Permit(#[allow(dead_code)] OwnedMutexGuard<()>); // Held, never read.

impl Permit {
    /// Leave that lasts as long as this lock.
    pub fn new(guard: OwnedMutexGuard<()>) -> Self {
        Self(guard)
    }
}

/// Gives leave, as long as nobody has withdrawn it.
#[async_trait]
pub trait Permission: Send + Sync {
    /// Leave for one side effect.
    ///
    /// # Errors
    /// `ACTION_REFUSED` when it is withdrawn by now, with what holds it back.
    async fn ask(&self) -> Result<Permit>;
}

/// Something that a domain does about what health finds wrong.
#[async_trait]
pub trait Remedy: Send + Sync {
    /// Such as "make-room".
    fn name(&self) -> &'static str;
    /// What it would do, and how far that reaches. Changes nothing.
    ///
    /// # Errors
    /// Why it can't do anything.
    async fn plan(&self, aim: &Aim) -> Result<Vec<PlanStep>>;
    /// Does it, asking for leave before each side effect, and says what came of it, as measured.
    ///
    /// # Errors
    /// What went wrong.
    async fn carry_out(&self, aim: &Aim, permission: &dyn Permission) -> Result<String>;
}
