//! Certificate authorities that speak ACME (RFC 8555), with renewal information (RFC 9773), external accounts and
//! profiles; and the answers to their challenges. The only place that names instant-acme.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::hooks::Hook;

mod account;
mod answers;
mod ari;
mod call;
mod client;
mod finish;
mod order;
mod real;
#[cfg(test)]
mod tests;
mod trouble;

pub use real::RealAcme;

/// The kind of a [`Trouble`]: by this host's clock the certificate of the CA's own server has ended, or is still to begin.
pub const OUT_OF_TIME: &str = "tls-certificate-out-of-time";

/// A CA, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// Its name in the configuration.
    pub name: String,
    /// The URL of its directory; https.
    pub directory: String,
    /// Such as "mailto:ops@example.com".
    pub contact: Vec<String>,
    /// An account there that is known otherwise.
    pub external: Option<ExternalAccount>,
    /// PEM file of the authorities that may vouch for its server; `None`: those of the host.
    pub roots_file: Option<PathBuf>,
    /// Where the key of our account is kept: a folder, 0700, with a file for each CA, 0600.
    pub accounts: PathBuf,
}

/// What the CA gave to bind our account to one that it knows (RFC 8555, section 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExternalAccount {
    /// The key's identifier.
    pub key_id: String,
    /// A file with the HMAC key in base64url, not readable by others.
    pub key_file: PathBuf,
}

/// What is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// DNS names, also "*.example.com", and addresses.
    pub identifiers: Vec<String>,
    /// The CA's profile; `None`: its usual one.
    pub profile: Option<String>,
    /// The certificate, in DER, that this one replaces (RFC 9773, section 5). Not sent to a CA without renewal information.
    pub replaces: Option<Vec<u8>>,
}

/// An order that the CA has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// Where it is.
    pub url: String,
    /// Whether the CA took it for a replacement, which no limit counts.
    pub replaces: bool,
}

/// How the host shows that a domain is its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// http-01: from a listener that is open while it is asked for.
    HttpListener(SocketAddr),
    /// http-01: in a folder that a web server serves as `/.well-known/acme-challenge/`'s root.
    HttpWebroot(PathBuf),
    /// tls-alpn-01 (RFC 8737): from a listener that is open while it is asked for.
    TlsAlpn(SocketAddr),
    /// dns-01: by dynamic update (RFC 2136), signed (RFC 8945).
    DnsUpdate(DnsUpdate),
    /// dns-01: by a command that sets the record, and one that removes it.
    DnsHook {
        /// Gets {"action": "present" | "cleanup", "domain", "name", "value"} on its standard input, and the same as
        /// `GENESIS_ACTION`, `GENESIS_DOMAIN`, `GENESIS_NAME`, `GENESIS_VALUE`. Both actions are asked of it.
        hook: Hook,
        /// How long the record is waited for, at the zone's own servers; `ZERO`: it is not looked for.
        wait: Duration,
        /// Asked in place of the zone's own servers; empty: those of the host find them.
        resolvers: Vec<SocketAddr>,
    },
}

/// Where and how records are set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DnsUpdate {
    /// The zone's primary server.
    pub server: SocketAddr,
    /// The zone; `None`: as that server says.
    pub zone: Option<String>,
    /// The name of the key.
    pub key_name: String,
    /// "hmac-sha256", "hmac-sha384" or "hmac-sha512".
    pub algorithm: String,
    /// A file with the key in base64, not readable by others.
    pub key_file: PathBuf,
    /// How long the record is waited for, at that server.
    pub wait: Duration,
}

/// What a CA says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// Its clock.
    pub date: Option<Timestamp>,
    /// Whether it has renewal information.
    pub renewal_info: bool,
    /// The names of its profiles.
    pub profiles: Vec<String>,
    /// The names by which CAA records allow it (RFC 8659).
    pub caa_identities: Vec<String>,
    /// Whether it wants an external account.
    pub external_account_required: bool,
}

/// When the CA wants a certificate to be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewalInfo {
    /// From.
    pub start: Timestamp,
    /// Until; not before `start`.
    pub end: Timestamp,
    /// A page that says why.
    pub explanation: Option<String>,
    /// When it wants to be asked again, as it says.
    pub ask_again: Option<Duration>,
}

/// What is done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wait as long as the CA says.
    RateLimited,
    /// The CA could not see that the domain is the host's.
    Authorization,
    /// It can't be reached, is slow, or answers what makes no sense.
    Server,
    /// It refuses, and time does not mend that.
    Policy,
    /// It does not take the order for a replacement of the certificate named: order once more without that.
    Replaces,
    /// It knows this order no more, or the order has failed: place another.
    OrderGone,
    /// A port, a hook, a file of this host.
    Local,
}

/// A failure at a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What is done about it.
    pub class: Class,
    /// In words: what was attempted, and what was said.
    pub message: String,
    /// The problem's type without "urn:ietf:params:acme:error:", such as "rateLimited"; [`OUT_OF_TIME`]; empty: none was
    /// given.
    pub kind: String,
    /// How long to wait, as the CA says.
    pub retry_after: Option<Duration>,
    /// The identifiers that it is about.
    pub identifiers: Vec<String>,
    /// The CA's clock, where it was heard.
    pub date: Option<Timestamp>,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

/// What speaks with CAs; tests put a fake here. Nothing here waits longer than a minute for one answer, a nonce that was
/// not taken is replaced at once up to five times, and no secret is in any error.
#[async_trait]
pub trait Acme: Send + Sync {
    /// What the CA says of itself.
    ///
    /// # Errors
    /// When it can't be had.
    async fn directory(&self, ca: &Authority) -> Result<Directory, Trouble>;

    /// Places an order, under an account that is made where there is none.
    ///
    /// # Errors
    /// As the CA says.
    async fn order(&self, ca: &Authority, wanted: &Wanted) -> Result<Ordered, Trouble>;

    /// Goes on with an order from wherever it is: answers what is still pending, hands in the request (`csr`, DER), and
    /// returns the chain in PEM. May be called again for an order that was cut off, and then hands in nothing twice.
    /// Every answer is taken away again.
    ///
    /// # Errors
    /// As the CA says; [`Class::Server`] when it takes longer than `patience`.
    async fn finish(
        &self,
        ca: &Authority,
        url: &str,
        answer: &Answer,
        csr: &[u8],
        patience: Duration,
    ) -> Result<String, Trouble>;

    /// When the CA wants this certificate (DER) to be renewed. A window that ends before it starts is no answer.
    ///
    /// # Errors
    /// As the CA says.
    async fn renewal_info(&self, ca: &Authority, leaf: &[u8]) -> Result<RenewalInfo, Trouble>;

    /// Has the CA revoke a certificate (DER) whose key is known to others.
    ///
    /// # Errors
    /// As the CA says. That it was revoked already is none.
    async fn revoke(&self, ca: &Authority, leaf: &[u8]) -> Result<(), Trouble>;
}
