//! A report of the whole system, for somebody who looks into it: every check, and what no check looks at.

use std::sync::Arc;
use std::time::Duration;

use genesis_proto::v1;
use genesis_proto::v1::Condition;
use tokio::sync::Mutex;

use super::agent_rpc::{AgentView, VERSION};
use super::convert::{duration, time};
use crate::config::Places;
use crate::error::{Error, Result};
use crate::operations::health::Health;
use crate::operations::health::check::Level;
use crate::operations::health::rpc::convert;
use crate::outside::aside::Aside;
use crate::outside::{files, survey};

/// So much is written to measure a disk, in bytes.
const WRITTEN: u64 = 8 << 20;
/// So much of the agent's own log is looked through for errors, in bytes.
const LOG_TAIL: u64 = 256 << 10;
/// So many recent errors and open files are shown.
const SHOWN: usize = 10;
/// A disk that takes longer than this to make 8 MiB durable is slow, in seconds.
const SLOW: f64 = 2.0;

/// What reports are made of.
pub struct Diagnosis {
    agent: AgentView,
    places: Places,
    /// One at a time: each measures the disk.
    alone: Mutex<()>,
    /// What hangs on a dead disk hangs on a thread of its own, once.
    speed: Aside<(), Result<survey::DiskSpeed, String>>,
    files: Aside<(), Surveyed>,
}

type Surveyed = (Result<survey::OpenFiles, String>, (Vec<survey::DeletedFile>, usize));

/// A part that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(10);

fn line(name: &str, condition: Condition, text: impl Into<String>) -> v1::ReportLine {
    v1::ReportLine { name: name.to_owned(), condition: condition.into(), text: text.into() }
}

fn section(title: &str, lines: Vec<v1::ReportLine>) -> v1::ReportSection {
    let condition = convert::worst(lines.iter().map(v1::ReportLine::condition)).into();
    v1::ReportSection { title: title.to_owned(), condition, lines }
}

impl Diagnosis {
    /// Reports about this agent and its host.
    pub fn new(agent: AgentView, places: Places) -> Self {
        Self {
            agent,
            places,
            alone: Mutex::new(()),
            speed: Aside::default(),
            files: Aside::default(),
        }
    }

    /// Makes the report.
    ///
    /// # Errors
    /// `OVERLOADED` while another one is made, `STORAGE_FAILED`.
    pub async fn report(&self, health: &Health) -> Result<v1::DiagnoseResponse> {
        let _alone = self.alone.try_lock().map_err(|_| {
            Error::unavailable("OVERLOADED", "another report is being made; try again in a moment")
                .retry_after(Duration::from_secs(2))
        })?;
        let clock = &self.agent.outside.clock;
        let before = clock.monotonic();
        let selected = health.selected(Level::Deep, &[])?;
        let looks = health.look_now(&selected).await;
        let checks: Vec<v1::HealthCheck> = selected
            .iter()
            .zip(looks)
            .map(|(check, look)| convert::check(health.check_view(check, Some(look))))
            .collect();
        let sections = vec![
            self.domains()?,
            self.configuration(),
            self.host(),
            self.disk().await,
            self.open_files().await,
            self.errors().await,
        ];
        let worst = convert::worst(checks.iter().map(v1::HealthCheck::condition));
        let conditions = sections.iter().map(v1::ReportSection::condition).chain([worst]);
        Ok(v1::DiagnoseResponse {
            condition: convert::worst(conditions).into(),
            at: Some(time(clock.now())),
            host_id: self.agent.host.id.clone(),
            hostname: self.agent.host.name.clone(),
            version: VERSION.to_owned(),
            checks,
            sections,
            took: Some(duration(clock.monotonic().saturating_sub(before))),
        })
    }

    fn domains(&self) -> Result<v1::ReportSection> {
        let status = self.agent.status()?;
        let mut lines = Vec::new();
        for domain in status.domains {
            lines.push(line(&domain.domain, domain.condition(), domain.summary));
            for found in domain.findings {
                let text = format!("{} {}: {}", found.code, found.subject, found.message);
                lines.push(line(&domain.domain, Condition::Warn, text));
            }
        }
        let storage = status.storage.unwrap_or_default();
        let text = format!(
            "{}: {} bytes, schema {}, {} oplog entries",
            storage.path, storage.file_bytes, storage.schema_version, storage.oplog_entries
        );
        lines.push(line("database", Condition::Ok, text));
        let failed = status.runs_failed;
        let condition = if failed == 0 { Condition::Ok } else { Condition::Warn };
        let text = format!("{} go on, {failed} failed within 24 hours", status.runs_active);
        lines.push(line("runs", condition, text));
        let text = format!(
            "{} bytes, at most {} within 24 hours",
            status.resident_bytes, status.resident_bytes_max
        );
        lines.push(line("resident memory", Condition::Ok, text));
        Ok(section("Operations", lines))
    }

    fn configuration(&self) -> v1::ReportSection {
        let config = self.agent.config.current();
        let source = if config.source.is_empty() { "built-in defaults" } else { &config.source };
        let mut lines = vec![line("source", Condition::Ok, source)];
        match self.agent.config.check(None) {
            Ok((problems, restart)) => {
                lines.extend(
                    problems
                        .iter()
                        .map(|found| line("problem", Condition::Warn, found.to_string())),
                );
                if !restart.is_empty() {
                    let text = format!("waits for a restart: {}", restart.join(", "));
                    lines.push(line("restart", Condition::Warn, text));
                }
            }
            Err(error) => lines.push(line("file", Condition::Unknown, error.chain())),
        }
        section("Configuration", lines)
    }

