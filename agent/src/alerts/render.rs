//! What is said, as each channel takes it: pure functions of a message. Whatever comes from outside is bounded, and
//! cleaned of what a reader's screen or a protocol could take for more than text.

use serde_json::{Value, json};

use super::message::{Item, Message, Occasion};
use crate::events::Severity;

/// So much of one text is shown, in characters.
const TEXT: usize = 500;
/// So many details of one alert are shown.
const DETAILS: usize = 12;
/// PagerDuty takes so many characters of a summary.
const SUMMARY: usize = 1_024;
/// A short message is so long at most.
const SHORT: usize = 320;
/// Slack takes longer ones, and nobody reads them.
const LONG: usize = 3_500;

/// One line: no control characters, none that turn the direction of the text, at most `limit` characters.
pub fn clean(text: &str, limit: usize) -> String {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let spaced = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let mut kept: Vec<char> = spaced.filter(|c| !unseen(*c)).take(limit + 1).collect();
    if kept.len() > limit {
        kept.truncate(limit.saturating_sub(1));
        kept.push('…');
    }
    kept.into_iter().collect::<String>().trim().to_owned()
}

/// How bad the worst of it is.
fn worst(message: &Message) -> Option<Severity> {
    message.items.iter().map(|item| item.severity).max()
}

/// Where its runbook page is: a link, or the command that shows it.
pub fn runbook(message: &Message, item: &Item) -> String {
    match message.sender.runbooks.as_str() {
        "" => format!("genesisctl runbook show {}", item.runbook),
        base => format!("{}/{}.md", base.trim_end_matches('/'), item.runbook),
    }
}

/// Whom to call about what is critical, in a line.
fn whom(message: &Message) -> Option<String> {
    let told = matches!(message.occasion, Occasion::Firing | Occasion::Repeat);
    if !told || worst(message) != Some(Severity::Critical) {
        return None;
    }
    let sender = &message.sender;
    let named = [("on call", &sender.on_call), ("escalation", &sender.escalation)];
    let named = named.iter().filter(|(_, whom)| !whom.is_empty());
    let named: Vec<_> = named.map(|(when, whom)| format!("{when}: {}", clean(whom, 120))).collect();
    (!named.is_empty()).then(|| named.join(", "))
}

fn word(occasion: Occasion, item: &Item) -> String {
    match occasion {
        // It waited for its channel for too long.
        Occasion::Firing | Occasion::Repeat if item.resolved.is_some() => {
            format!("{}, OVER BY NOW", item.severity.name().to_uppercase())
        }
        Occasion::Resolved => "RESOLVED".to_owned(),
        Occasion::Acknowledged => "ACKNOWLEDGED".to_owned(),
        Occasion::Repeat => format!("STILL {}", item.severity.name().to_uppercase()),
        _ => item.severity.name().to_uppercase(),
    }
}

/// What it is about, in a line.
pub fn headline(message: &Message) -> String {
    let host = clean(&message.sender.hostname, 80);
    let text = match (message.occasion, message.items.as_slice()) {
        (Occasion::Test, _) => format!("[TEST] {host}: this channel works"),
        (Occasion::Heartbeat, _) => format!("{host}: the agent lives"),
        (Occasion::Digest, items) => format!("[DIGEST] {host}: {} low alert(s)", items.len()),
        (_, []) => host,
        (occasion, [item]) => format!("[{}] {host}: {}", word(occasion, item), item.title),
        (occasion, items) => {
            let worst = items.iter().max_by_key(|item| item.severity).unwrap_or(&items[0]);
            let word = word(occasion, worst);
            format!("[{word}] {host}: {} alerts: {}", items.len(), worst.title)
        }
    };
    clean(&text, TEXT)
}

fn details(item: &Item) -> Vec<String> {
    item.details.iter().take(DETAILS).map(|line| clean(line, TEXT)).collect()
}

/// An event of PagerDuty, Events API v2, about the one alert of the message.
pub fn pagerduty(message: &Message, key: &str) -> Value {
    let item = message.items.first();
    let action = match message.occasion {
        Occasion::Resolved => "resolve",
        Occasion::Acknowledged => "acknowledge",
        _ => "trigger",
    };
    // A test is no incident: it has a key of its own, and is the mildest there is.
    let dedup = item.map_or(&message.id, |item| &item.id);
    let mut event = json!({
        "routing_key": key,
        "event_action": action,
        "dedup_key": format!("{}/{dedup}", message.sender.host_id),
    });
    if action == "trigger" {
        let severity = match worst(message) {
            Some(Severity::Critical) => "critical",
            Some(Severity::High) => "error",
            Some(Severity::Medium) => "warning",
            Some(Severity::Low) | None => "info",
        };
        event["payload"] = json!({
            "summary": clean(&headline(message), SUMMARY),
            "source": clean(&message.sender.hostname, TEXT),
            "severity": severity,
            "timestamp": item.map_or(message.at, |item| item.since).to_string(),
            "component": item.map(|item| clean(&item.subject, TEXT)),
            "group": clean(&message.sender.fleet, TEXT),
            "class": item.map(|item| clean(&item.source, TEXT)),
            "custom_details": {
                "details": item.map(details),
                "runbook": item.map(|item| runbook(message, item)),
                "note": clean(&message.note, TEXT),
                "alert": item.map(|item| item.id.clone()),
            },
        });
        if let Some(whom) = whom(message) {
            event["payload"]["custom_details"]["call"] = json!(whom);
        }
        event["client"] = json!("GENESIS");
        if let Some(item) = item.filter(|_| !message.sender.runbooks.is_empty()) {
            event["links"] = json!([{ "href": runbook(message, item), "text": "runbook" }]);
        }
    }
    event
}

