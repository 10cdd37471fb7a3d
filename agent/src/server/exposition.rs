//! Metrics for whoever does not ask for OpenMetrics: the older text format of Prometheus.

/// What OpenMetrics text says, in the text format 0.0.4: a counter's family has the name of its samples there, and
/// neither units nor an end are written. None of ours has an exemplar.
pub(super) fn plain(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').or(Some((rest, "")));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, said)) = help.take().filter(|(of, _)| *of == name) {
                push(&mut text, &["# HELP ", name, suffix, " ", said]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    text.extend(parts.iter().copied());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn each_kind_is_written_as_the_older_format_has_it() {
        let open = "# HELP genesis_a Counted.\n# TYPE genesis_a counter\ngenesis_a_total{x=\"1 # {\"} 5\n\
            # HELP genesis_b_bytes Bytes.\n# TYPE genesis_b_bytes gauge\n# UNIT genesis_b_bytes bytes\ngenesis_b_bytes 7.5\n\
            # TYPE genesis_c histogram\ngenesis_c_bucket{le=\"+Inf\"} 2\ngenesis_c_sum 1\ngenesis_c_count 2\n\
            # TYPE genesis_d unknown\ngenesis_d 1\n# EOF\n";
        assert_eq!(
            plain(open),
            "# HELP genesis_a_total Counted.\n# TYPE genesis_a_total counter\ngenesis_a_total{x=\"1 # {\"} 5\n\
             # HELP genesis_b_bytes Bytes.\n# TYPE genesis_b_bytes gauge\ngenesis_b_bytes 7.5\n\
             # TYPE genesis_c histogram\ngenesis_c_bucket{le=\"+Inf\"} 2\ngenesis_c_sum 1\ngenesis_c_count 2\n\
             # TYPE genesis_d untyped\ngenesis_d 1\n"
        );
    }
}