    fn host(&self) -> v1::ReportSection {
        let clock = &self.agent.outside.clock;
        let up = clock.moment().since_boot.as_secs();
        let now = clock.now();
        section(
            "Host and versions",
            vec![
                line("kernel", Condition::Ok, survey::kernel()),
                line(
                    "up",
                    Condition::Ok,
                    format!("{} d {} h {} min", up / 86_400, up / 3_600 % 24, up / 60 % 60),
                ),
                line(
                    "agent",
                    Condition::Ok,
                    format!(
                        "{VERSION}, started {:.0}, pid {}",
                        self.agent.started_at,
                        std::process::id()
                    ),
                ),
                line("wall clock", Condition::Ok, format!("{now:.3}")),
            ],
        )
    }

    async fn disk(&self) -> v1::ReportSection {
        let (folder, clock) = (self.places.state.clone(), Arc::clone(&self.agent.outside.clock));
        let shown = folder.display().to_string();
        let measuring = self.speed.run(&(), move || survey::disk_speed(&*clock, &folder, WRITTEN));
        let measured = match tokio::time::timeout(PATIENCE, measuring).await {
            Ok(measured) => measured.and_then(|measured| measured),
            Err(_) => Err(format!("no end within {} s", PATIENCE.as_secs())),
        };
        let found = match measured {
            Ok(speed) => {
                let durable = speed.write_seconds + speed.fsync_seconds;
                let condition = if durable > SLOW { Condition::Warn } else { Condition::Ok };
                let rate = speed.written_bytes as f64 / durable.max(1e-6) / 1e6;
                let text = format!(
                    "{} MiB written and made durable in {:.0} ms ({rate:.0} MB/s, fsync {:.1} ms)",
                    speed.written_bytes >> 20,
                    durable * 1e3,
                    speed.fsync_seconds * 1e3
                );
                line(&shown, condition, text)
            }
            Err(why) => line(&shown, Condition::Unknown, why),
        };
        section("Disk speed", vec![found])
    }

    async fn open_files(&self) -> v1::ReportSection {
        let surveying =
            self.files.run(&(), || (survey::open_files(), survey::deleted_but_open(1_000)));
        let Ok(Ok((open, (deleted, hidden)))) = tokio::time::timeout(PATIENCE, surveying).await
        else {
            let lines = vec![line("files", Condition::Unknown, "they could not be looked at")];
            return section("Open files", lines);
        };
        let share = |used: u64, limit: u64| match limit {
            0 => Condition::Unknown,
            limit if used.saturating_mul(10) >= limit.saturating_mul(9) => Condition::Warn,
            _ => Condition::Ok,
        };
        let mut lines = match open {
            Err(why) => vec![line("open", Condition::Unknown, why)],
            Ok(open) => vec![
                line(
                    "agent",
                    share(open.used, open.limit),
                    format!("{} of {}", open.used, open.limit),
                ),
                line(
                    "host",
                    share(open.host_used, open.host_limit),
                    format!("{} of {}", open.host_used, open.host_limit),
                ),
            ],
        };
        let bytes: u64 = deleted.iter().map(|file| file.bytes).sum();
        let text = format!(
            "{} file(s), {bytes} bytes{}",
            deleted.len(),
            if hidden > 0 {
                format!("; {hidden} process(es) can't be looked into")
            } else {
                String::new()
            }
        );
        let condition = if bytes > 1_000_000_000 { Condition::Warn } else { Condition::Ok };
        lines.push(line("deleted but open", condition, text));
        lines.extend(deleted.iter().take(SHOWN).map(|file| {
            let text = format!("{} bytes, process {} ({})", file.bytes, file.pid, file.command);
            line(&file.path.display().to_string(), Condition::Ok, text)
        }));
        section("Open files", lines)
    }

    async fn errors(&self) -> v1::ReportSection {
        let path = self.agent.own_log.clone();
        let read = tokio::task::spawn_blocking(move || files::last_lines(&path, LOG_TAIL)).await;
        let text = match read.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(lines) => String::from_utf8_lossy(&lines).into_owned(),
            Err(error) => {
                let found = line("agent's log", Condition::Unknown, error.to_string());
                return section("Recent errors", vec![found]);
            }
        };
        let mut lines: Vec<v1::ReportLine> = text
            .lines()
            .rev()
            .filter_map(|text| serde_json::from_str::<serde_json::Value>(text).ok())
            .filter(|entry| entry["level"] == "ERROR")
            .take(SHOWN)
            .map(|entry| {
                let words =
                    |key: &str| entry["fields"][key].as_str().unwrap_or_default().to_owned();
                let at = entry["timestamp"].as_str().unwrap_or_default();
                let text = format!("{} {}", words("message"), words("error"));
                line(at, Condition::Warn, text.trim())
            })
            .collect();
        if lines.is_empty() {
            lines.push(line("agent's log", Condition::Ok, "no errors in its last 256 KiB"));
        }
        section("Recent errors", lines)
    }
}
