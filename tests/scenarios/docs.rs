//! The documentation is what the program is: codes, keys, rpcs, links, and the tour of the README. What is monitored is in
//! `monitoring.rs` and `monitoring_live.rs`.
//! `UPDATE=1` rewrites the generated tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use genesis_agent::config::{Config, Places, reference};
use genesis_tests::binaries;
use genesis_tests::clock::wait_for;

/// Literals in UPPER_SNAKE that are no error codes: variables of the environment and of the build, and a state.
const NO_CODES: [&str; 34] = [
    "LC_ALL",
    "LC_CTYPE",
    "CARGO_HOME",
    "CARGO_NET_OFFLINE",
    "CARGO_TARGET_DIR",
    "CARGO_TERM_COLOR",
    "GENESIS_RELEASE",
    "RUSTUP_HOME",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "UV_CUSTOM_COMPILE_COMMAND",
    "VIRTUAL_ENV",
    "BREAKER_STATE",
    "CVSS_V3",
    "CARGO_MANIFEST_DIR",
    "CARGO_PKG_RUST_VERSION",
    "CARGO_PKG_VERSION",
    "GENESISCTL_CONTEXT",
    "GENESISCTL_NODES",
    "GENESIS_FAILPOINT",
    "GENESIS_FAULT",
    "GENESIS_PAUSE",
    "TEST_1",
    "TEST_2",
    "TEST_3",
    "GENESIS_PROGRAM",
    "HALF_OPEN",
    "LOG_TYPE",
    "NO_COLOR",
    "PG_VERSION",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
];
/// gRPC codes of one word, which a search for UPPER_SNAKE does not find in the sources.
const ONE_WORD_GRPC: [&str; 6] =
    ["ABORTED", "INTERNAL", "UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below `folder` with this extension, sorted, without build output.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

// Codes.

fn is_code(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.split('_').all(|word| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        })
}

/// Whether what stands before a literal makes an error of it, so that one word is a code too.
fn makes_an_error(before: &str) -> bool {
    let before = before.trim_end();
    ["invalid(", "not_found(", "conflict(", "unavailable(", "internal(", "refused(", "unmet("]
        .iter()
        .any(|call| before.ends_with(call))
        || before.rsplit_once("Kind::").is_some_and(|(_, rest)| {
            rest.strip_suffix(',').is_some_and(|kind| kind.bytes().all(|b| b.is_ascii_alphabetic()))
        })
}

/// The text of a source without its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Every code in the sources of the agent, storage and the client, with where it is first named.
fn codes_in_sources() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for folder in ["agent/src", "storage/src", "ctl/src", "ctl/client/src", "proto/src"] {
        for path in files(&root().join(folder), "rs") {
            let relative = path.strip_prefix(root()).unwrap();
            if relative.components().any(|part| part.as_os_str() == "tests")
                || relative.starts_with("proto/src/gen")
                || path.file_name().unwrap() == "tests.rs"
            {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let text = without_tests(&text);
            for (at, _) in text.match_indices('"') {
                let Some(length) = text[at + 1..].find('"') else { continue };
                let literal = &text[at + 1..at + 1 + length];
                // Of the client these are columns.
                let row = relative.starts_with("agent") && text[..at].ends_with("\n    (");
                let code = is_code(literal)
                    && (literal.contains('_') || row || makes_an_error(&text[..at]))
                    && !ONE_WORD_GRPC.contains(&literal);
                if code {
                    found.entry(literal.to_owned()).or_insert_with(|| relative.to_owned());
                }
            }
        }
    }
    found
}

/// The codes that rows of a page begin with; a row may have several.
fn codes_in_page(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let first = row.split('|').nth(1).unwrap();
        found.extend(first.split('`').filter(|part| is_code(part)).map(str::to_owned));
    }
    found
}

#[test]
fn every_code_is_explained_and_every_explained_code_exists() {
    let sources = codes_in_sources();
    assert!(sources.len() > 100, "the sources name only {} codes", sources.len());
    let page = codes_in_page(&read("docs/errors.md"));
    let mut explained = BTreeSet::new();
    for code in &page {
        assert!(explained.insert(code.as_str()), "docs/errors.md explains {code} twice");
    }
    let missing: Vec<String> = sources
        .iter()
        .filter(|(code, _)| {
            !explained.contains(code.as_str()) && !NO_CODES.contains(&code.as_str())
        })
        .map(|(code, path)| format!("{code} ({})", path.display()))
        .collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {}", missing.join(", "));
    for name in NO_CODES {
        assert!(sources.contains_key(name), "no source has {name} any more");
    }
    let gone: Vec<&&str> = explained
        .iter()
        .filter(|code| !sources.contains_key(**code) && !ONE_WORD_GRPC.contains(*code))
        .collect();
    assert!(gone.is_empty(), "docs/errors.md explains what no source has: {gone:?}");
}

