//! `alerts`: what people hear of, and what they do not want to hear.

use clap::Subcommand;
use genesis_client::v1::{
    AckAlertRequest, Alert, AlertState, Delivery, DeliveryOutcome, EndSilenceRequest,
    GetAlertRequest, GetAlertsStatusRequest, GetAlertsStatusResponse, ListAlertsRequest,
    ListDeliveriesRequest, Severity, Silence, SilenceAlertsRequest, TestChannelRequest,
};

use super::incomplete_answer;
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, Cell, Part, View};

const SERVICE: &str = "genesis.v1.AlertsService";
pub(super) const COLUMNS: &[&str] =
    &["ALERT", "SEVERITY", "STATE", "SUBJECT", "SINCE", "TOLD", "QUIET", "TITLE"];
const SENT: &[&str] = &["AT", "CHANNEL", "OCCASION", "OUTCOME", "ATTEMPTS", "ALERTS", "SAID"];

const LIST_EXAMPLES: &str = "\
Examples:
  genesisctl alerts list
  genesisctl alerts list --resolved --limit 20";
const SHOW_EXAMPLES: &str = "\
Examples:
  genesisctl alerts show last
  genesisctl alerts show 01J9ZK";
const ACK_EXAMPLES: &str = "\
People are not told again until it ends by itself. Automation is a matter of `health ack`.

Examples:
  genesisctl alerts ack last --reason 'olga is on it'
  genesisctl alerts ack 01J9ZK --for 2h";
const SILENCE_EXAMPLES: &str = "\
Needs --reason. What is critical is only silenced with --severity critical.

Examples:
  genesisctl alerts silence --subject 'disk:*' --for 1h --reason 'the disk is being replaced'
  genesisctl alerts silence --source logs --for 30m --reason 'the archive moves' --plan";
const UNSILENCE_EXAMPLES: &str = "\
Example:
  genesisctl alerts unsilence 01J9ZK";
const HISTORY_EXAMPLES: &str = "\
Example:
  genesisctl alerts history --limit 20";
const TEST_EXAMPLES: &str = "\
Sends a message that says it is a test, and exits 0 only when the channel accepted it.

Example:
  genesisctl alerts test pagerduty";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List what fires, the channels with what is wrong with them, and the silences.
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Those that are over, too.
        #[arg(long)]
        resolved: bool,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show one alert: what is known, what was tried, who was told.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
    },
    /// Say that somebody takes care of an alert, so that nobody is told again for a while.
    #[command(after_help = ACK_EXAMPLES)]
    Ack {
        /// The id, its unique beginning of at least four characters, or "last".
        id: String,
        /// For how long.
        #[arg(long = "for", value_name = "TIME", default_value = "8h")]
        lasts: String,
    },
    /// Keep people from hearing of some alerts for a while.
    #[command(after_help = SILENCE_EXAMPLES)]
    Silence {
        /// Alerts whose subject matches this glob.
        #[arg(long, value_name = "GLOB", default_value = "")]
        subject: String,
        /// Alerts of this source: alerts, backup, baselines, breaker, certificate, database, dependencies, experiments, fleet, health, logs, matrices, pki, recovery, schedule.
        #[arg(long, value_name = "NAME", default_value = "")]
        source: String,
        /// Alerts no worse than this.
        #[arg(long, value_enum, default_value_t = Worst::High)]
        severity: Worst,
        /// For how long.
        #[arg(long = "for", value_name = "TIME", default_value = "2h")]
        lasts: String,
    },
    /// End a silence.
    #[command(after_help = UNSILENCE_EXAMPLES)]
    Unsilence {
        /// The silence's id, or its unique beginning of at least four characters.
        id: String,
    },
    /// List what became of the latest messages.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Send a test through a channel.
    #[command(after_help = TEST_EXAMPLES)]
    Test {
        /// The channel's name.
        channel: String,
    },
}

/// The worst that is silenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Worst {
    Low,
    Medium,
    High,
    Critical,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        match self {
            Self::List { .. } | Self::Show { .. } | Self::History { .. } => None,
            Self::Ack { .. } => Some((SERVICE, "AckAlert")),
            Self::Silence { .. } => Some((SERVICE, "SilenceAlerts")),
            Self::Unsilence { .. } => Some((SERVICE, "EndSilence")),
            Self::Test { .. } => Some((SERVICE, "TestChannel")),
        }
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List { resolved: false, .. } => status(session).await,
        Verb::List { resolved: true, limit } => list(session, *limit).await,
        Verb::Show { id } => show(session, id).await,
        Verb::Ack { id, lasts } => ack(session, id, lasts).await,
        Verb::Silence { subject, source, severity, lasts } => {
            let severity = match severity {
                Worst::Low => Severity::Low,
                Worst::Medium => Severity::Medium,
                Worst::High => Severity::High,
                Worst::Critical => Severity::Critical,
            };
            let request = SilenceAlertsRequest {
                source: source.clone(),
                subject: subject.clone(),
                severity: severity.into(),
                lasts: lasts.clone(),
                plan_hash: session.plan_hash(),
            };
            silence(session, request).await
        }
        Verb::Unsilence { id } => unsilence(session, id).await,
        Verb::History { limit } => history(session, *limit).await,
        Verb::Test { channel } => test(session, channel).await,
    }
}

