//! The one writer of values: a thread that commits batches in groups and answers each once it is durable, as that of
//! observations does. Values, outcomes, looks and how far each producer is are one commit. A stage that a look decides is
//! ended in the agent's state before the batch is answered.

mod commit;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use genesis_storage::Values;
use tokio::sync::{mpsc, oneshot};

use super::Matrices;
use super::prepare::{Fared, Left, Rows};
use super::stage::Stage;
use crate::batches::{Producers, Stream};
use crate::error::{Error, Result};
use crate::outside::failpoint;

/// So many batches wait for the disk at most.
pub const WAITING: usize = 64;
/// A group has at most so many rows.
const GROUP: usize = 100_000;

/// What became of a batch that is durable. A batch has values, or outcomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// Which batch.
    pub sequence: u64,
    /// Whether it has outcomes.
    pub outcomes: bool,
    /// The batch was durable before.
    pub repeated: bool,
    /// Values that are the last of their bucket by now; outcomes that count.
    pub counted: u32,
    /// Values before the last of their bucket.
    pub superseded: u32,
    /// Values that are no numbers.
    pub missing: u32,
    /// Those that are too old.
    pub late: u32,
    /// Those that are none.
    pub rejected: u32,
    /// Values of series for which there is no room.
    pub unknown: u32,
    /// Outcomes of versions that are not on trial.
    pub other: u32,
}

/// What a batch has, made ready.
pub enum Content {
    /// Values by series, and those that do not count.
    Values(Vec<Rows>, Left),
    /// Outcomes.
    Outcomes {
        /// Whose.
        consumer: String,
        /// By version.
        columns: Vec<Fared>,
        /// What is later, in nanoseconds since 1970, is in the future.
        newest: i64,
    },
}

impl Content {
    fn rows(&self) -> usize {
        match self {
            Self::Values(columns, _) => columns.iter().map(|(_, rows)| rows.len()).sum(),
            Self::Outcomes { columns, .. } => columns.iter().map(|it| it.times.len()).sum(),
        }
    }
}

/// A batch on its way to the disk.
pub struct Work {
    /// What its producer is known by.
    pub key: String,
    /// Which of its batches.
    pub sequence: u64,
    /// What it has.
    pub content: Content,
    /// Of which stream.
    pub stream: Stream,
    /// Who waits for it.
    pub answer: oneshot::Sender<Result<Answer>>,
}

/// What the writer is asked for.
pub enum Order {
    /// To write a batch.
    Batch(Work),
    /// To forget what is before a day, and series that had no values a while ago; how many rows that were.
    KeepSmall(u32, BTreeSet<u32>, oneshot::Sender<Result<u64>>),
    /// To see whether the disk takes something.
    Probe(oneshot::Sender<Result<()>>),
}

/// The writer's own state. What it has in memory is what is on the disk.
pub(super) struct Writer {
    /// Gone with whoever sends, so that the thread ends, and closes the file.
    pub(super) matrices: Weak<Matrices>,
    pub(super) store: Arc<Values>,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) producers: Producers,
    pub(super) names: BTreeMap<String, u32>,
    /// The stage that goes on.
    pub(super) stage: Option<Stage>,
    /// Version and percent of the stage that goes on, also of one that can't be read.
    pub(super) following: Option<(u64, u32)>,
    /// Nothing of the stage was written yet.
    pub(super) fresh: bool,
    /// The series that values came of since the last care.
    pub(super) told: BTreeSet<u32>,
    /// What stands for the consumers that reported in it.
    pub(super) consumers: HashSet<u64>,
    /// A commit failed, and whether it is on the disk all the same shows only there.
    pub(super) stale: bool,
}

impl Writer {
    /// Writes until nobody sends any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(first) = waiting.blocking_recv()
            && let Some(matrices) = self.matrices.upgrade()
        {
            let (mut next, mut group, mut rows) = (Some(first), Vec::new(), 0);
            while let Some(Order::Batch(work)) = next {
                rows += work.content.rows();
                group.push(work);
                next = if rows < GROUP { waiting.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.write(&matrices, group);
            }
            // Whoever asked may have left.
            match next {
                Some(Order::KeepSmall(day, silent, answer)) => {
                    let _ = answer.send(self.keep_small(&matrices, day, &silent));
                }
                Some(Order::Probe(answer)) => {
                    let probed = self.store.write(|writing| writing.forget_producer("-").map(drop));
                    let probed = probed.map_err(Error::from).and_then(|()| self.follow(&matrices));
                    if probed.is_ok() {
                        matrices.failing(None);
                    }
                    let _ = answer.send(probed);
                }
                Some(Order::Batch(_)) | None => {}
            }
        }
    }
    fn write(&mut self, matrices: &Arc<Matrices>, works: Vec<Work>) {
        failpoint::pause("matrices.before-commit");
        failpoint::hit("matrices.before-commit");
        let written = self.commit(matrices, &works);
        failpoint::hit("matrices.after-commit");
        match written {
            Err(error) => {
                self.stale = true;
                works.iter().for_each(|work| work.stream.store(true, Ordering::Relaxed));
                let text = error.chain();
                matrices.failing(Some((error.code, &text)));
                for work in works {
                    let told = Error::new(error.kind, error.code, text.clone());
                    let _ = work.answer.send(Err(told));
                }
            }
            Ok(told) => {
                // A group of refused batches alone says nothing of the disk.
                if told.iter().any(Result::is_ok) {
                    matrices.failing(None);
                }
                matrices.took(self.stage.as_ref(), &told);
                if self.stage.as_ref().is_some_and(|stage| stage.decided.is_some()) {
                    // What can't be ended now is ended by the loop that looks for such.
                    let ended = self.runtime.block_on(matrices.settle());
                    if let Err(error) = ended.and_then(|()| self.follow(matrices)) {
                        let error = error.chain();
                        tracing::error!(error, "a stage was decided, and is not ended yet");
                    }
                }
                for (work, outcome) in works.into_iter().zip(told) {
                    let _ = work.answer.send(outcome);
                }
            }
        }
    }
}