#[test]
fn every_row_of_the_errors_has_an_exit_code_and_advice() {
    for row in read("docs/errors.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let exit = cells.get(1).copied().unwrap_or_default();
        let known = exit == "-" || exit.parse::<u8>().is_ok_and(|code| code <= 9);
        assert!(known && cells.iter().skip(2).all(|cell| cell.len() > 4), "{row}");
    }
}

#[test]
fn the_runbook_names_only_codes_that_exist() {
    let known: BTreeSet<String> = codes_in_page(&read("docs/errors.md")).into_iter().collect();
    let pages = files(&root().join("docs/runbook"), "md");
    assert!(pages.len() >= 10, "{pages:?}");
    let mut all = String::new();
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        // What stands in a code block is no code.
        let prose: String = text.split("```").step_by(2).collect();
        for part in prose.split('`').skip(1).step_by(2).filter(|part| is_code(part)) {
            assert!(known.contains(part), "{} names {part}", page.display());
        }
        all.push_str(&prose);
    }
    for code in known.iter().filter(|code| {
        let logs = ["LOG_IS_", "SEGMENT_", "MANIFEST_", "CUT_", "REOPEN_", "SEAL_"];
        logs.iter().any(|beginning| code.starts_with(beginning))
    }) {
        assert!(
            read("docs/runbook/logs.md").contains(&format!("`{code}`")),
            "logs.md lacks {code}"
        );
    }
    // Whatever keeps an action from starting.
    for (code, _) in genesis_agent::operations::health::gates::GATES {
        assert!(all.contains(&format!("`{code}`")), "the runbook lacks {code}");
    }
}

#[test]
fn every_block_of_code_ends() {
    let pages = files(&root(), "md");
    assert!(pages.len() >= 40, "{pages:?}");
    for page in pages {
        let fences = fs::read_to_string(&page).unwrap().matches("```").count();
        assert_eq!(fences % 2, 0, "what follows the last of them in {} is none", page.display());
    }
}

// Generated tables.

/// Compares what stands between the markers of `page` with `wanted`, or with `UPDATE=1` replaces it.
fn generated(page: &str, marker: &str, wanted: &str) {
    let text = read(page);
    let begin = format!("<!-- generated:{marker} -->\n");
    let end = "<!-- end:generated -->";
    let (before, rest) = text.split_once(&begin).expect("the page has its marker");
    let (found, after) = rest.split_once(end).expect("the page has its end marker");
    let wanted = format!("{}\n", wanted.trim_end());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(page), format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    assert!(
        found == wanted,
        "{page} is not up to date; run UPDATE=1 cargo test -p genesis-tests --test scenarios docs"
    );
}

#[test]
fn the_reference_of_the_configuration_is_generated() {
    let places =
        Places { state: "/var/lib/genesis".into(), socket: "/run/genesis/agent.sock".into() };
    generated("docs/configuration.md", "keys", &reference::markdown(&Config::keys(&places)));
}

#[test]
fn the_reference_of_http_is_generated() {
    let mut table = "| path | what | rpc |\n|---|---|---|\n".to_owned();
    for route in genesis_agent::server::routes::ROUTES {
        let (path, about) = (route.path, route.about);
        let rpc = format!("{}/{}", route.service, route.rpc);
        let anchor = rpc.replace('/', "").to_lowercase();
        table += &format!("| `/api/operations/{path}` | {about} | [`{rpc}`](api.md#{anchor}) |\n");
    }
    generated("docs/http.md", "routes", &table);
}

#[test]
fn every_configuration_that_is_shown_is_valid() {
    let places = Places { state: "/var/lib/genesis".into(), socket: "/run/agent.sock".into() };
    let mut text = read("README.md");
    for page in files(&root().join("docs"), "md") {
        // The one shows the client's, the other what an agent may have been built without.
        if !page.ends_with("genesisctl.md") && !page.ends_with("fleet.md") {
            text += &fs::read_to_string(page).unwrap();
        }
    }
    let examples: Vec<&str> = text.split("```toml\n").skip(1).collect();
    assert!(examples.len() > 5);
    for example in examples {
        // Within a list the block is indented.
        let toml = example.split("```").next().unwrap();
        let checked = Config::parse(toml, "README.md", &places);
        let said: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
        assert!(checked.config.is_some(), "{}", said.join("\n"));
    }
}

// Links.

/// A heading as GitHub's anchors have it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ => character.is_alphanumeric().then(|| character.to_ascii_lowercase()),
    });
    kept.collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut links = 0;
    for page in files(&root(), "md") {
        let text = fs::read_to_string(&page).unwrap();
        // What stands in a code block is no link.
        let prose: String = text.split("```").step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named =
            prose.lines().filter_map(|line| Some(line.strip_prefix('[')?.split_once("]: ")?.1));
        for target in inline.chain(named) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
            let there =
                if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(there.exists(), "{} links to {target}", page.display());
            if !wanted.is_empty() {
                let headings = fs::read_to_string(&there).unwrap();
                let found = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == wanted);
                assert!(found, "{} links to {target}", page.display());
            }
        }
    }
    assert!(links > 20, "only {links} links were found");
}

