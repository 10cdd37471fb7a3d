//! The manifests of a Python project: what they are made of, what can't be updated without losing something, and how they
//! are written with other versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use genesis_advisories::Ecosystem;
use genesis_advisories::requirements::{self, Item, Move, Pin};

use super::super::config::Project;
use super::super::locked::Collected;
use super::plan::Limits;
use super::{failed, read_manifest, refused};
use crate::error::Result;

/// A manifest, and what it is made of.
#[derive(Debug)]
pub(super) struct Source {
    /// Below the root, without links.
    pub(super) manifest: PathBuf,
    /// As it is.
    pub(super) text: String,
    /// The file that it is compiled from, where there is one.
    pub(super) input: Option<PathBuf>,
    /// How it was compiled.
    pub(super) style: Style,
}

/// How a manifest was compiled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Style {
    /// Options that are given again.
    pub(super) options: Vec<String>,
    /// The command, as its header has it.
    pub(super) command: Option<String>,
    /// It is for other environments than this one too.
    pub(super) for_others: bool,
    /// An option of the command that can't be given again.
    pub(super) lost: Option<String>,
}

/// Options that say what the file looks like.
const KEPT: [&str; 5] =
    ["--no-strip-extras", "--strip-extras", "--no-emit-index-url", "--allow-unsafe", "--universal"];
/// The same with a value.
const KEPT_VALUES: [&str; 3] = ["--annotation-style", "--python-version", "--python-platform"];
/// Options that change nothing of what is chosen.
const HARMLESS: [&str; 18] = [
    "--only-binary",
    "--no-build",
    "--python",
    "-p",
    "--generate-hashes",
    "--no-annotate",
    "--annotate",
    "--no-header",
    "--header",
    "--upgrade",
    "-U",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "--no-cache",
    "--output-file",
    "-o",
];
/// Lines that say where packages are from: what is installed from elsewhere may be something else.
const ORIGINS: [&str; 6] =
    ["--index-url", "--extra-index-url", "--no-index", "--find-links", "--trusted-host", "--pre"];

/// How a text was compiled.
pub(super) fn style(text: &str) -> Style {
    let header: Vec<&str> = text.lines().take_while(|it| it.starts_with('#')).collect();
    let command = header.iter().find_map(|line| {
        let line = line.trim_start_matches('#').trim();
        (line.starts_with("uv pip compile") || line.starts_with("pip-compile")).then_some(line)
    });
    let (mut options, mut lost, mut for_others) = (Vec::new(), None, false);
    let mut words = command.unwrap_or_default().split_whitespace();
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        if KEPT.contains(&word) {
            options.push(word.to_owned());
            for_others |= word == "--universal";
        } else if KEPT_VALUES.contains(&name) {
            let value = word.split_once('=').map(|(_, value)| value).or_else(|| words.next());
            options.push(format!("{name}={}", value.unwrap_or_default()));
            for_others |= name != "--annotation-style";
        } else if HARMLESS.contains(&name) {
            if matches!(word, "-o" | "--output-file") {
                words.next();
            }
        } else if word.starts_with('-') {
            lost.get_or_insert_with(|| name.to_owned());
        }
    }
    if command.is_none() {
        options.push("--no-header".to_owned());
    }
    if text.contains("--hash=") {
        options.push("--generate-hashes".to_owned());
    }
    if !text.contains("# via") {
        options.push("--no-annotate".to_owned());
    }
    // pip-compile's own options are not uv's.
    options.retain(|it| it != "--allow-unsafe");
    Style { options, command: command.map(str::to_owned), for_others, lost }
}

/// The manifests of a project.
///
/// # Errors
/// `PROJECT_UNMANAGED`: an update would lose something. `DEPENDENCY_UPDATE_FAILED`.
pub(super) fn sources(project: &Project) -> Result<Vec<Source>> {
    let real = project.root.canonicalize().map_err(|error| failed(&project.root, error))?;
    let mut all = Vec::new();
    for manifest in &project.manifests {
        let whole = real.join(manifest);
        let whole = whole.canonicalize().map_err(|error| failed(&whole, error))?;
        let own = whole.strip_prefix(&real).unwrap_or(&whole).to_owned();
        let text = read_manifest(&project.root, &own)?;
        let input = manifest.with_extension("in");
        let input = real.join(&input).is_file().then_some(input);
        all.push(Source { manifest: own, style: style(&text), text, input });
    }
    for source in &all {
        check(project, source, &all)?;
    }
    Ok(all)
}

