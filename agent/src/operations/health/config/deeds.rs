//! What a configured check has done about it.

use super::probes::url;
use crate::config::means;
use crate::config::reader::{Inline, Section, quoted};
use crate::operations::health::check::{Deed, Means};
use crate::operations::health::matrix::Action;

/// What the agent knows to do by itself.
const BUILT_IN: [&str; 3] = ["make-room", "reset-connections", "cancel-query"];

/// The actions of a check: what is done by itself, and what people can have done.
pub(super) fn read_deeds(
    section: &Section<'_>,
    actions: Option<(Action, Action)>,
) -> (Option<Deed>, Option<Deed>) {
    const HELP: &str = "What is done by itself: \"make-room\" (disk-*), \"reset-connections\" (database-pool), \
                        \"cancel-query\" (database-blocked), { command = [\"argv\", ...], timeout = \"30s\" }, \
                        { signal = \"USR1\", pidfile = \"/run/x.pid\" }, or { http = \"http://127.0.0.1:8080/gc\" } (POST). Empty: nothing.";
    const FALLBACK: &str =
        "What people can have done by `genesisctl health run`, written as action is.";
    let action = read_means(section, "action", HELP);
    let fallback = read_means(section, "fallback", FALLBACK);
    let override_flag = |key, help| {
        section.parsed(key, Some(""), help, |text| match text {
            "" => Ok(None),
            "yes" => Ok(Some(true)),
            "no" => Ok(Some(false)),
            _ => Err(format!("{text:?} is neither yes nor no")),
        })
    };
    let touching = override_flag(
        "trade_touching",
        "\"yes\" or \"no\": whether action reaches into trading, so that trades in progress hold it back. Empty: as its row says.",
    );
    let destructive = override_flag(
        "destructive",
        "\"yes\" or \"no\": whether what action changes can't be had back. Empty: as its row says.",
    );
    let Some((by_itself, by_hand)) = actions else { return (None, None) };
    let by_itself = Action {
        trade_touching: touching.flatten().unwrap_or(by_itself.trade_touching),
        destructive: destructive.flatten().unwrap_or(by_itself.destructive),
        // Only what the agent itself knows to be harmless goes on in an emergency.
        goes_on: by_itself.goes_on && matches!(action, Some(Means::BuiltIn(_))),
        ..by_itself
    };
    let deed = |action, means: Option<Means>| means.map(|means| Deed { action, means });
    (deed(by_itself, action), deed(by_hand, fallback))
}

fn read_means(section: &Section<'_>, key: &'static str, help: &'static str) -> Option<Means> {
    match section.inline(key, "\"\"", help)? {
        Inline::Text(text) if text.is_empty() => None,
        Inline::Text(text) => match BUILT_IN.into_iter().find(|name| *name == text) {
            Some(name) => {
                section.effective_inline(key, &quoted(name));
                Some(Means::BuiltIn(name))
            }
            None => {
                let known = BUILT_IN.map(quoted).join(", ");
                section.problem(
                    key,
                    format!(
                        "{text:?} is none of {known}, nor a table with command, signal or http"
                    ),
                );
                None
            }
        },
        Inline::Table(table) => {
            let means = if table.has("command") {
                means::hook(section, key, &table).map(Means::Hook)
            } else if table.has("http") {
                read_http(section, key, &table)
            } else {
                let told = means::signal(section, key, &table);
                told.map(|(signal, pidfile)| Means::Signal { signal, pidfile })
            };
            table.finish();
            means
        }
    }
}

fn read_http(section: &Section<'_>, key: &str, table: &Section<'_>) -> Option<Means> {
    let text = table.quiet_text("http")?;
    let timeout = means::timeout(table)?;
    if let Err(why) = url(&text) {
        table.problem("http", why);
        return None;
    }
    section.effective_inline(
        key,
        &format!("{{ http = {}, timeout = \"{}ms\" }}", quoted(&text), timeout.as_millis()),
    );
    Some(Means::Http { url: text, timeout })
}
