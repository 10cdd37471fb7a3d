//! The page: a table for each domain, and below it what limits what is missed.

use std::fmt::Write as _;

use crate::rows::{Figure, Of, Rows, Verdict};

/// Which benches a domain has. One that is in none comes last, under its own name.
const DOMAINS: [(&str, &[&str]); 10] = [
    ("The agent on its host", &["footprint", "startup"]),
    ("Calls, the fleet and emergencies", &["rpc", "fanout", "emergency", "fleet"]),
    ("Health, breakers and alerts", &["health", "breaker", "alerts"]),
    ("Logs", &["seal", "archive", "rotation"]),
    ("Databases", &["database"]),
    ("Certificates", &["certificates"]),
    ("Baselines", &["sketch", "observations"]),
    ("Experiments", &["trades"]),
    ("Matrices", &["correlation", "swaps"]),
    ("Dependencies", &["dependencies"]),
];

/// The page, and the figures that are missed without a reason being known, each as `BENCH: NAME`.
pub(crate) struct Page {
    pub(crate) text: String,
    pub(crate) unexplained: Vec<String>,
}

impl Page {
    pub(crate) fn of(rows: &Rows, limits: &[(String, String)]) -> Self {
        let mut page = Self { text: String::new(), unexplained: Vec::new() };
        page.head(rows);
        for (name, benches) in DOMAINS {
            page.domain(name, benches, rows, limits);
        }
        let known = |bench: &str| DOMAINS.iter().any(|(_, benches)| benches.contains(&bench));
        let mut others: Vec<&str> = Vec::new();
        let said = rows.figures.iter().map(|it| it.bench.as_str());
        for bench in said.chain(rows.runs.iter().map(|it| it.bench.as_str())) {
            if !known(bench) && !others.contains(&bench) {
                others.push(bench);
            }
        }
        for bench in others {
            page.domain(bench, &[bench], rows, limits);
        }
        page.runs(rows);
        page
    }

    fn head(&mut self, rows: &Rows) {
        let count = |wanted: fn(&Verdict) -> bool| {
            rows.figures.iter().filter(|figure| wanted(&figure.verdict())).count()
        };
        let (met, missed) = (count(|it| *it == Verdict::Met), count(|it| *it == Verdict::Missed));
        let unjudged = count(|it| matches!(it, Verdict::Unjudged(_)));
        self.text.push_str(
            "# Performance\n\n\
             <!-- Made by benches/run; what is changed here by hand is lost. -->\n\n\
             What was measured, each figure beside its peer in the same run, where there is one. A ratio is ours divided by \
             the peer's: below 1 is better for times and sizes, above 1 for rates. Figures of another machine differ, ratios \
             much less. Each bench in `benches/benches/` says at its top what it does and how.\n\n\
             Measured by `benches/run`, and `benches/run --only NAME` for what is repeated by itself; the last table says when \
             each bench was run, and at which commit.\n\n",
        );
        let open =
            if unjudged > 0 { format!(", {unjudged} could not be judged") } else { String::new() };
        self.line(&format!("Goals: {met} met, {missed} missed{open}.\n"));
        self.line("| | |\n|---|---|");
        for (what, is) in &rows.machine {
            self.line(&format!("| {} | {} |", cell(what), cell(is)));
        }
    }

    fn domain(&mut self, name: &str, benches: &[&str], rows: &Rows, limits: &[(String, String)]) {
        self.line(&format!("\n## {name}\n"));
        let mut missed = Vec::new();
        let figures: Vec<&Figure> = benches
            .iter()
            .flat_map(|bench| rows.figures.iter().filter(move |figure| figure.bench == *bench))
            .collect();
        if !figures.is_empty() {
            self.line(
                "| bench | what | ours | peer | ratio | goal | |\n|---|---|---|---|---|---|---|",
            );
        }
        for figure in &figures {
            let verdict = figure.verdict();
            self.line(&row(figure, &verdict));
            if verdict == Verdict::Missed {
                missed.push(format!("{}: {}", figure.bench, figure.name));
            }
        }
        let mut not_run = Vec::new();
        for bench in benches {
            match rows.runs.iter().find(|ran| ran.bench == *bench) {
                Some(ran) if !ran.broke.is_empty() => {
                    self.line(&format!("\n`{bench}` broke off: {}", ran.broke));
                }
                Some(_) => {}
                None => not_run.push(format!("`{bench}`")),
            }
        }
        if !not_run.is_empty() {
            self.line(&format!("\nNot run: {}.", not_run.join(", ")));
        }
        if !missed.is_empty() {
            self.line("\nMissed, and what limits it:\n");
        }
        for what in missed {
            let reason = limits.iter().find(|(figure, _)| *figure == what);
            let reason = reason.map(|(_, reason)| reason.replace('\n', "\n  "));
            self.line(&format!("- **{what}**: {}", reason.as_deref().unwrap_or("not explained")));
            if reason.is_none() {
                self.unexplained.push(what);
            }
        }
    }

