//! `[contacts]`: whom an operator calls. `[trading]`: how the trading system is controlled. `[recovery]`: how an emergency
//! ends.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::means;
use crate::config::named::NamedSource;
use crate::config::reader::{Inline, Section};
use crate::config::units::parse_duration;
use crate::outside::control::{Means, VENUES};
use crate::scheduler::calendar::Schedule;

/// So many drills may be due from time to time.
const MOST_DRILLS: usize = 50;

/// `[recovery]`: which drills are due, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// By name.
    pub drills: Vec<String>,
    /// After so long one is overdue.
    pub every: Duration,
    /// When those that are due are done.
    pub schedule: Schedule,
}

impl Default for Wanted {
    fn default() -> Self {
        let schedule = Schedule::constant("0 5 * * 0");
        Self { drills: Vec::new(), every: Duration::from_secs(92 * 86_400), schedule }
    }
}

/// Reads of `[agent]` whether this is a host for practice.
pub fn read_staging(agent: &Section<'_>) -> bool {
    let environment = agent.parsed(
        "environment",
        Some("production"),
        "\"production\" or \"staging\". In staging whatever an emergency does goes to `[trading] sandbox` in place of \
         `control`, so that people can practise on real hosts.",
        |text| match text {
            "production" => Ok(false),
            "staging" => Ok(true),
            _ => Err(format!("{text:?} is neither \"production\" nor \"staging\"")),
        },
    );
    environment.unwrap_or_default()
}

/// Reads of `[recovery]` which drills are due.
fn read_drills(recovery: &Section<'_>, sources: &[NamedSource]) -> Wanted {
    let usual = ["emergency", "restore", "rollback:config"];
    let mut drills = recovery.list(
        "drills",
        &usual,
        false,
        "The drills that are due from time to time: \"emergency\", \"restore\" (every source of backups) or \
         \"restore:SOURCE\" (a database's name, or \"agent\"), \"rollback:config\", \"rollback:state\" (the agent's own).",
    );
    // What nobody has asked for is no mistake, and stands in the text in force like what somebody has.
    let asked = recovery.has("drills") && drills != usual;
    for drill in drills.iter().filter(|_| asked) {
        if let Err(why) = can_pass(drill, sources) {
            recovery.problem("drills", why);
        }
    }
    // Where nothing is backed up, nobody has asked that it be restored.
    drills.retain(|name| name != "restore" || !sources.is_empty());
    if drills.iter().collect::<BTreeSet<_>>().len() < drills.len() {
        recovery.problem("drills", "names a drill twice");
    }
    if drills.len() > MOST_DRILLS {
        recovery.problem("drills", format!("must be at most {MOST_DRILLS}"));
    }
    let every = recovery.duration(
        "drill_every",
        "92d",
        Duration::from_secs(86_400)..=Duration::from_secs(400 * 86_400),
        "A drill that has not passed for so long is overdue, which people are told.",
    );
    let schedule = recovery.parsed(
        "drill_schedule",
        Some("Sun 05:00"),
        "When the drills are done that are due or overdue, UTC. One is due from two weeks before it is overdue.",
        Schedule::parse,
    );
    let schedule = schedule.unwrap_or_else(|| Wanted::default().schedule);
    Wanted { drills, every, schedule }
}

/// Whether a drill can ever pass on a host with these sources of backups; `Err`: why not, and what to write. Pure.
fn can_pass(drill: &str, sources: &[NamedSource]) -> Result<(), String> {
    let shown: String = drill.chars().filter(|c| !c.is_control()).take(128).collect();
    let written = |names: &mut dyn Iterator<Item = &NamedSource>| {
        let names: Vec<String> = names.map(|it| format!("\"restore:{}\"", it.name)).collect();
        if names.is_empty() {
            "leave it out".to_owned()
        } else {
            format!("write {}", names.join(", "))
        }
    };
    let fit = || written(&mut sources.iter().filter(|it| it.restorable));
    match drill.split_once(':').map_or((drill, None), |(kind, name)| (kind, Some(name))) {
        ("emergency", None) | ("rollback", Some("config" | "state")) => Ok(()),
        ("restore", None) => match sources.iter().find(|it| !it.restorable) {
            None if sources.is_empty() => {
                Err("\"restore\": nothing is backed up; leave it out".to_owned())
            }
            None => Ok(()),
            Some(one) => Err(format!(
                "\"restore\" can't pass, for the agent restores no backup of {} (WAL-G) into a scratch instance; {}",
                one.name,
                fit()
            )),
        },
        ("restore", Some(name)) => match sources.iter().find(|it| it.name == name) {
            Some(source) if source.restorable => Ok(()),
            Some(_) => Err(format!(
                "{shown:?} can't pass, for the agent restores no backup of WAL-G into a scratch instance; {}",
                fit()
            )),
            None => Err(format!("{shown:?}: there is no such source of backups; {}", fit())),
        },
        ("rollback", Some(name)) if !name.is_empty() => match name.strip_prefix("database:") {
            Some(database) => {
                let database: String =
                    database.chars().filter(|c| !c.is_control()).take(128).collect();
                Err(format!("{shown:?} is practised as a restore: write \"restore:{database}\""))
            }
            None => Err(format!(
                "{shown:?} can't pass, for it can only be planned; write \"rollback:config\" or \"rollback:state\", and do \
                 this one by hand: genesisctl drill run {shown}"
            )),
        },
        _ => Err(format!(
            "there is no drill {shown:?}; write \"emergency\", \"restore\", \"restore:SOURCE\", \"rollback:config\" or \
             \"rollback:state\""
        )),
    }
}

