//! What commands have in common that print what they hear of until they are stopped.

use std::time::Duration;

use genesis_client::{Client, Error, Kind};
use serde_json::Value;
use tonic::Streaming;

use crate::cli::Format;
use crate::connect::Session;
use crate::exit::{Halt, Stop};
use crate::render;

/// How often in a row a broken stream is opened again without anything being heard. With the pauses this is over half a
/// minute: time for an agent to be restarted.
const RESUMES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Refuses formats that have an end.
pub(super) fn needs_lines(session: &Session<'_>) -> Result<(), Halt> {
    match session.format().is_one_value() {
        true => Err(Halt::Usage("an array would never end: use -o jsonl".into())),
        false => Ok(()),
    }
}

/// Applies `--timeout`, which is no failure: the work has no other end.
pub(super) async fn limited(
    session: &Session<'_>,
    client: &Client,
    work: impl Future<Output = Result<(), Stop>>,
) -> Result<(), Stop> {
    match session.limited(client.node(), work).await {
        Err(Stop::Node(error)) if error.reason == "NOT_FINISHED" => Ok(()),
        ended => ended,
    }
}

/// Hands each message to `hear` until that says that it is the last, or the agent ends the stream. One that breaks is
/// opened again, and the agent begins it with how things are.
pub(super) async fn resumed<T, S>(
    client: &Client,
    open: impl Fn() -> S,
    mut hear: impl FnMut(T) -> Result<bool, Stop>,
) -> Result<(), Stop>
where
    S: Future<Output = Result<Streaming<T>, Error>>,
{
    let mut breaks = 0;
    loop {
        let mut heard = false;
        let broken = match open().await {
            Err(error) => error,
            Ok(mut stream) => loop {
                let message = match client.next(&mut stream).await {
                    Ok(Some(message)) => message,
                    Ok(None) => return Ok(()),
                    Err(error) => break error,
                };
                heard = true;
                if hear(message)? {
                    return Ok(());
                }
            },
        };
        breaks = if heard { 1 } else { breaks + 1 };
        // What was never heard of can't have broken.
        if !passes(&broken) || (breaks == 1 && !heard) || breaks > RESUMES {
            return Err(broken.into());
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << (breaks - 1).min(8)).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
    }
}

fn passes(error: &Error) -> bool {
    matches!(error.kind, Kind::Unreachable | Kind::Unavailable) || error.code == "CANCELLED"
}

/// Prints a line for people, an object a line for programs.
pub(super) fn tell(
    session: &Session<'_>,
    client: &Client,
    line: impl FnOnce() -> String,
    json: impl FnOnce() -> Result<Value, Error>,
) -> Result<(), Stop> {
    if session.format() != Format::Table {
        return Ok(session.event(client.node(), json()?)?);
    }
    let node = if session.many() { format!("{} ", client.node()) } else { String::new() };
    let line = format!("{node}{}", line());
    Ok(session.console(|console| render::live_line(console, &line))?)
}
