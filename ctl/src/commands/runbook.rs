//! `runbook`: what to do, from this program itself, so that it is there when no network is.

use clap::Subcommand;
use genesis_proto::runbook::{PAGES, Page, page};
use serde_json::json;

use crate::Console;
use crate::cli::Global;
use crate::exit::{Exit, Halt};
use crate::render::{Answer, Cell, Printer, Row, View};

const COLUMNS: &[&str] = &["PAGE", "TITLE"];

/// How much alike a name and a page's must be for the page to be suggested.
const NEAR: f64 = 0.7;

const LIST_EXAMPLES: &str = "\
Example:
  genesisctl runbook list";

const SHOW_EXAMPLES: &str = "\
Example:
  genesisctl runbook show disk-space | less";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the pages. No agent is asked.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Print a page, as the Markdown that it is. No agent is asked.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The page's name, such as disk-space.
        name: String,
    },
}

pub(super) fn dispatch(verb: &Verb, global: &Global, console: &mut Console) -> Result<Exit, Halt> {
    let answer = match verb {
        Verb::List => {
            let pages =
                PAGES.iter().map(|page| json!({ "name": page.name, "title": page.title() }));
            let json = json!({ "pages": pages.collect::<Vec<_>>() });
            let row = |page: &Page| vec![Cell::from(page.name), Cell::from(page.title())];
            let rows = PAGES.iter().map(row).collect();
            Answer::new(json, View { columns: COLUMNS, rows, ..View::default() })
        }
        Verb::Show { name } => {
            let page = page(name).ok_or_else(|| unknown(name))?;
            let json = json!({ "name": page.name, "title": page.title(), "text": page.text });
            Answer::new(json, View { text: page.text.to_owned(), ..View::default() })
        }
    };
    let mut printer = Printer::new(global.output, false, &[], 0);
    printer.row(console, Row { node: "genesisctl".to_owned(), result: Ok(answer) })?;
    printer.end(console)?;
    Ok(Exit::Ok)
}

/// By the whole name or by the word of it that is nearest.
fn nearness(page: &str, name: &str) -> f64 {
    let words = std::iter::once(page).chain(page.split('-'));
    words.map(|word| strsim::jaro_winkler(word, name)).fold(0.0, f64::max)
}

fn unknown(name: &str) -> Halt {
    let mut near: Vec<_> = PAGES
        .iter()
        .map(|page| (nearness(page.name, name), page.name))
        .filter(|(nearness, _)| *nearness > NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near.iter().take(3).map(|(_, page)| format!("`{page}`")).collect();
    let hint = match near.is_empty() {
        true => String::new(),
        false => format!(": did you mean {}?", near.join(" or ")),
    };
    let pages: Vec<_> = PAGES.iter().map(|page| page.name).collect();
    Halt::Usage(format!("the runbook has no page {name:?}{hint}\nIts pages: {}", pages.join(", ")))
}