/// Reads of `[recovery]` for how long a point must have been in force to be known to be good.
fn known_good_after(recovery: &Section<'_>) -> Duration {
    recovery.duration(
        "known_good_after",
        "10m",
        Duration::ZERO..=Duration::from_secs(30 * 86_400),
        "A rollback goes by default to the last point that was in force and did well for so long, and was not rolled back from.",
    )
}

/// Whom to call; shown with an emergency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contacts {
    /// Who is on call.
    pub on_call: String,
    /// Who decides when the one on call can't.
    pub escalation: String,
    /// For leaks and intrusions.
    pub security: String,
    /// For what can wait.
    pub non_urgent: String,
}

impl Contacts {
    /// Reads the section.
    pub fn read(root: &Section<'_>) -> Self {
        let section = root.table("contacts");
        let text = |key: &'static str, default: &'static str, doc: &'static str| {
            section.text(key, Some(default), doc)
        };
        let contacts = Self {
            on_call: text("on_call", "the PagerDuty schedule", "Who is on call."),
            escalation: text(
                "escalation",
                "engineering-lead@genesis.trading",
                "Who decides when the one on call can't.",
            ),
            security: text(
                "security",
                "security@genesis.trading",
                "Whom to tell about leaks and intrusions.",
            ),
            non_urgent: text("non_urgent", "#ops-discussion", "Where to put what can wait."),
        };
        section.finish();
        contacts
    }
}

/// `[trading]` and `[recovery]`: what an emergency does about trading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// By what the trading system is controlled; `None`: it can't be.
    pub control: Option<Means>,
    /// What drills go to; `None`: a paper venue within the agent.
    pub sandbox: Option<Means>,
    /// This is a host for practice: the sandbox is in place of what is controlled.
    pub staging: bool,
    /// The venues that must be proven flat, beside those that the trading system names.
    pub venues: Vec<String>,
    /// So long each venue has to become flat.
    pub close_within: Duration,
    /// So long the trading system may be silent once it has called; `None`: for ever.
    pub lease: Option<Duration>,
    /// So many identities a release needs.
    pub approvals: u32,
    /// What was in force for so long is known to be good.
    pub known_good_after: Duration,
    /// Which drills are due, and how often.
    pub drills: Wanted,
}

