//! The configuration.

use genesis_agent::config::Config;

use super::places;

/// So many bytes are read: a file has at most as many.
const LIMIT: usize = 1 << 20;

/// Every problem names a place of the text, in words that a terminal can be shown; and what is in force reads as itself,
/// so that it can be put into a file.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.len() > LIMIT {
        return;
    }
    let checked = Config::parse(text, "agent.toml", &places());
    assert_eq!(checked.config.is_none(), !checked.problems.is_empty());
    let lines = text.matches('\n').count() + 1;
    for problem in &checked.problems {
        assert!(problem.line as usize <= lines, "{problem}");
        assert!(!problem.what().chars().any(char::is_control), "{problem}");
    }
    let Some(config) = checked.config else { return };
    let again = Config::parse(&config.effective, "agent.toml", &places());
    assert!(again.problems.is_empty(), "{:?}\n{}", again.problems, config.effective);
    let again = again.config.expect("there is no problem");
    assert_eq!(again.effective, config.effective);
    assert_eq!(again.restart_needed(&config), Vec::<String>::new());
}
