//! `baseline list`: a row for each operation.

use genesis_client::v1::{
    Baseline, BaselineState, BaselineSummary, Condition, ListBaselinesRequest,
    ListBaselinesResponse,
};
use genesis_client::{Client, Error};

use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::format;
use crate::render::{Answer, Cell, View};

pub(in crate::commands) const COLUMNS: &[&str] =
    &["OPERATION", "STATE", "P50", "P95", "P99", "N", "CALCULATED", "WINDOW"];

pub(in crate::commands) const EMPTY: &str =
    "no operations yet: programs send observations, and `genesisctl observe` does";

pub(super) async fn list(session: &Session<'_>, degraded_only: bool) -> Result<Exit, Halt> {
    let more = session.global.verbose;
    session
        .each_in(COLUMNS, |client| async move {
            let list = ask(&client, degraded_only).await?;
            let json = session.json("ListBaselinesResponse", &list)?;
            // Between the rows of several nodes only if it is asked for.
            let tail = if more || !session.many() { facts(&list, more) } else { Vec::new() };
            let view = View {
                columns: COLUMNS,
                rows: list.operations.iter().map(row).collect(),
                tail,
                empty: if degraded_only { "every operation is as usual" } else { EMPTY },
                ..View::default()
            };
            Ok(Answer::new(json, view).exit(exit(&list.operations)))
        })
        .await
}

pub(in crate::commands) async fn ask(
    client: &Client,
    degraded_only: bool,
) -> Result<ListBaselinesResponse, Error> {
    let request = ListBaselinesRequest { degraded_only };
    client.call(request, |c, r| async move { c.baselines().list_baselines(r).await }).await
}

fn facts(list: &ListBaselinesResponse, verbose: bool) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(at) = &list.next_recalculation_at {
        facts.push(format!("next calculated at {}", format::time(Some(at))));
    }
    if verbose {
        facts.push(format!(
            "observations: {} of at most {}, in a file of {}",
            format::bytes(list.raw_bytes),
            format::bytes(list.raw_quota_bytes),
            format::bytes(list.file_bytes)
        ));
    }
    facts
}

/// The code of the operations: unknown beats what is wrong, and that beats a pass.
pub(super) fn exit<'a>(operations: impl IntoIterator<Item = &'a BaselineSummary>) -> Exit {
    Exit::of_conditions(operations.into_iter().map(|operation| match operation.state() {
        BaselineState::Usual | BaselineState::Learning => Condition::Ok,
        BaselineState::Degraded => Condition::Critical,
        // Or an agent of another version, which knows of something else.
        BaselineState::Silent | BaselineState::Unspecified => Condition::Unknown,
    }))
}

pub(in crate::commands) fn row(operation: &BaselineSummary) -> Vec<Cell> {
    let baseline = operation.baseline.as_ref();
    let mut cells =
        vec![Cell::from(operation.operation.as_str()), Cell::baseline_state(operation.state())];
    cells.extend(quantiles(baseline));
    cells.extend([
        Cell::number(
            baseline.map_or_else(|| format::NONE.to_owned(), |one| format::count(one.count)),
        ),
        Cell::from(format::time(baseline.and_then(|one| one.calculated_at.as_ref()))),
        Cell::from(baseline.map_or_else(|| format::NONE.to_owned(), window)),
    ]);
    cells
}

/// p50, p95 and p99; with a mark where the values are too few for one.
pub(super) fn quantiles(baseline: Option<&Baseline>) -> [Cell; 3] {
    [0.5, 0.95, 0.99].map(|wanted| {
        let mut known = baseline.iter().flat_map(|baseline| &baseline.quantiles);
        let known = known.find(|one| (one.quantile - wanted).abs() < 1e-9);
        Cell::number(known.map_or_else(
            || format::NONE.to_owned(),
            |one| {
                let seconds = format::seconds(one.seconds);
                if one.low_n { format!("~{seconds}") } else { seconds }
            },
        ))
    })
}

/// How long its observations came, such as "30d".
pub(super) fn window(baseline: &Baseline) -> String {
    format::between(baseline.from.as_ref(), baseline.until.as_ref())
}
