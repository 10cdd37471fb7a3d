//! Watches the sizes of the configured files and cuts those that are big enough.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Failing, Live, Logs, Mode, Reopen, Settling, Source, plan};
use crate::error::Unmet;
use crate::outside::files::{self, FileFacts};

/// How often sizes are looked at.
const POLL: Duration = Duration::from_millis(250);
/// The agent's own log alone grows slowly, and an idle agent should sleep.
const OWN_POLL: Duration = Duration::from_secs(5);
/// Every so many polls the globs are expanded again.
const EXPAND_EVERY: u32 = 4;
/// A path that is not there stays watched for so many expansions, a minute.
const ABSENT_LIMIT: u32 = 60;
/// First and longest wait after a cut that failed.
const CUT_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// At most this many files of one source are watched.
const FILES_LIMIT: usize = 1_000;

impl Logs {
    pub(super) async fn watch(&self) {
        let mut tick = 0_u32;
        let mut paths: Vec<(Arc<Source>, PathBuf)> = Vec::new();
        // How often in a row a path was not there when the globs were expanded.
        let mut absent: BTreeMap<PathBuf, u32> = BTreeMap::new();
        loop {
            if tick.is_multiple_of(EXPAND_EVERY) {
                let found = self.discover();
                // A log that was just renamed away is about to come back; forgetting it would leave it
                // unwatched until the next expansion.
                let gone = paths
                    .into_iter()
                    .filter(|(_, path)| found.iter().all(|(_, known)| known != path));
                let mut missing = BTreeMap::new();
                let mut kept = Vec::new();
                for (source, path) in gone {
                    let times = absent.get(&path).copied().unwrap_or(0) + 1;
                    let current = self.config().source(&source.log_type).cloned();
                    let wanted = current.filter(|source| {
                        source.paths.iter().any(|glob| files::could_match(glob, &path) == Ok(true))
                    });
                    if let Some(current) = wanted.filter(|_| times <= ABSENT_LIMIT) {
                        missing.insert(path.clone(), times);
                        kept.push((Arc::new(current), path));
                    }
                }
                absent = missing;
                paths = found;
                paths.extend(kept);
            }
            for (source, path) in self.look(&paths) {
                self.cut_when_due(&source, &path).await;
            }
            let own = |source: &Source| source.mode == Mode::Reopen(Reopen::Own);
            let (pause, ticks) = match self.config().sources.iter().all(own) {
                true => (OWN_POLL, EXPAND_EVERY),
                false => (POLL, 1),
            };
            tick = tick.wrapping_add(ticks);
            tokio::select! {
                () = self.outside.clock.tick(pause) => {}
                () = self.reconfigured.notified() => tick = 0,
            }
        }
    }

    /// Cuts a file that has reached its size. After a failure it is left alone for a growing time, and the
    /// reason stays in sight.
    async fn cut_when_due(&self, source: &Source, path: &Path) {
        let key = (source.log_type.clone(), path.to_owned());
        let now = self.outside.clock.monotonic();
        if self.live().failing.get(&key).is_some_and(|failing| now < failing.not_before) {
            return;
        }
        let (at_least, reason) = match source.mode {
            Mode::Direct { .. } => (1, "done by its application"),
            _ => (source.rotate_bytes, "size reached"),
        };
        let outcome = self.cut(source, path, "system:logs", reason, at_least).await;
        let mut live = self.live();
        match outcome {
            Ok(_) => {
                live.failing.remove(&key);
            }
            Err(error) => {
                self.metrics.failed(&source.log_type);
                let why = error.unmet.first().cloned().unwrap_or_else(|| Unmet {
                    code: error.code,
                    subject: path.display().to_string(),
                    message: error.chain(),
                });
                let known = live.failing.get(&key);
                if known.is_none_or(|known| known.why.code != why.code) {
                    tracing::warn!(path = %path.display(), code = why.code, error = error.chain(), "log not rotated");
                }
                let attempt = known.map_or(0, |known| known.attempt.saturating_add(1));
                let not_before = now + plan::back_off(attempt, CUT_WAIT.0, CUT_WAIT.1);
                live.failing.insert(key, Failing { why, attempt, not_before });
            }
        }
    }

