//! Makes docs/performance.md: `genesis-figures FIGURES.jsonl LIMITS.md PAGE.md`. Exits with 3 where a goal is missed and
//! nobody has written down why.

mod page;
mod rows;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use page::Page;
use rows::{Rows, limits};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [figures, reasons, target] = &arguments[..] else {
        say("usage: genesis-figures FIGURES.jsonl LIMITS.md PAGE.md");
        return ExitCode::from(2);
    };
    match make(figures, reasons, target) {
        Ok(unexplained) if unexplained.is_empty() => ExitCode::SUCCESS,
        Ok(unexplained) => {
            for figure in unexplained {
                say(&format!("missed and not explained in {reasons}: {figure}"));
            }
            ExitCode::from(3)
        }
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Writes the page; returns what is missed without a reason.
fn make(figures: &str, reasons: &str, target: &str) -> Result<Vec<String>, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let rows = Rows::parse(&read(figures)?).map_err(|error| format!("{figures}: {error}"))?;
    let limits = limits(&read(reasons)?);
    for (heading, _) in &limits {
        let known = rows.figures.iter().any(|it| format!("{}: {}", it.bench, it.name) == *heading);
        if !known {
            say(&format!("{reasons}: there is no figure {heading:?}"));
        }
    }
    let page = Page::of(&rows, &limits);
    // A page that is cut short never takes the place of one that is whole.
    let beside = Path::new(target).with_extension("md.new");
    fs::write(&beside, page.text)
        .and_then(|()| fs::rename(&beside, target))
        .map_err(|error| format!("{target}: {error}"))?;
    Ok(page.unexplained)
}

fn say(line: &str) {
    // Nobody there to read it is no error.
    let _ = writeln!(io::stderr(), "{line}");
}
