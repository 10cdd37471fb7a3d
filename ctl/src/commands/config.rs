//! `config`: what the agent runs with.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use genesis_client::v1::{
    CheckConfigRequest, CheckConfigResponse, ConfigProblem, GetConfigRequest, ReloadConfigRequest,
};

use crate::confirm::consent;
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, View};

const SERVICE: &str = "genesis.v1.AgentService";

const PROBLEM_COLUMNS: &[&str] = &["LINE", "COLUMN", "KEY", "PROBLEM"];

/// The largest configuration file that is read, in bytes.
const FILE_LIMIT: u64 = 1 << 20;

const SHOW_EXAMPLES: &str = "\
What is printed is itself a valid configuration file.

Examples:
  genesisctl config show
  genesisctl config show -n web-1:7443 > web-1.toml";

const CHECK_EXAMPLES: &str = "\
Exits 3 when there are problems.

Examples:
  genesisctl config check
  genesisctl config check ./agent.toml
  genesisctl config check - < agent.toml";

const RELOAD_EXAMPLES: &str = "\
Examples:
  genesisctl config reload --plan
  genesisctl config reload --reason 'longer retention'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the configuration in force, defaults filled in.
    #[command(after_help = SHOW_EXAMPLES)]
    Show,
    /// Check a configuration against the agent: the file that it would load, or a local one.
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// A file on this machine, "-" for standard input; without it, the file on the agent's host.
        file: Option<PathBuf>,
    },
    /// Read the configuration file again and apply what can change without a restart.
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload,
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::Show => show(session).await,
        Verb::Check { file } => check(session, file.as_deref()).await,
        Verb::Reload => reload(session).await,
    }
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::Show | Self::Check { .. } => None,
            Self::Reload => Some((SERVICE, "ReloadConfig")),
        }
    }
}

async fn show(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let config = client
                .call(GetConfigRequest {}, |c, r| async move { c.agent().get_config(r).await })
                .await?;
            let json = session.json("GetConfigResponse", &config)?;
            let source = match config.source.as_str() {
                "" => "built-in defaults".to_owned(),
                source => format!("{source}, sha256 {}", config.sha256),
            };
            // A comment, so that the output stays a configuration file. The source is one line of text.
            let text = format!(
                "# {}\n# generation {}, loaded at {}\n{}",
                crate::render::clean(&source),
                config.generation,
                format::time(config.loaded_at.as_ref()),
                config.effective_toml,
            );
            Ok(Answer::new(json, View { text, ..View::default() }))
        })
        .await
}

async fn check(session: &Session<'_>, file: Option<&Path>) -> Result<Exit, Halt> {
    let toml = file.map(|file| read(session, file)).transpose()?;
    let toml = &toml;
    session
        .each_in(PROBLEM_COLUMNS, |client| async move {
            let request = CheckConfigRequest { toml: toml.clone() };
            let check =
                client.call(request, |c, r| async move { c.agent().check_config(r).await }).await?;
            let json = session.json("CheckConfigResponse", &check)?;
            let good = check.valid && check.problems.is_empty();
            let exit = if good { Exit::Ok } else { Exit::Findings };
            Ok(Answer::new(json, check_view(&check, good)).exit(exit))
        })
        .await
}

fn check_view(check: &CheckConfigResponse, good: bool) -> View {
    let lead = match (good, check.problems.len()) {
        (true, _) => "valid".to_owned(),
        (false, 0) => "not valid".to_owned(),
        (false, problems) => format!("not valid: {}", format::plural(problems as u64, "problem")),
    };
    let position = |number: u32| match number {
        0 => Cell::number(format::NONE),
        number => Cell::number(number.to_string()),
    };
    let row = |problem: &ConfigProblem| {
        vec![
            position(problem.line),
            position(problem.column),
            Cell::from(format::or_none(&problem.key)),
            Cell::from(problem.message.as_str()),
        ]
    };
    View {
        lead: vec![lead],
        columns: PROBLEM_COLUMNS,
        rows: check.problems.iter().map(row).collect(),
        tail: restart_line(&check.restart_needed).into_iter().collect(),
        ..View::default()
    }
}

fn restart_line(keys: &[String]) -> Option<String> {
    (!keys.is_empty()).then(|| format!("needs a restart of the agent: {}", keys.join(", ")))
}

async fn reload(session: &Session<'_>) -> Result<Exit, Halt> {
    let request = ReloadConfigRequest { plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, agent, plan_reload_config);
    }
    consent(session, SERVICE, "ReloadConfig", "reload the configuration")?;
    let request = &request;
    session
        .each(|client| async move {
            let reload = client
                .call(request.clone(), |c, r| async move { c.agent().reload_config(r).await })
                .await?;
            let json = session.json("ReloadConfigResponse", &reload)?;
            let line = match (reload.changed, reload.applied.is_empty()) {
                (false, _) => format!("nothing changed, still generation {}", reload.generation),
                (true, true) => {
                    format!("generation {} is loaded, nothing to apply", reload.generation)
                }
                (true, false) => {
                    format!(
                        "generation {} is in force: {}",
                        reload.generation,
                        reload.applied.join(", ")
                    )
                }
            };
            let mut view = View::line(line);
            view.lead.extend(restart_line(&reload.restart_needed));
            Ok(Answer::new(json, view))
        })
        .await
}

fn read(session: &Session<'_>, file: &Path) -> Result<String, Halt> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        session
            .console(|console| (&mut console.stdin).take(FILE_LIMIT + 1).read_to_string(&mut text))
    } else {
        std::fs::File::open(file)
            .and_then(|file| file.take(FILE_LIMIT + 1).read_to_string(&mut text))
    };
    let shown = file.display();
    match read {
        Ok(bytes) if bytes as u64 > FILE_LIMIT => Err(Halt::Usage(format!(
            "{shown} has more than {}: that is no configuration file",
            format::bytes(FILE_LIMIT)
        ))),
        Ok(_) => Ok(text),
        Err(error) => {
            Err(Halt::Usage(format!("can't read {shown}: {error}: name a readable TOML file")))
        }
    }
}