/// The end of what `message` has begun at PagerDuty.
pub fn pagerduty_end(message: &Message, key: &str) -> Value {
    pagerduty(&Message { occasion: Occasion::Resolved, ..message.clone() }, key)
}

/// For a screen that shows one short message. What to type comes last, and is always there.
pub fn short(message: &Message) -> String {
    let mut text = headline(message);
    if !message.note.is_empty() {
        text = format!("{text} ({})", clean(&message.note, 120));
    }
    let next = match (message.occasion, message.items.as_slice()) {
        (Occasion::Firing | Occasion::Repeat, [item]) => format!(" alert {}", item.id),
        (Occasion::Firing | Occasion::Repeat, _) => " genesisctl alerts list".to_owned(),
        _ => String::new(),
    };
    clean(&text, SHORT - next.len()) + &next
}

/// For Slack, whose three special characters are escaped.
pub fn slack(message: &Message) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = format!("*{}*", escape(&headline(message)).replace('*', "∗"));
    if !message.note.is_empty() {
        text.push_str(&format!("\n{}", escape(&clean(&message.note, TEXT))));
    }
    let several = message.items.len() > 1;
    for item in &message.items {
        let mut part = String::new();
        if several {
            let line = format!("[{}] {}", word(message.occasion, item), clean(&item.title, 200));
            part.push_str(&format!("\n• {}", escape(&line)));
        } else if message.occasion != Occasion::Resolved {
            for line in details(item) {
                let line = format!("\n• {}", escape(&line));
                // The way to the runbook has its place in any case.
                if text.chars().count() + part.chars().count() + line.chars().count() > LONG - 300 {
                    break;
                }
                part.push_str(&line);
            }
        }
        if message.occasion != Occasion::Resolved {
            let (page, id) = (escape(&runbook(message, item)), &item.id);
            part.push_str(&format!("\n   runbook: {page}, alert {id}"));
        }
        if text.chars().count() + part.chars().count() > LONG {
            text.push_str("\n…more: genesisctl alerts list");
            break;
        }
        text.push_str(&part);
    }
    if let Some(whom) = whom(message)
        && text.chars().count() + whom.chars().count() < LONG
    {
        text.push_str(&format!("\n   {}", escape(&whom)));
    }
    text
}

/// Subject and text of a mail.
pub fn mail(message: &Message) -> (String, String) {
    let subject = headline(message);
    let mut text = format!("{subject}\n");
    if !message.note.is_empty() {
        text.push_str(&format!("\n{}\n", clean(&message.note, TEXT)));
    }
    for item in &message.items {
        text.push_str(&format!(
            "\n{}  {}\n  {}\n  since {:.0}",
            word(message.occasion, item),
            clean(&item.subject, TEXT),
            clean(&item.title, TEXT),
            item.since
        ));
        if let Some(until) = item.resolved {
            text.push_str(&format!(", over at {until:.0}"));
        }
        text.push('\n');
        if message.occasion != Occasion::Digest {
            for line in details(item) {
                text.push_str(&format!("  - {line}\n"));
            }
        }
        text.push_str(&format!("  {}\n  alert {}\n", runbook(message, item), item.id));
    }
    if let Some(whom) = whom(message) {
        text.push_str(&format!("\n{whom}\n"));
    }
    let sender = &message.sender;
    text.push_str(&format!(
        "\n-- \nGENESIS agent of {} ({}), fleet {:?}\n",
        clean(&sender.hostname, TEXT),
        sender.host_id,
        clean(&sender.fleet, TEXT)
    ));
    (subject, text)
}

/// For programs: what docs/configuration.md says of webhooks and commands.
pub fn json(message: &Message) -> Value {
    let item = |item: &Item| {
        json!({
            "id": item.id,
            "source": item.source,
            "subject": clean(&item.subject, TEXT),
            "severity": item.severity.name(),
            "title": clean(&item.title, TEXT),
            "details": details(item),
            "runbook": runbook(message, item),
            "since": item.since.to_string(),
            "resolved": item.resolved.map(|at| at.to_string()),
        })
    };
    let call = whom(message).unwrap_or_default();
    json!({
        "version": 1,
        "call": call,
        "message": message.id,
        "occasion": message.occasion.name(),
        "headline": headline(message),
        "note": clean(&message.note, TEXT),
        "alerts": message.items.iter().map(item).collect::<Vec<_>>(),
        "host": {
            "id": message.sender.host_id,
            "name": message.sender.hostname,
            "fleet": message.sender.fleet,
        },
        "at": message.at.to_string(),
    })
}
