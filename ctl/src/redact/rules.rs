//! What is looked for.

use std::sync::OnceLock;

use regex::Regex;

/// One regular expression for each shape. A comment says which group is replaced, if not all.
#[derive(Debug)]
pub(super) struct Rules {
    /// A PEM block; one that is cut off goes on to the end of the text.
    pub(super) pem: Regex,
    /// Tokens with a form of their own: JSON web tokens, those of clouds and forges.
    pub(super) token: Regex,
    /// (scheme://)(user):(password)@
    pub(super) userinfo: Regex,
    /// (Authorization: )(all of it)
    pub(super) header: Regex,
    /// (Bearer )(token)
    pub(super) bearer: Regex,
    /// (name)( = )(value in one of four kinds of quotes)
    pub(super) assignment: Regex,
    /// (--password )(value), the two as one text or as items of a list.
    pub(super) flag: Regex,
    /// (command = ["program")(, each of its arguments])
    pub(super) command: Regex,
    /// (uid=0\()(name)
    pub(super) unix_identity: Regex,
    /// (genesis://fleet/)(role)/(name)
    pub(super) tls_identity: Regex,
    /// (CN=)(name)
    pub(super) subject: Regex,
    pub(super) email: Regex,
    /// (/home/)(name)
    pub(super) home: Regex,
    /// (scheme://)(host)
    pub(super) url_host: Regex,
    pub(super) mac: Regex,
    /// What may be an address.
    pub(super) ipv6: Regex,
    pub(super) ipv4: Regex,
    /// A name below a top-level domain.
    pub(super) domain: Regex,
    /// (host = )(name)
    pub(super) host_field: Regex,
    /// (name):port
    pub(super) host_port: Regex,
    /// Long base64 or hex.
    pub(super) blob: Regex,
    /// What this module itself wrote.
    pub(super) placeholder: Regex,
    secret_name: Regex,
}

/// How secrets are called.
const SECRET: &str = "passw(?:or)?d|passphrase|passwd|pwd|secret|token|credential|api[_-]?key|access[_-]?key|\
                      private[_-]?key|authorization|cookie|signature|webhook|\\bpass\\b|_pass\\b|\\bauth\\b|_auth\\b|\\bsig\\b|\\bdsn\\b|_dsn\\b";

/// Domains under which hosts are named. Not all there are: many are also endings of files.
const DOMAINS: &str = "com|net|org|io|dev|app|cloud|internal|intern|local|lan|corp|intra|home|example|test|\
                       invalid|trading|finance|bank|eu|de|uk|us|ch|at|fr|nl|jp|sg|hk|arpa";

impl Rules {
    /// The rules, made at first use. `None`: one of them is no regular expression, as a test would show.
    pub(super) fn shared() -> Option<&'static Self> {
        static RULES: OnceLock<Option<Rules>> = OnceLock::new();
        RULES.get_or_init(|| Self::new().ok()).as_ref()
    }

    fn new() -> Result<Self, regex::Error> {
        let new = |rule: &str| Regex::new(rule);
        Ok(Self {
            pem: new(r"(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)")?,
            token: new(concat!(
                r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)?",
                r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
                r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bglpat-[A-Za-z0-9_-]{16,}",
                r"|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bsk-[A-Za-z0-9_-]{16,}",
            ))?,
            userinfo: new(r#"(\b[A-Za-z][A-Za-z0-9+.-]*://)([^\s/@:"']*)(?::([^\s/"']*))?@"#)?,
            header: new(
                r#"(?i)(\b(?:proxy-)?(?:authorization|cookie|set-cookie)["'\\]*\s*[:=]\s*["'\\]*)([^\r\n"'\\]+)"#,
            )?,
            bearer: new(r"(?i)(\b(?:bearer|basic|digest)\s+)([A-Za-z0-9+/=._~-]{6,})")?,
            assignment: new(&format!(
                r#"(?i)([\w.-]*(?:{SECRET}|key)[\w-]*)(["'\\]*\s*[:=]\s*)(?:\\"(.*?)\\"|"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+))"#
            ))?,
            flag: new(&format!(
                r#"(?i)(--?[\w-]*(?:{SECRET}|key)["'\\]*[\s,]+["'\\]*)([^\s"'\\,\]-][^\s"'\\,\]]*)"#
            ))?,
            command: new(
                r#"(\bcommand["'\\]*\s*[:=]\s*\[\s*\\*"[^"]*")((?:\s*,\s*\\*"(?:[^"\\]|\\.)*")+)"#,
            )?,
            unix_identity: new(r"(\b[ug]id=\d+\()([^)]+)")?,
            tls_identity: new(
                r#"(\bgenesis://[^/\s"']+/)(viewer|operator|admin|agent)/([^\s"'/),;]+)"#,
            )?,
            subject: new(r#"(\bCN\s?=\s?)([^,/+"\s]+)"#)?,
            email: new(r"[\w.+%-]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")?,
            home: new(r#"(/(?:home|Users)/)([^/\s"':,;)]+)"#)?,
            url_host: new(
                r#"(\b(?:https?|grpcs?|wss?|ftp|ssh|s3|etcd|postgres(?:ql)?|redis|mysql|amqps?|tcp|tls)://(?:[^\s/@"']*@)?)([A-Za-z0-9_][A-Za-z0-9_.-]*)"#,
            )?,
            mac: new(r"(?i)\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b")?,
            ipv6: new(r"(?i)[0-9a-f]{0,4}:[0-9a-f]{0,4}:[0-9a-f:.]*")?,
            ipv4: new(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")?,
            domain: new(&format!(
                r"(?i)\b(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)+(?:{DOMAINS})\b"
            ))?,
            host_field: new(
                r#"(?i)(\b(?:host|hostname|server|server_name|peer|endpoint|fqdn)["'\\]*\s*[:=]\s*["'\\]*)([a-z0-9_][a-z0-9_.-]*)"#,
            )?,
            // A name with digits, or of several parts, before a port; files have lines too.
            host_port: new(
                r"\b([A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+|[A-Za-z]+[0-9]+):[0-9]{2,5}\b",
            )?,
            blob: new(r"[A-Za-z0-9+/_-]{40,}={0,2}")?,
            placeholder: new(r"^(?:host|id|ip|mac|user|email|contact|secret|pem)-[0-9]+$")?,
            secret_name: new(&format!(r"(?i)(?:{SECRET})|key$"))?,
        })
    }

    /// Whether what is called so is a secret. A file or a variable that holds one is none.
    pub(super) fn names_a_secret(&self, name: &str) -> bool {
        let name = name.trim_end_matches(['"', '\'', '\\']);
        let lower = name.to_lowercase();
        let elsewhere = ["_file", "_env", "-file", "-env"].iter().any(|end| lower.ends_with(end));
        !elsewhere && self.secret_name.is_match(name)
    }
}