fn check(project: &Project, source: &Source, all: &[Source]) -> Result<()> {
    let file = source.manifest.display();
    let unmanaged = |why: String| Err(refused("PROJECT_UNMANAGED", why));
    if let Some(option) = source.style.lost.as_ref().filter(|_| source.input.is_some()) {
        return unmanaged(format!(
            "{file} was compiled with {option}, which an update would lose: say it in uv.toml instead, and compile anew without it"
        ));
    }
    let from = source.style.command.iter().flat_map(|it| it.split_whitespace());
    let other = from.map(Path::new).find(|it| {
        let name = it.file_name().unwrap_or_default();
        name == "pyproject.toml" || name == "setup.py" || name == "setup.cfg"
    });
    if let (Some(other), None) = (other, &source.input) {
        let other = other.display();
        return unmanaged(format!(
            "{file} is compiled from {other}, whose bounds an update would lose: write a .in beside it"
        ));
    }
    let mut texts = vec![(source.manifest.clone(), source.text.clone())];
    if let Some(input) = &source.input {
        texts.push((input.clone(), read_manifest(&project.root, input)?));
    }
    for (path, text) in texts {
        let shown = path.display();
        let is_input = Some(&path) == source.input.as_ref();
        for entry in requirements::read(&text) {
            let line = entry.line;
            match entry.item {
                Item::Setting { name } if ORIGINS.contains(&name.as_str()) => {
                    return unmanaged(format!(
                        "{shown} says {name} in line {line}, which would not hold for what is installed: say it in uv.toml, or by environment"
                    ));
                }
                Item::Unmanaged { what, .. } if !is_input && source.input.is_none() => {
                    return unmanaged(format!(
                        "{shown} has {what} in line {line}, of which an update knows too little: write what you want into {}, and compile it",
                        source.manifest.with_extension("in").display()
                    ));
                }
                Item::Unmanaged { what, .. } if !project.managed.source_builds => {
                    return unmanaged(format!(
                        "{shown} has {what} in line {line}, whose code runs while it is installed: allow it by source_builds = true"
                    ));
                }
                Item::Include { path: other, .. } if is_input => {
                    let other = path.parent().unwrap_or(Path::new("")).join(other);
                    let own = all.iter().any(|it| it.input.is_some() && it.manifest == other);
                    if own {
                        return unmanaged(format!(
                            "{shown} takes {} in line {line}, which is compiled itself and would hold everything back: take its .in instead",
                            other.display()
                        ));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The files of manifests that are compiled from another file.
fn compiled(sources: &[Source]) -> BTreeSet<String> {
    let own = sources.iter().filter(|it| it.input.is_some());
    own.map(|it| it.manifest.display().to_string()).collect()
}

/// What manifests that are compiled from nothing want, and within what bounds: all that they lock, and what they leave
/// open.
pub(super) fn wanted(sources: &[Source], collected: &Collected) -> (String, String) {
    let without = compiled(sources);
    let (mut wanted, mut bounds) = (String::new(), String::new());
    for it in collected.packages.iter().filter(|it| !without.contains(&it.file)) {
        let extras = match it.extras.is_empty() {
            true => String::new(),
            false => format!("[{}]", it.extras.join(",")),
        };
        let marker = it.marker.as_ref().map(|it| format!(" ; {it}")).unwrap_or_default();
        let _ = writeln!(wanted, "{}{extras}{marker}", it.name);
    }
    for it in collected.loose.iter().filter(|it| !without.contains(&it.file)) {
        let _ = writeln!(if it.is_bound { &mut bounds } else { &mut wanted }, "{}", it.text);
    }
    (wanted, bounds)
}

/// Files that are compiled from nothing, with other versions and nothing else changed. What is new comes to the end of the
/// first manifest. A package with several lines, for several environments, keeps them.
///
/// # Errors
/// `RESOLUTION_FAILED`, `DEPENDENCY_UPDATE_FAILED`.
pub(super) fn rewritten(
    project: &Project,
    sources: &[Source],
    collected: &Collected,
    (pins, limits): (&[Pin], &Limits),
) -> Result<Vec<(PathBuf, String)>> {
    let normal = |name: &str| Ecosystem::PyPI.normalise(name);
    let without = compiled(sources);
    let new: BTreeMap<String, &Pin> = pins.iter().map(|it| (normal(&it.name), it)).collect();
    let mut written = Vec::new();
    for file in collected.files.iter().filter(|it| !without.contains(*it)) {
        let path = PathBuf::from(file);
        let text = read_manifest(&project.root, &path)?;
        let mut moves = Vec::new();
        for entry in requirements::read(&text) {
            let Item::Pin(pin) = entry.item else { continue };
            if let Some(chosen) = new.get(&normal(&pin.name))
                && chosen.version != pin.version
                && limits.lets(&pin.name, &pin.version, &chosen.version)
            {
                let (version, hashes) = (chosen.version.clone(), chosen.hashes.clone());
                moves.push(Move { line: entry.line, version, hashes });
            }
        }
        let text = requirements::rewrite(&text, &moves).map_err(|error| {
            refused("RESOLUTION_FAILED", format!("{file} can't be rewritten: {error}"))
        })?;
        written.push((path, text));
    }
    let known: BTreeSet<String> = collected.packages.iter().map(|it| normal(&it.name)).collect();
    let loose: BTreeSet<String> = collected.loose.iter().map(|it| normal(&it.name)).collect();
    let added = pins.iter().filter(|it| {
        let name = normal(&it.name);
        !known.contains(&name) && !loose.contains(&name)
    });
    let added: Vec<&Pin> = added.collect();
    let first = sources.iter().find(|it| it.input.is_none()).map(|it| it.manifest.clone());
    let place = written.iter_mut().find(|(path, _)| first.as_ref() == Some(path));
    if let (false, Some((_, text))) = (added.is_empty(), place) {
        let hashed = text.contains("--hash");
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("# Wanted by what is above.\n");
        for pin in added {
            let _ = write!(text, "{}=={}", pin.name, pin.version);
            for hash in pin.hashes.iter().filter(|_| hashed) {
                let _ = write!(text, " \\\n    --hash={hash}");
            }
            text.push('\n');
        }
    }
    Ok(written)
}

/// A compiled text whose annotations do not name what lies at a place any more: neither in a line of their own, nor behind
/// others.
pub(super) fn without_origin(text: &str, place: &str) -> String {
    const VIA: &str = "# via";
    let mut written = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    let mut put = |line: &str| {
        written.push_str(line);
        written.push('\n');
    };
    while let Some(line) = lines.next() {
        let Some((before, after)) = line.split_once(VIA) else {
            put(line);
            continue;
        };
        let mut origins: Vec<String> = after.trim().split(", ").map(str::to_owned).collect();
        let apart = after.trim().is_empty();
        if apart {
            origins.clear();
            while let Some(origin) = lines.next_if(|it| it.trim_start().starts_with("#   ")) {
                origins.push(origin.trim_start_matches([' ', '#']).to_owned());
            }
        }
        origins.retain(|it| !it.contains(place));
        match (origins.as_slice(), apart) {
            ([], _) if before.trim().is_empty() => {}
            ([], _) => put(before.trim_end()),
            (all, false) => put(&format!("{before}{VIA} {}", all.join(", "))),
            ([one], true) => put(&format!("{before}{VIA} {one}")),
            (all, true) => {
                put(line);
                all.iter().for_each(|it| put(&format!("{before}#   {it}")));
            }
        }
    }
    written
}

/// The pins of a lock.
pub(super) fn pins_of(lock: &str) -> Vec<Pin> {
    let entries = requirements::read(lock).into_iter();
    entries.filter_map(|it| if let Item::Pin(pin) = it.item { Some(pin) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_annotation_names_the_agents_own_limits() {
        let own = ".genesis-work-1/in/";
        for (text, expected) in [
            (
                "a==1 \\\n    --hash=x\n    # via\n    #   -c releases/.genesis-work-1/in/exact.txt\n    #   -r requirements.in\nb==2\n    # via\n    #   -c releases/.genesis-work-1/in/exact.txt\n    #   a\n    #   c\n",
                "a==1 \\\n    --hash=x\n    # via -r requirements.in\nb==2\n    # via\n    #   a\n    #   c\n",
            ),
            ("a==1\n    # via -c releases/.genesis-work-1/in/exact.txt\nb==1\n", "a==1\nb==1\n"),
            (
                "a==1  # via -c releases/.genesis-work-1/in/exact.txt, -r requirements.in\n",
                "a==1  # via -r requirements.in\n",
            ),
            ("a==1  # via -c .genesis-work-1/in/exact.txt\n", "a==1\n"),
            (
                "# ours\na==1\n    # via\n    #   -c ours.txt\n    #   b\n",
                "# ours\na==1\n    # via\n    #   -c ours.txt\n    #   b\n",
            ),
        ] {
            assert_eq!(without_origin(text, own), expected);
        }
    }

    #[test]
    fn a_manifest_is_compiled_as_it_was_before_or_not_at_all() {
        let made = |options: &str| {
            format!(
                "# This file was autogenerated by uv via the following command:\n#    uv pip compile {options} requirements.in -o \
                 requirements.txt --generate-hashes\na==1 \\\n    --hash=sha256:aa\n    # via b\n"
            )
        };
        let plain = style(&made("--python-version 3.9 --annotation-style=line"));
        assert_eq!(
            plain.options,
            ["--python-version=3.9", "--annotation-style=line", "--generate-hashes"]
        );
        assert!(plain.for_others && plain.lost.is_none());
        assert!(plain.command.unwrap().starts_with("uv pip compile --python-version"));
        assert!(style(&made("--universal")).for_others);
        for lost in ["--extra", "--index-url", "-c", "--override", "--resolution"] {
            assert_eq!(style(&made(&format!("{lost} x"))).lost.as_deref(), Some(lost));
        }
        let bare = style("a==1\n");
        assert_eq!(bare.options, ["--no-header", "--no-annotate"]);
        assert_eq!((bare.command, bare.for_others), (None, false));
    }
}
