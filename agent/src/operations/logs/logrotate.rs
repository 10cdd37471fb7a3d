//! Moving over from logrotate: its configuration read, ours written, and what can't be expressed said.
//!
//! Pure: text in, text out. Follows logrotate.conf(5) of version 3.21 for the directives that common
//! configurations have; whatever is not known is named, never passed over.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::reader::quoted;

/// What came of converting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversion {
    /// `[[logs.source]]` tables, each with comments that say where it is from and what is left out.
    pub toml: String,
    /// How many sources.
    pub sources: usize,
    /// What could not be expressed, each with its file and line.
    pub left_out: Vec<String>,
}

/// Directives in force, with the lines they stand in.
#[derive(Debug, Clone, Default)]
struct Directives {
    rotate: Option<u64>,
    period_days: Option<(u64, &'static str)>,
    size: Option<u64>,
    max_age_days: Option<u64>,
    copytruncate: bool,
    post_rotate: Option<String>,
    shared_scripts: bool,
    notes: Vec<String>,
}

/// Converts files of `(name, text)` in this order, as if each were included by the one before: what a file says
/// outside of a block goes for the blocks behind it.
pub fn convert(files: &[(String, String)]) -> Conversion {
    let (mut conversion, mut global) = (Conversion::default(), Directives::default());
    let mut names = BTreeSet::from(["agent".to_owned()]);
    for (name, text) in files {
        let mut lines = Lines { file: name, lines: text.lines().enumerate().peekable() };
        let mut header: Vec<String> = Vec::new();
        while let Some((number, line)) = lines.next() {
            // A brace within a line is part of a path.
            let (before, opens) = match line.strip_suffix('{') {
                Some(before) => (before.trim_end(), true),
                None => (line.as_str(), false),
            };
            let is_path = before.starts_with(['/', '"', '\'']);
            if is_path || opens {
                header.extend(words(before));
            } else {
                directive(&mut global, before, number, &mut lines);
            }
            if opens {
                let mut own = Directives { notes: Vec::new(), ..global.clone() };
                let mut closed = false;
                while let Some((number, line)) = lines.next() {
                    if line.trim() == "}" {
                        closed = true;
                        break;
                    }
                    directive(&mut own, &line, number, &mut lines);
                }
                if !closed {
                    own.notes.push(format!("{name}:{number}: the block is not closed"));
                }
                block(&mut conversion, &mut names, &header, &own, (name, number));
                header.clear();
            }
        }
    }
    // What is said globally is named once.
    conversion.left_out.splice(0..0, global.notes);
    conversion
}

/// Lines without comments, with their numbers.
struct Lines<'t> {
    file: &'t str,
    lines: std::iter::Peekable<std::iter::Enumerate<std::str::Lines<'t>>>,
}

impl Lines<'_> {
    fn raw(&mut self) -> Option<(usize, String)> {
        self.lines.next().map(|(index, line)| (index + 1, line.to_owned()))
    }

    fn next(&mut self) -> Option<(usize, String)> {
        loop {
            let (number, line) = self.raw()?;
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                return Some((number, line.to_owned()));
            }
        }
    }

    /// The lines of a script, up to `endscript`.
    fn script(&mut self) -> String {
        let mut script = String::new();
        while let Some((_, line)) = self.raw() {
            if line.trim() == "endscript" {
                break;
            }
            let _ = writeln!(script, "{}", line.trim());
        }
        script.trim().to_owned()
    }
}

