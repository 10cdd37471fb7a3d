//! Prints one line for each node: `status --context-file FILE NODE...`, or without nodes for those of the file's
//! current context. Exits 1 when a node did not answer or is not well.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use genesis_client::v1::{Condition, GetStatusRequest, GetStatusResponse};
use genesis_client::{Client, Context, Contexts, Error, Kind, Node, Options};
use tokio::task::JoinSet;

/// How often a node that is busy or down is asked, the first time included.
const ATTEMPTS: u32 = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => code,
        Err(error) => {
            // An error says what went wrong and what to do; its reason is stable and made for programs.
            let _ = writeln!(io::stderr(), "status: {error}: {} ({})", error.next, error.reason);
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<ExitCode, Error> {
    let (file, mut nodes) = arguments()?;
    let contexts = Contexts::load(&file)?;
    let context =
        contexts.resolve(None, |_| None)?.cloned().ok_or_else(|| usage("no `current`"))?;
    if nodes.is_empty() {
        nodes = context.nodes().to_vec();
    }
    let mut asking = JoinSet::new();
    for (index, node) in nodes.iter().cloned().enumerate() {
        let context = context.clone();
        asking.spawn(async move { (index, status(&context, &node).await) });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    let mut out = io::stdout();
    let mut well = true;
    for (node, (_, answer)) in nodes.iter().zip(&answers) {
        well &= matches!(answer, Ok(status) if status.condition() == Condition::Ok);
        let line = match answer {
            Ok(status) => format!(
                "{node} {} {} {}",
                status.condition().as_str_name().trim_start_matches("CONDITION_"),
                status.hostname,
                status.version
            ),
            Err(error) => format!("{node} ERROR {} {error}", error.reason),
        };
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks one node. What an overloaded agent sheds is sent again by the client; this repeats what is worth it beyond
/// that, by the kind of the error.
async fn status(context: &Context, node: &Node) -> Result<GetStatusResponse, Error> {
    let options = Options {
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(2),
        reason: "status example".to_owned(),
        ..Options::default()
    };
    let mut attempt = 1;
    loop {
        let asked = async {
            let client = Client::connect_context(context, node, options.clone()).await?;
            client
                .call(GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await })
                .await
        };
        match asked.await {
            Err(error) if attempt < ATTEMPTS && error.kind == Kind::Unavailable => {
                tokio::time::sleep(error.retry_after.unwrap_or(Duration::from_millis(200))).await;
                attempt += 1;
            }
            // Refused, not allowed, not there: asking again would not help.
            answered => return answered,
        }
    }
}

fn arguments() -> Result<(PathBuf, Vec<Node>), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some("--context-file"), Some(file)) = (arguments.next().as_deref(), arguments.next())
    else {
        return Err(usage("no --context-file"));
    };
    let nodes = arguments.map(|node| node.parse()).collect::<Result<_, _>>()?;
    Ok((file.into(), nodes))
}

fn usage(what: &str) -> Error {
    let next = "call it as: status --context-file FILE NODE...";
    Error::new(Kind::Invalid, "INVALID_ARGUMENT", "USAGE", what, next)
}
