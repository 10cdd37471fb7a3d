//! The names of hosts and people: where they are learned from, and taking them out where they stand alone.

use regex::Regex;
use serde_json::Value;

use super::{Redactor, What};

/// Names of which everybody has one, and words of this program that a name may be equal to: they identify
/// nobody, and replacing them would spoil the text.
pub(super) const COMMON: [&str; 26] = [
    "root",
    "genesis",
    "genesis.trading",
    "genesisctl",
    "genesis-agent",
    "agent",
    "logs",
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "viewer",
    "operator",
    "admin",
    "unix",
    "tcp",
    "nobody",
    "system",
    "schedule",
    "git",
    "postgres",
    "redis",
    "mysql",
    "ubuntu",
    "debian",
    "runner",
    "ec2-user",
];

/// The shortest name that is replaced wherever it stands alone. Shorter ones are words of prose.
const SHORTEST_NAME: usize = 3;

impl Redactor {
    /// From now on `name` is replaced wherever it stands alone; of a host also its short name, by the same
    /// placeholder.
    pub(crate) fn know(&mut self, what: What, name: &str) {
        let name = name.trim().trim_end_matches('.');
        if name.is_empty() || is_common(name) {
            return;
        }
        let label = match (what, name.split_once('.')) {
            (What::Host, Some((label, _))) => Some(label),
            _ => None,
        };
        // That of an address is none, and short ones are words.
        let short = label.filter(|short| {
            long_enough(short) && !is_common(short) && !short.bytes().all(|b| b.is_ascii_digit())
        });
        if let Some(short) = short {
            self.alias(what, short, name);
            self.name(short);
        }
        self.placeholder(what, name);
        self.name(name);
    }

    /// Two names of the same, of which one may have its placeholder already.
    fn alias(&mut self, what: What, short: &str, long: &str) {
        let known = self.placeholders.get(&short.to_lowercase()).cloned();
        let known = known.unwrap_or_else(|| self.placeholder(what, long));
        for name in [short, long] {
            self.placeholders.entry(name.to_lowercase()).or_insert_with(|| known.clone());
        }
    }

    fn name(&mut self, name: &str) {
        if !long_enough(name) {
            self.short_names.insert(name.to_lowercase());
        } else if self.names.insert(name.to_lowercase()) {
            self.name_rule = None;
        }
    }

    /// Learns the names of people and hosts from what tells them apart from words: identities, home folders,
    /// URLs, addresses. Elsewhere they stand alone.
    pub(crate) fn learn(&mut self, text: &str) {
        let rules = self.rules;
        let mut found = Vec::new();
        let mut all = |rule: &Regex, group: usize, what: What| {
            found.extend(rule.captures_iter(text).map(|found| (what, found[group].to_owned())));
        };
        all(&rules.unix_identity, 2, What::User);
        all(&rules.subject, 2, What::User);
        all(&rules.home, 2, What::User);
        all(&rules.userinfo, 2, What::User);
        all(&rules.host_port, 1, What::Host);
        for captures in rules.tls_identity.captures_iter(text) {
            let what = if &captures[2] == "agent" { What::Host } else { What::User };
            found.push((what, captures[3].to_owned()));
        }
        for captures in rules.email.captures_iter(text) {
            // Others, such as security@, are words.
            let mailbox = captures[0].split('@').next().unwrap_or_default();
            if mailbox.contains(['.', '_']) {
                found.push((What::User, mailbox.to_owned()));
            }
        }
        for (what, name) in found {
            self.know(what, &name);
        }
        for captures in rules.url_host.captures_iter(text) {
            // A plain word, such as s3://archive/, is known in its URL only.
            let host = &captures[2];
            if host.contains(['.', '-']) && host.parse::<std::net::Ipv4Addr>().is_err() {
                self.placeholder(What::Host, host);
                self.name(host);
            }
        }
    }

    /// [`Self::learn`] for every string of a value.
    pub(crate) fn learn_value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.learn(text),
            Value::Array(items) => items.iter().for_each(|item| self.learn_value(item)),
            Value::Object(fields) => fields.values().for_each(|field| self.learn_value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    pub(super) fn known_names(&mut self, text: &str) -> String {
        if self.names.is_empty() {
            return text.to_owned();
        }
        let rule = match &self.name_rule {
            Some(rule) => rule.clone(),
            None => {
                let mut names: Vec<_> = self.names.iter().map(|name| regex::escape(name)).collect();
                names.sort_by_key(|name| std::cmp::Reverse(name.len()));
                // So many names that they make no rule can't be told apart from text: all of it goes.
                let Ok(rule) = Regex::new(&format!("(?i){}", names.join("|"))) else {
                    return self.placeholder(What::Secret, text);
                };
                self.name_rule.insert(rule).clone()
            }
        };
        let mut redacted = String::with_capacity(text.len());
        let (mut done, mut from) = (0, 0);
        while let Some(found) = rule.find_at(text, from) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            if inside(before) || inside(after) {
                let first = text[found.start()..].chars().next().map_or(1, char::len_utf8);
                from = found.start() + first;
                continue;
            }
            redacted.push_str(&text[done..found.start()]);
            redacted.push_str(&self.placeholder(What::Host, found.as_str()));
            // Its long name is another name of the same host.
            let end = self.end_of_domain(text, found.start()).max(found.end());
            (done, from) = (end, end);
        }
        redacted.push_str(&text[done..]);
        redacted
    }

    /// Where the domain name ends that begins at `start`; `start` where none does.
    fn end_of_domain(&self, text: &str, start: usize) -> usize {
        // A domain name has no more.
        let mut end = text.len().min(start + 256);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let found = self.rules.domain.find(&text[start..end]).filter(|found| found.start() == 0);
        found.map_or(start, |found| start + found.end())
    }
}

pub(super) fn is_common(name: &str) -> bool {
    COMMON.contains(&name.to_lowercase().as_str())
}

fn long_enough(name: &str) -> bool {
    name.chars().count() >= SHORTEST_NAME
}