    fn runs(&mut self, rows: &Rows) {
        self.line("\n## When\n\n| bench | measured | commit | s |\n|---|---|---|---|");
        let here = rows.machine.iter().find(|(what, _)| what == "CPU").map(|(_, is)| is.as_str());
        for ran in &rows.runs {
            let elsewhere = if here == Some(ran.cpu.as_str()) {
                String::new()
            } else {
                format!(", on {}", cell(&ran.cpu))
            };
            self.line(&format!(
                "| {} | {}{elsewhere} | {} | {} |",
                ran.bench, ran.at, ran.commit, ran.seconds
            ));
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn row(figure: &Figure, verdict: &Verdict) -> String {
    let number = |value: Option<f64>| value.map_or("no number".to_owned(), shown);
    let mut row = format!(
        "| {} | {} | {} {}",
        figure.bench,
        cell(&figure.name),
        number(figure.value),
        cell(&figure.unit)
    );
    let peer = match &figure.peer {
        None => String::new(),
        Some((name, None)) => format!("{name}: not here"),
        Some((name, value)) => format!("{name}: {}", number(*value)),
    };
    let goal = figure.goal.as_ref().map_or_else(String::new, |goal| {
        let bound = if goal.at_most { "at most" } else { "at least" };
        let times = if goal.of == Of::Ratio { " x the peer" } else { "" };
        format!("{bound} {}{times}", shown(goal.limit))
    });
    let verdict = match verdict {
        Verdict::NoGoal => String::new(),
        Verdict::Met => "met".to_owned(),
        Verdict::Missed => "**missed**".to_owned(),
        Verdict::Unjudged(why) => format!("not judged: {why}"),
    };
    let ratio = figure.ratio().map_or_else(String::new, shown);
    for column in [peer, ratio, goal, verdict] {
        // A string takes whatever is written to it.
        let _ = write!(row, " | {}", cell(&column));
    }
    row + " |"
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Three digits that count.
pub(crate) fn shown(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        return grouped(value);
    }
    let decimals = match size {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ if size == 0.0 => 0,
        // From 0.1 on three, and one more for each nought; nothing is smaller than a billionth.
        _ => (2 - size.log10().floor() as i32).clamp(3, 11) as usize,
    };
    let text = format!("{value:.decimals$}");
    // Limits are round numbers.
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::rows::limits;

    const ROWS: &str = include_str!("fixture.jsonl");
    const LIMITS: &str =
        "# Why\n\n## seal: late\nIt is far.\n\nVery far.\n\n## gone: long ago\nx\n";

    fn page(limits_text: &str) -> Page {
        Page::of(&Rows::parse(ROWS).unwrap(), &limits(limits_text))
    }

    #[test]
    fn each_figure_is_in_the_table_of_its_domain() {
        let text = page(LIMITS).text;
        for line in [
            "| CPU | A \\| B |",
            "| seal | fast | 143 MB/s | gzip -6: 57 | 2.51 | at least 2 x the peer | met |",
            "| seal | late | 12 ms |  |  | at most 10 | **missed** |",
            "| seal | alone | 1,234,568 lines | gzip -6: not here |  | at most 1 x the peer | not judged: the peer is not here |",
            "| footprint | cpu | 0.0123 % |  |  | at most 0.003 | not judged: waking up is dear |",
            "| other | nothing | no number s |  |  | at least 1 | **missed** |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let at = |needle: &str| text.find(needle).unwrap();
        assert!(at("## The agent on its host") < at("| footprint | cpu"));
        assert!(at("## Logs") < at("| seal | fast") && at("| seal | fast") < at("## Databases"));
        assert!(at("## Dependencies") < at("## other"));
    }

    #[test]
    fn what_is_missed_has_its_reason_or_is_named() {
        let page = page(LIMITS);
        assert!(
            page.text.contains("- **seal: late**: It is far.\n  \n  Very far.\n"),
            "{}",
            page.text
        );
        assert!(page.text.contains("- **other: nothing**: not explained\n"));
        assert_eq!(page.unexplained, ["other: nothing"]);
        assert!(page.text.contains("Goals: 1 met, 2 missed, 2 could not be judged."));
    }

    #[test]
    fn a_bench_that_broke_off_or_was_not_run_says_so() {
        let text = page("").text;
        assert!(text.contains("`rotation` broke off: no logrotate here"));
        assert!(text.contains("Not run: `archive`."));
        assert!(!text.contains("Not run: `seal`"));
        assert!(text.contains("| rotation | 2026-11-28T10:00Z, on another one | abc | 3 |"));
    }

    #[test]
    fn a_line_that_is_no_row_is_refused() {
        assert!(Rows::parse("{}").unwrap_err().starts_with("line 1 is no row"));
        assert!(Rows::parse("{\"machine\":[]}\nx").unwrap_err().starts_with("line 2: "));
        assert!(Rows::parse("").unwrap().figures.is_empty());
    }

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.001_234, "0.00123"),
            (0.1, "0.1"),
            (0.055_555, "0.0556"),
            (1.0, "1"),
            (9.876, "9.88"),
            (12.34, "12.3"),
            (999.4, "999"),
            (1_000.0, "1,000"),
            (-1_234_567.0, "-1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(shown(value), text);
        }
    }
}