async fn status(session: &Session<'_>) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let request = GetAlertsStatusRequest {};
            let status = client
                .call(request, |c, r| async move { c.alerts().get_alerts_status(r).await })
                .await?;
            let json = session.json("GetAlertsStatusResponse", &status)?;
            let view = View {
                columns: COLUMNS,
                rows: status.firing.iter().map(row).collect(),
                empty: "nothing fires",
                tail: notes(&status),
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

/// What is wrong with alerting, what is silenced, and what waits.
pub(super) fn notes(status: &GetAlertsStatusResponse) -> Vec<String> {
    let mut notes = Vec::new();
    for channel in status.channels.iter().filter(|channel| !channel.trouble.is_empty()) {
        notes.push(format!(
            "channel {} ({}) is in trouble since {}: {}",
            channel.name,
            channel.kind,
            format::time(channel.trouble_since.as_ref()),
            channel.trouble
        ));
    }
    if status.channels.is_empty() {
        notes.push("no channel is configured, so nobody is called: [alerts.channel.NAME]".into());
    } else if !status.unheard.is_empty() {
        let unheard: Vec<&str> = status.unheard().map(format::severity).collect();
        notes.push(format!("nobody would hear of what is {}", unheard.join(", ")));
    }
    notes.extend(status.silences.iter().map(silenced));
    if status.waiting > 0 {
        notes.push(format!("{} to be sent", format::plural(status.waiting.into(), "message")));
    }
    notes
}

fn silenced(silence: &Silence) -> String {
    let source = format::or_none(&silence.source);
    format!(
        "silence {}: source {source}, subject {}, {} at worst, until {} by {}: {}",
        silence.id,
        format::or_none(&silence.subject),
        format::severity(silence.severity()),
        format::time(silence.until.as_ref()),
        silence.by,
        silence.reason
    )
}

async fn list(session: &Session<'_>, limit: u32) -> Result<Exit, Halt> {
    session
        .each_in(COLUMNS, |client| async move {
            let request = ListAlertsRequest { all: true, limit };
            let list =
                client.call(request, |c, r| async move { c.alerts().list_alerts(r).await }).await?;
            let json = session.json("ListAlertsResponse", &list)?;
            let view = View {
                columns: COLUMNS,
                rows: list.alerts.iter().map(row).collect(),
                empty: "no alerts",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) fn row(alert: &Alert) -> Vec<Cell> {
    let bad = alert.state() == AlertState::Firing && alert.quiet.is_empty();
    let told = match (alert.told.as_slice(), alert.telling.as_slice()) {
        ([], []) => "nobody".to_owned(),
        ([], telling) => format!("trying {}", telling.join(", ")),
        (told, []) => told.join(", "),
        (told, telling) => format!("{}, trying {}", told.join(", "), telling.join(", ")),
    };
    vec![
        Cell::from(alert.id.as_str()),
        Cell::severity(alert.severity()),
        Cell::alert(state(alert), bad),
        Cell::from(alert.subject.as_str()),
        Cell::from(format::time(alert.since.as_ref())),
        Cell::from(told),
        Cell::from(format::or_none(&alert.quiet)),
        Cell::from(alert.title.as_str()),
    ]
}

fn state(alert: &Alert) -> String {
    let state = format::short_name(alert.state().as_str_name(), "ALERT_STATE_");
    if alert.flapping { format!("{state}, flapping") } else { state.to_owned() }
}

async fn show(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    session
        .each(|client| async move {
            let request = GetAlertRequest { id: id.to_owned() };
            let response =
                client.call(request, |c, r| async move { c.alerts().get_alert(r).await }).await?;
            let json = session.json("GetAlertResponse", &response)?;
            let alert = response.alert.ok_or_else(|| incomplete_answer("the alert"))?;
            let mut view = page(&alert);
            let sent = Part {
                title: "What was sent".to_owned(),
                columns: SENT,
                rows: response.deliveries.iter().map(delivery).collect(),
                ..Part::default()
            };
            view.parts.extend((!sent.rows.is_empty()).then_some(sent));
            Ok(Answer::new(json, view))
        })
        .await
}

pub(super) fn page(alert: &Alert) -> View {
    let mut lead = vec![
        format!("alert {} {}: {}", alert.id, state(alert), alert.title),
        format!(
            "severity {}, from {} about {}, since {}",
            format::severity(alert.severity()),
            alert.source,
            alert.subject,
            format::time(alert.since.as_ref())
        ),
    ];
    if alert.resolved_at.is_some() {
        lead.push(format!("over {}", format::time(alert.resolved_at.as_ref())));
    }
    if !alert.acked_by.is_empty() {
        lead.push(format!(
            "{} takes care of it until {}: {}",
            alert.acked_by,
            format::time(alert.acked_until.as_ref()),
            format::or_none(&alert.ack_note)
        ));
    }
    if !alert.quiet.is_empty() {
        lead.push(format!("nobody is told now: {}", alert.quiet));
    }
    lead.push(format!(
        "told: {}; trying: {}; told again {}",
        format::or_none(&alert.told.join(", ")),
        format::or_none(&alert.telling.join(", ")),
        format::plural(alert.repeats.into(), "time")
    ));
    let known =
        Part { title: "What is known".to_owned(), lines: alert.details.clone(), ..Part::default() };
    let runbook = Part {
        title: "What to do".to_owned(),
        lines: vec![format!("`genesisctl runbook show {}`", alert.runbook)],
        ..Part::default()
    };
    let parts = [known, runbook].into_iter().filter(|part| !part.lines.is_empty()).collect();
    View { lead, parts, ..View::default() }
}

fn delivery(delivery: &Delivery) -> Vec<Cell> {
    let outcome = delivery.outcome();
    let word = format::short_name(outcome.as_str_name(), "DELIVERY_OUTCOME_");
    vec![
        Cell::from(format::time(delivery.at.as_ref())),
        Cell::from(delivery.channel.as_str()),
        Cell::from(delivery.occasion.as_str()),
        Cell::alert(word, outcome != DeliveryOutcome::Accepted),
        Cell::number(delivery.attempts.to_string()),
        Cell::number(delivery.alerts.len().to_string()),
        Cell::from(delivery.detail.as_str()),
    ]
}

async fn history(session: &Session<'_>, limit: u32) -> Result<Exit, Halt> {
    session
        .each_in(SENT, |client| async move {
            let request = ListDeliveriesRequest { limit };
            let list = client
                .call(request, |c, r| async move { c.alerts().list_deliveries(r).await })
                .await?;
            let json = session.json("ListDeliveriesResponse", &list)?;
            let view = View {
                columns: SENT,
                rows: list.deliveries.iter().map(delivery).collect(),
                empty: "nothing was sent yet",
                ..View::default()
            };
            Ok(Answer::new(json, view))
        })
        .await
}

async fn ack(session: &Session<'_>, id: &str, lasts: &str) -> Result<Exit, Halt> {
    let request = AckAlertRequest {
        id: id.to_owned(),
        lasts: lasts.to_owned(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, alerts, plan_ack_alert);
    }
    consent(session, SERVICE, "AckAlert", &format!("take care of alert {id}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.alerts().ack_alert(r).await })
                .await?;
            let json = session.json("AckAlertResponse", &response)?;
            let alert = response.alert.ok_or_else(|| incomplete_answer("the alert"))?;
            let line = format!(
                "{} takes care of alert {} until {}: {} {}",
                format::or_none(&alert.acked_by),
                alert.id,
                format::time(alert.acked_until.as_ref()),
                format::severity(alert.severity()),
                alert.title
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

async fn silence(session: &Session<'_>, request: SilenceAlertsRequest) -> Result<Exit, Halt> {
    if session.global.plan {
        return plan::ask!(session, request, alerts, plan_silence_alerts);
    }
    reason(session, "alerts silence", "why should nobody hear of it?")?;
    consent(session, SERVICE, "SilenceAlerts", "silence alerts")?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.alerts().silence_alerts(r).await })
                .await?;
            let json = session.json("SilenceAlertsResponse", &response)?;
            let silence = response.silence.ok_or_else(|| incomplete_answer("the silence"))?;
            let covered = format::plural(response.covered.into(), "alert");
            let line =
                format!("{}; it covers {covered} of those that fire now", silenced(&silence));
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

async fn unsilence(session: &Session<'_>, id: &str) -> Result<Exit, Halt> {
    let request = EndSilenceRequest { id: id.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, alerts, plan_end_silence);
    }
    consent(session, SERVICE, "EndSilence", &format!("end silence {id}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.alerts().end_silence(r).await })
                .await?;
            let json = session.json("EndSilenceResponse", &response)?;
            let silence = response.silence.ok_or_else(|| incomplete_answer("the silence"))?;
            Ok(Answer::new(json, View::line(format!("silence {} is ended", silence.id))))
        })
        .await
}

async fn test(session: &Session<'_>, channel: &str) -> Result<Exit, Halt> {
    let request =
        TestChannelRequest { channel: channel.to_owned(), plan_hash: session.plan_hash() };
    if session.global.plan {
        return plan::ask!(session, request, alerts, plan_test_channel);
    }
    consent(session, SERVICE, "TestChannel", &format!("send a test through {channel}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(request.clone(), |c, r| async move { c.alerts().test_channel(r).await })
                .await?;
            let json = session.json("TestChannelResponse", &response)?;
            let line = format!("{} accepted the test: {}", request.channel, response.said);
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}