#[test]
fn every_page_is_in_the_book_once() {
    let docs = root().join("docs");
    let summary = read("docs/SUMMARY.md");
    let mut listed: Vec<PathBuf> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|path| docs.join(path))
        .collect();
    listed.sort();
    let mut pages = files(&docs, "md");
    pages.retain(|page| *page != docs.join("SUMMARY.md"));
    // Both are sorted, so that one that is listed twice differs too.
    let missing: Vec<&PathBuf> = pages.iter().filter(|page| !listed.contains(page)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md lacks {missing:?}");
    assert_eq!(listed, pages, "docs/SUMMARY.md lists a page twice, or one that is not there");
}

// The tour of the README.

/// What the `number`th tour shows: commands, each with the output that it promises, if it promises any.
fn tour(number: usize) -> Vec<(String, Option<Vec<String>>)> {
    let text = read("README.md");
    let rest = text.split("<!-- tour:begin -->").nth(number + 1).expect("the tour begins");
    let (tour, _) = rest.split_once("<!-- tour:end -->").expect("the tour ends");
    let mut steps: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for block in tour.split("```").skip(1).step_by(2) {
        let (kind, body) = block.split_once('\n').unwrap();
        match kind {
            "sh" => steps.push((body.trim_end().to_owned(), None)),
            "console" => {
                for line in body.lines() {
                    match line.strip_prefix("$ ") {
                        Some(command) => steps.push((command.to_owned(), Some(Vec::new()))),
                        None => {
                            let (_, output) = steps.last_mut().expect("a command comes first");
                            output.get_or_insert_default().push(line.to_owned());
                        }
                    }
                }
            }
            other => panic!("the tour has a block of kind {other:?}"),
        }
    }
    steps
}

/// Whether `line` is what `pattern` says, where `[..]` stands for anything and runs of spaces for one.
fn matches(pattern: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (pattern, line) = (squeeze(pattern), squeeze(line));
    let parts: Vec<&str> = pattern.split("[..]").collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn patterns_match_what_they_should() {
    for (pattern, line, expected) in [
        ("a  b", "a b", true),
        ("a [..] c", "a bbb c", true),
        ("a [..] c", "a bbb d", false),
        ("[..]: OK, up [..]", "vm: OK, up 3s", true),
        ("[..]: OK, up [..]", "vm: WARN, up 3s", false),
        ("a", "ab", false),
        ("x[..]x", "x", false),
    ] {
        assert_eq!(matches(pattern, line), expected, "{pattern:?} {line:?}");
    }
}

#[test]
fn the_tour_of_the_readme_runs_as_it_says() {
    take(&tour(0));
}

#[test]
fn the_tour_from_a_laptop_runs_as_it_says() {
    take(&tour(1));
}

fn take(steps: &[(String, Option<Vec<String>>)]) {
    const MARK: &str = "-- step --";
    assert!(steps.iter().filter(|(_, output)| output.is_some()).count() >= 6);
    let mut script = String::from("trap 'kill $(jobs -p) 2>/dev/null' EXIT\n");
    for (command, _) in steps {
        script.push_str(&format!("{command}\necho '{MARK}'\n"));
    }
    let home = tempfile::tempdir().unwrap();
    let (said, programs) = (home.path().join("said"), binaries::agent());
    let programs = programs.parent().unwrap();
    assert!(programs.join("genesisctl").exists(), "genesisctl is not built beside the agent");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = fs::File::create(&said).unwrap();
    let mut shell = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("GENESISCTL_NODES")
        .env_remove("GENESISCTL_CONTEXT")
        .env_remove("GENESIS_FAILPOINT")
        .stdin(Stdio::null())
        .stderr(output.try_clone().unwrap())
        .stdout(output)
        .spawn()
        .unwrap();
    wait_for("the end of the tour", || shell.try_wait().unwrap());
    let said = fs::read_to_string(said).unwrap();
    let parts: Vec<&str> = said.split(&format!("{MARK}\n")).collect();
    assert_eq!(parts.len(), steps.len() + 1, "the tour broke off:\n{said}");
    for ((command, wanted), found) in steps.iter().zip(parts) {
        let wanted = wanted.clone().unwrap_or_default();
        let found: Vec<&str> = found.lines().collect();
        let same = wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|(pattern, line)| matches(pattern, line));
        assert!(same, "$ {command}\npromised:\n{}\nsaid:\n{}", wanted.join("\n"), found.join("\n"));
    }
}
