//! What goes wrong at the proxy, and when.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// What a request is for, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Whatever it is; only to say what goes wrong.
    Any,
    /// The directory.
    Directory,
    /// A nonce.
    NewNonce,
    /// An account, new or by its key.
    NewAccount,
    /// An account as it is, or a change of it.
    Account,
    /// An order.
    NewOrder,
    /// An order that names the certificate which it replaces; only to say what goes wrong, seen as [`Kind::NewOrder`].
    NewOrderReplacing,
    /// How an order stands.
    Order,
    /// How an authorization stands.
    Authz,
    /// A challenge that is ready, or how it stands.
    Challenge,
    /// The request for the certificate of an order.
    Finalize,
    /// A certificate.
    Certificate,
    /// When a certificate should be renewed (RFC 9773).
    RenewalInfo,
    /// A revocation.
    Revoke,
    /// Anything else.
    Other,
}

impl Kind {
    /// By the paths of Pebble 2.4, which are unlike those of other servers on purpose.
    pub(super) fn of(path: &str) -> Self {
        match path.split('/').nth(1).unwrap_or_default() {
            "dir" => Self::Directory,
            "nonce-plz" => Self::NewNonce,
            "sign-me-up" => Self::NewAccount,
            "my-account" => Self::Account,
            "order-plz" => Self::NewOrder,
            "my-order" => Self::Order,
            "authZ" => Self::Authz,
            "chalZ" => Self::Challenge,
            "finalize-order" => Self::Finalize,
            "certZ" => Self::Certificate,
            "renewal-info" => Self::RenewalInfo,
            "revoke-cert" => Self::Revoke,
            _ => Self::Other,
        }
    }

    fn covers(self, kind: Self, payload: Option<&Value>) -> bool {
        let replaces = || payload.is_some_and(|payload| payload.get("replaces").is_some());
        match self {
            Self::Any => true,
            Self::NewOrderReplacing => kind == Self::NewOrder && replaces(),
            _ => self == kind,
        }
    }
}

/// The value of a Retry-After.
#[derive(Debug, Clone, Copy)]
pub enum RetryAfter {
    /// So many seconds.
    Seconds(u64),
    /// At this moment, as a date of HTTP.
    Date(Timestamp),
}

impl RetryAfter {
    pub(super) fn header(self) -> String {
        match self {
            Self::Seconds(seconds) => seconds.to_string(),
            Self::Date(at) => http_date(at),
        }
    }
}

/// A moment as HTTP writes it, such as "Thu, 26 Nov 2026 13:37:16 GMT".
pub(super) fn http_date(at: Timestamp) -> String {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&at).expect("a year of four digits")
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with a page that is no JSON, as what stands before a server answers. Nothing reaches the server.
    Status(u16),
    /// A problem (RFC 7807), with a nonce where one is due. Nothing reaches the server.
    Problem {
        /// Its status.
        status: u16,
        /// Its type, without `urn:ietf:params:acme:error:`.
        kind: &'static str,
        /// What it says to people.
        detail: String,
        /// When to come again.
        retry_after: Option<RetryAfter>,
    },
    /// 200, with a page that is no JSON and no certificate either. Nothing reaches the server.
    Garbage,
    /// The connection is closed without an answer. Nothing reaches the server.
    Drops,
    /// There is no answer, and the connection stays. Nothing reaches the server.
    Hangs,
    /// The server's own answer, which says besides when to come again: as others do while something is pending.
    ComeAgain(RetryAfter),
    /// It takes so long until the server gets the request.
    Delay(Duration),
    /// The server does as it was asked, and half of what it answers comes back before the connection is closed.
    Truncates,
    /// The server does as it was asked, and the connection is closed without an answer.
    LosesAnswer,
    /// The server does as it was asked; there is no answer, and the connection stays.
    HoldsAnswer,
}

impl Fault {
    /// 429 with `rateLimited`, to come again at some time.
    pub fn rate_limited(retry_after: RetryAfter) -> Self {
        let detail = "too many certificates already issued for this exact set of identifiers";
        let retry_after = Some(retry_after);
        Self::Problem { status: 429, kind: "rateLimited", detail: detail.into(), retry_after }
    }

    /// A problem without a time to come again.
    pub fn problem(status: u16, kind: &'static str, detail: &str) -> Self {
        Self::Problem { status, kind, detail: detail.into(), retry_after: None }
    }

    /// 409, because the certificate that an order names as replaced was so already: for [`Kind::NewOrderReplacing`].
    pub fn already_replaced() -> Self {
        Self::problem(409, "alreadyReplaced", "the predecessor has a replacement already")
    }
}

/// Faults that wait for their requests.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Kind, Option<usize>, Fault)>);

impl Faults {
    /// `times`: none for as long as the proxy lives.
    pub(super) fn add(&mut self, kind: Kind, times: Option<usize>, fault: Fault) {
        self.0.push((kind, times, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with a request: the first that was said of such.
    pub(super) fn take(&mut self, kind: Kind, payload: Option<&Value>) -> Option<Fault> {
        let covers = |(of, left, _): &(Kind, Option<usize>, Fault)| {
            *left != Some(0) && of.covers(kind, payload)
        };
        let (_, left, fault) = self.0.iter_mut().find(|it| covers(it))?;
        if let Some(left) = left {
            *left -= 1;
        }
        Some(fault.clone())
    }
}