    /// Expands the globs; a file that two sources match belongs to the first.
    pub(super) fn discover(&self) -> Vec<(Arc<Source>, PathBuf)> {
        let config = self.config();
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let real = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let ours: Vec<PathBuf> =
            config.own_folders().into_iter().map(|folder| real(folder)).collect();
        let mut refused = Vec::new();
        for source in &config.sources {
            let source = Arc::new(source.clone());
            let mut matching = Vec::new();
            for matches in source.paths.iter().filter_map(|pattern| files::matching(pattern).ok()) {
                matching.extend(matches.paths.into_iter().filter(|path| !plan::is_ours(path)));
                for (folder, why) in matches.unreadable {
                    let subject = folder.display().to_string();
                    let message = format!(
                        "can't read {subject} ({why}), so logs in it may be missed; let the agent's user read it"
                    );
                    refused.push((
                        (source.log_type.clone(), folder),
                        Unmet { code: "LOG_FOLDER_UNREADABLE", subject, message },
                    ));
                }
            }
            if let Some(first) = matching.get(FILES_LIMIT).cloned() {
                let subject = first.display().to_string();
                let message = format!(
                    "{} files match, only {FILES_LIMIT} are watched, from {subject} on none; split the source",
                    matching.len()
                );
                refused.push((
                    (source.log_type.clone(), first),
                    Unmet { code: "LOG_FILES_TOO_MANY", subject, message },
                ));
            }
            for path in matching.into_iter().take(FILES_LIMIT) {
                // By real paths: the configuration's check can't see through links.
                let folder = real(path.parent().unwrap_or(Path::new("/")));
                if source.mode != Mode::Reopen(Reopen::Own)
                    && ours.iter().any(|own| folder.starts_with(own))
                {
                    let subject = path.display().to_string();
                    let message = format!(
                        "{subject} is the agent's own or archived already; mend the glob that matches it"
                    );
                    refused.push((
                        (source.log_type.clone(), path),
                        Unmet { code: "LOG_IS_OURS", subject, message },
                    ));
                } else if seen.insert(path.clone()) {
                    found.push((Arc::clone(&source), path));
                }
            }
        }
        let keep: BTreeSet<(String, PathBuf)> =
            found.iter().map(|(source, path)| (source.log_type.clone(), path.clone())).collect();
        let mut live = self.live();
        live.active.retain(|key, _| keep.contains(key));
        live.refused.retain(|key, _| keep.contains(key));
        live.failing.retain(|key, _| keep.contains(key));
        live.settling.retain(|key, _| keep.contains(key));
        live.refused.extend(refused);
        found
    }

    /// Looks at each file and returns those that are big enough to be cut.
    fn look(&self, paths: &[(Arc<Source>, PathBuf)]) -> Vec<(Arc<Source>, PathBuf)> {
        let mut due = Vec::new();
        let now = self.outside.clock.monotonic();
        let mut live = self.live();
        for (source, path) in paths {
            let key = (source.log_type.clone(), path.clone());
            let seen = match files::look(path) {
                Ok(Some(facts)) => plan::admissible(path, &facts).map(|()| facts),
                Ok(None) => {
                    live.active.remove(&key);
                    live.refused.remove(&key);
                    continue;
                }
                Err(error) => Err(Unmet {
                    code: "LOG_UNREADABLE",
                    subject: path.display().to_string(),
                    message: format!("can't look at {}: {error}", path.display()),
                }),
            };
            match seen {
                Ok(facts) => {
                    live.refused.remove(&key);
                    let is_due = match source.mode {
                        Mode::Reopen(_) | Mode::Collapse { .. } => {
                            facts.bytes >= source.rotate_bytes
                        }
                        // Behind the hole that is left of a writer that does not append.
                        Mode::CopyTruncate => {
                            facts.bytes.min(facts.allocated_bytes) >= source.rotate_bytes
                        }
                        Mode::Direct { settle } => live.settled(&key, &facts, settle, now),
                    };
                    live.active.insert(key, facts.bytes);
                    if is_due {
                        due.push((Arc::clone(source), path.clone()));
                    }
                }
                Err(unmet) => {
                    live.active.remove(&key);
                    if live.refused.insert(key, unmet.clone()).is_none() {
                        tracing::warn!(code = unmet.code, "{}", unmet.message);
                    }
                }
            }
        }
        due
    }
}

impl Live {
    /// Whether a file has something in it and did not change for so long. Counted by the monotonic clock, so
    /// that a wrong date makes nobody's file look old.
    fn settled(
        &mut self,
        key: &(String, PathBuf),
        facts: &FileFacts,
        settle: Duration,
        now: Duration,
    ) -> bool {
        let known = self.settling.get(key);
        match known
            .filter(|seen| (seen.bytes, seen.modified_at) == (facts.bytes, facts.modified_at))
        {
            Some(seen) => facts.bytes > 0 && now.saturating_sub(seen.since) >= settle,
            None => {
                let (bytes, modified_at) = (facts.bytes, facts.modified_at);
                self.settling.insert(key.clone(), Settling { bytes, modified_at, since: now });
                false
            }
        }
    }
}