/// Splits a text at blanks, outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut any) = (Vec::new(), String::new(), None, false);
    for character in text.chars() {
        match (quote, character) {
            (Some(open), character) if character == open => quote = None,
            (None, '"' | '\'') => (quote, any) = (Some(character), true),
            (None, character) if character.is_whitespace() => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (_, character) => word.push(character),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Bytes of a size such as `100k`, `10M`, `1G`: powers of 1024.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix(['k', 'K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let factor: u64 = match factor {
        "k" | "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => 1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn directive(into: &mut Directives, line: &str, number: usize, lines: &mut Lines<'_>) {
    let line = line.replacen('=', " ", 1);
    let parts = words(&line);
    let Some((key, values)) = parts.split_first() else { return };
    let value = values.first().map(String::as_str).unwrap_or_default();
    let file = lines.file;
    let note = |into: &mut Directives, why: &str| {
        into.notes.push(format!("{file}:{number}: {}: {why}", line.trim()));
    };
    match key.as_str() {
        "hourly" => into.period_days = Some((1, "hourly")),
        "daily" => into.period_days = Some((1, "daily")),
        "weekly" => into.period_days = Some((7, "weekly")),
        "monthly" => into.period_days = Some((31, "monthly")),
        "yearly" => into.period_days = Some((366, "yearly")),
        "rotate" => match value.parse::<u64>() {
            Ok(count) => into.rotate = Some(count),
            Err(_) => note(into, "is no number"),
        },
        "size" | "maxsize" => match size(value) {
            Some(bytes) => into.size = Some(bytes),
            None => note(into, "is no size"),
        },
        "minsize" => note(into, "a log is cut by its size alone; the default of 10MB is kept"),
        "maxage" => match value.parse::<u64>() {
            Ok(days) => into.max_age_days = Some(days),
            Err(_) => note(into, "is no number of days"),
        },
        "copytruncate" => into.copytruncate = true,
        "nocopytruncate" => into.copytruncate = false,
        "postrotate" => into.post_rotate = Some(lines.script()),
        "prerotate" | "firstaction" | "lastaction" | "preremove" => {
            let script = lines.script().replace('\n', "; ");
            note(into, &format!("nothing is run at that time; it ran: {script}"));
        }
        "sharedscripts" => into.shared_scripts = true,
        "nosharedscripts" => into.shared_scripts = false,
        "create" if !values.is_empty() => {
            note(into, "the writer makes its new file; see that it does, with that mode and owner")
        }
        "copy" => note(into, "a log is never kept beside its archive"),
        "olddir" => note(into, "archived logs go to [logs.archive] url"),
        "su" => note(into, "the agent works as its own user; give that access to the folder"),
        "mail" => note(into, "nothing is sent by mail"),
        "shred" => note(into, "files are deleted, not overwritten"),
        "ifempty" => note(into, "an empty log is left alone"),
        "nocompress" => note(into, "what is archived is always gzip"),
        "compresscmd" | "uncompresscmd" | "compressext" | "compressoptions" => {
            note(into, "what is archived is always gzip")
        }
        "include" => note(into, "give the included files as arguments, too"),
        "tabooext" | "taboopat" => note(into, "goes for include only; choose the files yourself"),
        // What we do anyway, or do not need: names, order and compression are our own affair.
        "compress" | "delaycompress" | "nodelaycompress" | "create" | "nocreate" | "missingok"
        | "nomissingok" | "notifempty" | "dateext" | "nodateext" | "dateformat"
        | "dateyesterday" | "datehourago" | "extension" | "addextension" | "start" | "noolddir"
        | "nomail" | "mailfirst" | "maillast" | "noshred" | "shredcycles" | "nocopy"
        | "renamecopy" | "norenamecopy" | "createolddir" | "nocreateolddir" | "allowhardlink"
        | "noallowhardlink" | "ignoreduplicates" => {}
        _ => note(into, "is not known"),
    }
}

/// How a writer is told, as far as a script says it plainly.
enum Told {
    Signal(String, String),
    Command(Vec<String>),
    Script(String),
}

fn told(script: &str) -> Told {
    let flat = script.replace(['\n', ';'], " ; ").replace("||", " ; ").replace("&&", " ; ");
    let flat =
        flat.replace("\"$(", "$(").replace(")\"", ")").replace("\"`", "`").replace("`\"", "`");
    let statements: Vec<Vec<String>> = flat
        .split(" ; ")
        .map(|statement| statement.replace("$(", " ` ").replace([')', '`'], " ` "))
        .map(|statement| words(&statement))
        .filter(|words| !words.is_empty())
        .collect();
    let harmless = |words: &Vec<String>| {
        ["[", "test", "true", ":", "exit", "if", "fi", "then"].contains(&words[0].as_str())
    };
    let rest: Vec<Vec<String>> = statements
        .into_iter()
        .map(|mut words| {
            if words[0] == "then" {
                words.remove(0);
            }
            // Where its output goes is not our concern.
            words.retain(|word| !word.contains('>') && word != "/dev/null" && word != "`");
            words
        })
        .filter(|words| !words.is_empty() && !harmless(words))
        .collect();
    if let [words] = rest.as_slice() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let base = words[0].rsplit('/').next().unwrap_or_default();
        match (base, &words[1..]) {
            ("kill", [signal, cat, pidfile]) if *cat == "cat" && pidfile.starts_with('/') => {
                let signal = signal.trim_start_matches('-').trim_start_matches("SIG");
                let name = match signal {
                    "HUP" | "1" => "HUP",
                    "USR1" | "10" => "USR1",
                    "USR2" | "12" => "USR2",
                    _ => "",
                };
                if !name.is_empty() {
                    return Told::Signal(name.to_owned(), (*pidfile).to_owned());
                }
            }
            ("systemctl" | "service" | "invoke-rc.d" | "killall" | "pkill", arguments)
                if !arguments.iter().any(|word| word.contains(['$', '*', '|'])) =>
            {
                return Told::Command(words.iter().map(|word| (*word).to_owned()).collect());
            }
            _ => {}
        }
    }
    Told::Script(script.to_owned())
}

fn block(
    conversion: &mut Conversion,
    names: &mut BTreeSet<String>,
    paths: &[String],
    own: &Directives,
    (file, line): (&str, usize),
) {
    let mut notes = own.notes.clone();
    let mut note = |what: &str| notes.push(format!("{file}:{line}: {what}"));
    let (good, bad): (Vec<&String>, Vec<&String>) = paths.iter().partition(|path| {
        path.starts_with('/') && !path.contains(['{', '}']) && !path.contains("/../")
    });
    for path in bad {
        note(&format!("{path}: only absolute paths and globs of *, ? and [] can be watched"));
    }
    let mut keys = String::new();
    let bytes = own.size.unwrap_or(10_000_000);
    let held = bytes.clamp(4096, 1 << 40);
    if held != bytes {
        note(&format!("size {bytes}: the least is 4096 bytes"));
    }
    let _ = writeln!(keys, "rotate_size = {}", quoted(&format!("{held}B")));
    if let (Some((_, period)), None) = (own.period_days, own.size) {
        note(&format!(
            "{period}: a log is cut by its size, not by the calendar; {held} bytes here"
        ));
    }
    let days = own.max_age_days.or_else(|| {
        let (days, _) = own.period_days?;
        own.rotate?.checked_mul(days)
    });
    if let Some(days) = days.filter(|days| (1..=36_500).contains(days)) {
        let _ = writeln!(keys, "local_retention = \"{days}d\"");
        let _ = writeln!(keys, "archive_retention = \"{}d\"", days.max(365));
    } else if let Some(count) = own.rotate {
        note(&format!(
            "rotate {count}: logs are kept by their age; the defaults are 30 and 365 days"
        ));
    }
    if own.copytruncate {
        keys.push_str("# In place of copytruncate, and it loses nothing: for writers that append, on ext4 or xfs.\n");
        keys.push_str("rotate_mode = \"collapse\"\n");
        if own.post_rotate.is_some() {
            note("postrotate: nothing is run in this mode, since the writer keeps its file");
        }
    } else {
        match own.post_rotate.as_deref().map(told) {
            Some(Told::Signal(signal, pidfile)) => {
                let (signal, pidfile) = (quoted(&signal), quoted(&pidfile));
                let _ = writeln!(keys, "reopen = {{ signal = {signal}, pidfile = {pidfile} }}");
            }
            Some(Told::Command(command)) => {
                let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
                let _ = writeln!(keys, "reopen = {{ command = [{}] }}", words.join(", "));
            }
            Some(Told::Script(script)) => {
                note(
                    "postrotate: its script is taken over as it is; it runs as the agent's user, once for each file",
                );
                let words = format!("\"/bin/sh\", \"-c\", {}", quoted(&script));
                let _ = writeln!(keys, "reopen = {{ command = [{words}] }}");
            }
            None => {
                note(
                    "no postrotate: see that the writer opens a new file by itself; if it keeps the old one, use collapse",
                );
                keys.push_str("reopen = \"by-itself\"\n");
            }
        }
        if own.shared_scripts
            && good.len() + usize::from(good.iter().any(|path| path.contains('*'))) > 1
        {
            note("sharedscripts: the writer is told once for each file");
        }
    }
    let _ = writeln!(conversion.toml, "# From {file}:{line}");
    for note in &notes {
        // A script may have any bytes; a comment is one line.
        let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(conversion.toml, "# LEFT OUT {note}");
    }
    conversion.left_out.append(&mut notes);
    if good.is_empty() {
        conversion.toml.push_str("# Nothing to watch\n\n");
        return;
    }
    let shown: Vec<String> = good.iter().map(|path| quoted(path)).collect();
    let log_type = type_name(good[0], names);
    let _ = writeln!(
        conversion.toml,
        "[[logs.source]]\ntype = {}\npaths = [{}]\n{keys}",
        quoted(&log_type),
        shown.join(", ")
    );
    conversion.sources += 1;
}

/// A log type after the first path: its name without what is no letter, and a number where that is taken.
fn type_name(path: &str, names: &mut BTreeSet<String>) -> String {
    let mut parts = path.rsplit('/').map(|part| {
        let plain: String = part
            .trim_end_matches(".log")
            .chars()
            .map(|c| c.to_ascii_lowercase())
            .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
            .collect();
        plain.trim_matches(['-', '_']).chars().take(24).collect::<String>()
    });
    let base = parts.find(|part| !part.is_empty()).unwrap_or_else(|| "log".into());
    let mut name = base.clone();
    for number in 2.. {
        if names.insert(name.clone()) {
            break;
        }
        name = format!("{base}-{number}");
    }
    name
}

#[cfg(test)]
mod tests;
