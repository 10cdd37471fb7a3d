//! `deps ignore`, `deps unignore`.

use genesis_client::v1::{IgnoreFindingRequest, IgnoredFinding, UnignoreFindingRequest};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::super::incomplete_answer;
use super::{Finding, SERVICE};
use crate::confirm::{consent, reason};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::plan;
use crate::render::{Answer, View};

/// The first moment at which a finding is heard of again. A day counts up to its end, as in the configuration.
pub(super) fn parse_until(text: &str) -> Result<Timestamp, String> {
    let hint =
        "write the last day (UTC), such as 2027-01-31, or a time such as 2027-01-31T03:00:00Z";
    let text = text.trim();
    // A date and time is a date to this parser, too.
    let day = match text.len() {
        10 => text.parse::<Date>().ok(),
        _ => None,
    };
    match day {
        Some(day) => day
            .tomorrow()
            .and_then(|next| TimeZone::UTC.to_timestamp(next.at(0, 0, 0, 0)))
            .map_err(|_| hint.to_owned()),
        None => format::parse_instant(text).map_err(|_| hint.to_owned()),
    }
}

pub(super) async fn ignore(
    session: &Session<'_>,
    which: &Finding,
    until: Timestamp,
) -> Result<Exit, Halt> {
    let Finding { id, project } = which;
    let request = IgnoreFindingRequest {
        project: project.clone(),
        id: id.clone(),
        until: Some(prost_types::Timestamp {
            seconds: until.as_second(),
            nanos: until.subsec_nanosecond(),
        }),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, dependencies, plan_ignore_finding);
    }
    reason(session, "deps ignore", "why does it do no harm here?")?;
    consent(session, SERVICE, "IgnoreFinding", &format!("ignore {id} in {project}"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.dependencies().ignore_finding(r).await },
                )
                .await?;
            let json = session.json("IgnoreFindingResponse", &response)?;
            let found = response.ignored.ok_or_else(|| incomplete_answer("what is ignored"))?;
            let line = format!(
                "{project}: {}: `genesisctl deps unignore {} --project {project}` ends that",
                line(&found),
                found.id
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

pub(super) async fn unignore(session: &Session<'_>, which: &Finding) -> Result<Exit, Halt> {
    let Finding { id, project } = which;
    let request = UnignoreFindingRequest {
        project: project.clone(),
        id: id.clone(),
        plan_hash: session.plan_hash(),
    };
    if session.global.plan {
        return plan::ask!(session, request, dependencies, plan_unignore_finding);
    }
    consent(session, SERVICE, "UnignoreFinding", &format!("hear of {id} in {project} again"))?;
    let request = &request;
    session
        .each(|client| async move {
            let response = client
                .call(
                    request.clone(),
                    |c, r| async move { c.dependencies().unignore_finding(r).await },
                )
                .await?;
            let json = session.json("UnignoreFindingResponse", &response)?;
            let line = format!(
                "{project}: {id} is heard of again, unless the configuration ignores it as well"
            );
            Ok(Answer::new(json, View::line(line)))
        })
        .await
}

/// Such as "CVE-2024-5 is ignored until 2027-02-01T00:00:00Z by ada: not reachable".
pub(super) fn line(found: &IgnoredFinding) -> String {
    let ignored = found.ignored.clone().unwrap_or_default();
    let is = if found.in_force { "is" } else { "was" };
    let by = if ignored.by.is_empty() { String::new() } else { format!(" by {}", ignored.by) };
    let reason = match ignored.reason.as_str() {
        "" => "no reason is given",
        reason => reason,
    };
    format!(
        "{} {is} ignored until {}{by}: {reason}",
        found.id,
        format::time(ignored.until.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_to_its_end() {
        for (text, until) in [
            ("2027-01-31", "2027-02-01T00:00:00Z"),
            ("2028-02-28", "2028-02-29T00:00:00Z"),
            (" 2027-12-31 ", "2028-01-01T00:00:00Z"),
            ("2027-01-31T03:00:00Z", "2027-01-31T03:00:00Z"),
            ("2027-01-31T03:00:00+01:00", "2027-01-31T02:00:00Z"),
            ("2027-01-31T03:00", "2027-01-31T03:00:00Z"),
        ] {
            assert_eq!(parse_until(text).unwrap().to_string(), until, "{text}");
        }
        for text in ["", "soon", "2027-02-30", "30d", "9999-12-31"] {
            assert!(parse_until(text).unwrap_err().contains("last day"), "{text}");
        }
    }
}