impl Config {
    /// Reads the sections; `staging`: see [`read_staging`]; `sources`: what is backed up.
    pub fn read(root: &Section<'_>, staging: bool, sources: &[NamedSource]) -> Self {
        let section = root.table("trading");
        let control = read_means(&section, "control", CONTROL);
        let sandbox = read_means(&section, "sandbox", SANDBOX);
        if let (Some(control), Some(sandbox)) = (&control, &sandbox)
            && same_place(control, sandbox)
        {
            section
                .problem("sandbox", "is the same as control: a drill would close real positions");
        }
        if staging && control.is_some() && sandbox.is_none() {
            let why = "is missing: in staging (`[agent] environment`) an emergency goes to it in place of control";
            section.problem("sandbox", why);
        }
        let venues = section.list(
            "venues",
            &[],
            false,
            "The venues that must be proven flat when positions are closed. Those that the trading system names count as \
             well; a venue named here can't be overlooked because the trading system has lost it.",
        );
        let unique: BTreeSet<&String> = venues.iter().collect();
        if unique.len() < venues.len() {
            section.problem("venues", "names a venue twice");
        }
        if venues.len() > VENUES {
            section.problem("venues", format!("must be at most {VENUES}"));
        }
        if venues.iter().any(|venue| {
            venue.is_empty() || venue.len() > 128 || venue.chars().any(char::is_control)
        }) {
            section.problem("venues", "names must have 1 to 128 bytes");
        }
        let close_within = section.duration(
            "close_within",
            "60s",
            Duration::from_secs(5)..=Duration::from_secs(3_600),
            "So long each venue has to become flat once positions are to be closed; then it counts as unproven.",
        );
        let lease = section.parsed(
            "lease",
            Some(""),
            "So long the trading system may be silent once it has called RenewTradingLease; then an emergency is declared \
             and it is told to halt, and nothing is closed. 2s to 1h; empty: no lease.",
            |text| match text {
                "" => Ok(None),
                text => match parse_duration(text)? {
                    lease if lease < Duration::from_secs(2) => Err(format!("{text:?} is below 2s")),
                    lease if lease > Duration::from_secs(3_600) => Err(format!("{text:?} is over 1h")),
                    lease => Ok(Some(lease)),
                },
            },
        );
        section.finish();
        let section = root.table("recovery");
        let approvals = section.parsed(
            "release_approvals",
            Some("1"),
            "How many different identities the release of an emergency needs, the one who releases among them: \"1\" or \
             \"2\". An approval counts for 15 minutes.",
            |text| match text {
                "1" => Ok(1),
                "2" => Ok(2),
                _ => Err(format!("{text:?} is neither \"1\" nor \"2\"")),
            },
        );
        let known_good_after = known_good_after(&section);
        let drills = read_drills(&section, sources);
        section.finish();
        let (approvals, lease) = (approvals.unwrap_or(1), lease.flatten());
        Self {
            control,
            sandbox,
            staging,
            venues,
            close_within,
            lease,
            approvals,
            known_good_after,
            drills,
        }
    }

    /// As an emergency is to go by it: on a host for practice the sandbox is what is controlled.
    #[must_use]
    pub fn in_force(&self) -> Self {
        let control = if self.staging { self.sandbox.clone() } else { self.control.clone() };
        Self { control, ..self.clone() }
    }
}

impl Config {
    /// What the host shows of it: a sandbox that is the real thing by another name.
    pub fn check_host(&self) -> Vec<(String, String)> {
        let (Some(Means::Grpc { target: control, .. }), Some(Means::Grpc { target: sandbox, .. })) =
            (&self.control, &self.sandbox)
        else {
            return Vec::new();
        };
        let socket = |target: &str| std::fs::canonicalize(target.strip_prefix("unix:")?).ok();
        match (socket(control), socket(sandbox)) {
            (Some(one), Some(other)) if one == other => {
                let why = "leads to the same socket as control: a drill would close real positions; name another one, or \
                           none for the paper venue within the agent";
                vec![("trading.sandbox".to_owned(), why.to_owned())]
            }
            _ => Vec::new(),
        }
    }

    /// Whether what differs is read at start only; `staging` is told apart.
    pub fn needs_restart(&self, other: &Self) -> bool {
        let (known_good_after, staging) = (other.known_good_after, other.staging);
        Self { known_good_after, staging, ..self.clone() } != *other
    }
}

const CONTROL: &str = "How the trading system is halted, asked and told to close: { grpc = \"unix:/run/trading/control.sock\", \
                       timeout = \"5s\", ca_file = \"/path\" } (genesis.trading.v1.TradingControl), or { command = \
                       [\"argv\", ...], timeout = \"30s\" }, which is given the same requests as JSON. Empty: an emergency \
                       holds the agent's own work only.";
const SANDBOX: &str = "What drills of an emergency go to, such as `genesis-agent paper-venue`; as `control`. On a staging host \
                       an emergency goes to it as well. Empty: drills go to a paper venue within the agent.";

/// Whether two means reach the same.
fn same_place(one: &Means, other: &Means) -> bool {
    match (one, other) {
        (Means::Grpc { target: one, .. }, Means::Grpc { target: other, .. }) => {
            one.trim_end_matches('/') == other.trim_end_matches('/')
        }
        (Means::Command(one), Means::Command(other)) => one.command == other.command,
        _ => false,
    }
}

fn read_means(section: &Section<'_>, key: &'static str, help: &'static str) -> Option<Means> {
    match section.inline(key, "\"\"", help)? {
        Inline::Text(text) if text.is_empty() => None,
        Inline::Text(text) => {
            section.problem(key, format!("{text:?} is no table with grpc or command"));
            None
        }
        Inline::Table(table) => {
            let means = if table.has("command") {
                means::hook(section, key, &table).map(Means::Command)
            } else if table.has("grpc") {
                let grpc = means::grpc(section, key, &table, Duration::from_secs(5));
                grpc.map(|means::Grpc { target, ca, timeout }| Means::Grpc { target, ca, timeout })
            } else {
                section.problem(key, "needs grpc or command");
                None
            };
            table.finish();
            means
        }
    }
}
