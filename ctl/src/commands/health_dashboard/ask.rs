//! What agents are asked. Nothing here changes anything.

use genesis_client::v1::{
    ExplainIssueRequest, GetAlertsStatusRequest, GetHealthStatusRequest, GetLogsStatusRequest,
    GetStatusRequest, ListAlertsRequest, ListBackupsRequest, ListDatabasesRequest,
    ListEntriesRequest, ListExperimentsRequest, ListHealthHistoryRequest, ListJobsRequest,
    ListRunsRequest,
};
use genesis_client::{Client, Error};

use super::super::health_issue::page;
use super::super::{baseline, cert, experiment, incomplete_answer, matrix};
use super::node::Base;
use super::section::Section;
use super::tab::Tab;
use super::{answers, fleet};
use crate::render::page_lines;

/// So many rows of a list at most.
const ROWS: u32 = 200;

/// A page, and values for trends.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    pub(super) sections: Vec<Section>,
    pub(super) p95: Option<Vec<(String, Option<f64>)>>,
}

impl From<Vec<Section>> for Told {
    fn from(sections: Vec<Section>) -> Self {
        Self { sections, p95: None }
    }
}

pub(super) async fn base(client: &Client) -> Result<Base, Error> {
    let health = client.call(GetHealthStatusRequest {}, |c, r| async move {
        c.health().get_health_status(r).await
    });
    let status =
        client.call(GetStatusRequest {}, |c, r| async move { c.agent().get_status(r).await });
    let (health, status, fleet) = tokio::join!(health, status, fleet(client));
    Ok(Base { health: health?, status: status?, fleet: fleet? })
}

/// What the agent says about an issue or a check's latest one, in lines.
pub(super) async fn explain(client: &Client, issue: &str) -> Result<Vec<String>, Error> {
    let request = ExplainIssueRequest { issue: issue.to_owned() };
    let asked = client.call(request, |c, r| async move { c.health().explain_issue(r).await });
    match asked.await {
        Ok(response) => {
            let issue = response.issue.as_ref().ok_or_else(|| incomplete_answer("the issue"))?;
            Ok(page_lines(page(issue, &response, true)))
        }
        Err(error) if error.reason == "ISSUE_NOT_FOUND" => {
            Ok(vec!["it has had no issue".to_owned()])
        }
        Err(error) => Err(error),
    }
}

/// What is on a tab. What can't be had of it is said in its place.
pub(super) async fn tab(client: &Client, tab: Tab) -> Told {
    match tab {
        Tab::Overview | Tab::Health => Told::default(),
        Tab::History => {
            let request = ListHealthHistoryRequest { check: String::new(), limit: ROWS };
            let asked = client
                .call(request, |c, r| async move { c.health().list_health_history(r).await })
                .await;
            let made = asked.map(|it| answers::history(&it, ROWS as usize));
            vec![or_unknown("Issues and attempts", made)].into()
        }
        Tab::Alerts => alerts(client).await.into(),
        Tab::Runs => runs(client).await.into(),
        Tab::Certificates => {
            let asked = cert::list::ask(client, "").await;
            vec![or_unknown("Certificates", asked.map(|it| answers::certificates(&it)))].into()
        }
        Tab::Data => data(client).await.into(),
        Tab::Logs => {
            let asked = client
                .call(GetLogsStatusRequest {}, |c, r| async move { c.logs().get_status(r).await })
                .await;
            match asked {
                Ok(status) => answers::logs(&status),
                Err(error) => vec![Section::unknown("Logs", &error)],
            }
            .into()
        }
        Tab::Stats => stats(client).await,
        Tab::Oplog => {
            let request = ListEntriesRequest { limit: ROWS, ..Default::default() };
            let asked =
                client.call(request, |c, r| async move { c.oplog().list_entries(r).await }).await;
            vec![or_unknown("Operation log", asked.map(|it| answers::oplog(&it)))].into()
        }
    }
}

async fn alerts(client: &Client) -> Vec<Section> {
    let request = ListAlertsRequest { all: true, limit: ROWS };
    let list = client.call(request, |c, r| async move { c.alerts().list_alerts(r).await });
    let status = client.call(GetAlertsStatusRequest {}, |c, r| async move {
        c.alerts().get_alerts_status(r).await
    });
    let (list, status) = tokio::join!(list, status);
    vec![
        or_unknown("Alerts", list.map(|it| answers::alerts(&it))),
        or_unknown("Channels", status.map(|it| answers::channels(&it))),
    ]
}

async fn runs(client: &Client) -> Vec<Section> {
    let request = ListRunsRequest { limit: ROWS, ..Default::default() };
    let list = client.call(request, |c, r| async move { c.runs().list_runs(r).await });
    let request = ListJobsRequest { next: 1, at: None };
    let jobs = client.call(request, |c, r| async move { c.schedule().list_jobs(r).await });
    let (list, jobs) = tokio::join!(list, jobs);
    vec![
        or_unknown("Runs", list.map(|it| answers::runs(&it))),
        or_unknown("Schedule", jobs.map(|it| answers::jobs(&it))),
    ]
}

async fn data(client: &Client) -> Vec<Section> {
    let databases = client
        .call(ListDatabasesRequest {}, |c, r| async move { c.database().list_databases(r).await });
    let request = ListBackupsRequest { limit: ROWS, ..Default::default() };
    let backups = client.call(request, |c, r| async move { c.backup().list_backups(r).await });
    let (databases, backups) = tokio::join!(databases, backups);
    let mut sections = vec![or_unknown("Databases", databases.map(|it| answers::databases(&it)))];
    match backups {
        Ok(list) => sections.extend(answers::backups(&list)),
        Err(error) => sections.push(Section::unknown("Backups", &error)),
    }
    sections
}

async fn stats(client: &Client) -> Told {
    let request = ListExperimentsRequest { limit: ROWS, ..Default::default() };
    let (baselines, experiments, matrices) = tokio::join!(
        baseline::list::ask(client, false),
        experiment::list::ask(client, request),
        matrix::history::ask(client, ROWS),
    );
    let p95 = baselines.as_ref().ok().map(answers::p95);
    let sections = vec![
        or_unknown("Baselines", baselines.map(|it| answers::baselines(&it))),
        or_unknown("Experiments", experiments.map(|it| answers::experiments(&it))),
        or_unknown("Matrices", matrices.map(|it| answers::matrices(&it))),
    ];
    Told { sections, p95 }
}

fn or_unknown(title: &'static str, made: Result<Section, Error>) -> Section {
    made.unwrap_or_else(|error| Section::unknown(title, &error))
}
