//! How one side of a secured connection refuses the other.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

use crate::{Error, Kind, Node};

/// Why the two sides did not come together. It is decided before the agent has read a call.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Refusal {
    /// This side does not trust the server's certificate.
    #[error("the server's certificate is not trusted: {0}")]
    Server(CertificateError),
    /// The server does not take this side's certificate.
    #[error("the server sent the alert {0:?}")]
    Client(AlertDescription),
    /// This side spoke TLS, the other did not.
    #[error("the answer is not TLS")]
    NotTls,
    /// This side spoke without TLS, the other wants it.
    #[error("the answer to plaintext is a TLS alert")]
    TlsOnly,
    /// TLS came about, and what is spoken in it is not HTTP/2.
    #[error("the server does not offer HTTP/2")]
    NotHttp2,
    /// No common ground.
    #[error("{0}")]
    Handshake(rustls::Error),
}

impl Refusal {
    /// The refusal in what reading or a handshake failed with, if it is one.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        use rustls::Error as Tls;
        let tls = error.get_ref()?.downcast_ref::<Tls>()?;
        Some(match tls {
            Tls::InvalidCertificate(why) => Self::Server(why.clone()),
            Tls::AlertReceived(alert) if judges_certificate(*alert) => Self::Client(*alert),
            Tls::InvalidMessage(_) => Self::NotTls,
            Tls::NoApplicationProtocol
            | Tls::AlertReceived(AlertDescription::NoApplicationProtocol) => Self::NotHttp2,
            other => Self::Handshake(other.clone()),
        })
    }

    /// The refusal in a chain of errors.
    pub(crate) fn of_chain<'a>(
        mut chain: impl Iterator<Item = &'a (dyn StdError + 'static)>,
    ) -> Option<Self> {
        chain.find_map(|error| error.downcast_ref::<Self>().cloned())
    }

    /// It in the words of an [`Error`].
    pub(crate) fn explain(&self, node: &Node) -> Error {
        let (reason, message, next) = match self {
            Self::Server(why) => {
                let (message, next) = untrusted(node, why);
                ("SERVER_NOT_TRUSTED", message, next)
            }
            Self::Client(alert) => {
                let (message, next) = refused(node, *alert);
                ("CERTIFICATE_REFUSED", message, next)
            }
            Self::NotTls => (
                "TLS_NOT_SERVED",
                format!("{node} does not speak TLS"),
                "check the port: it is another program's, or the agent's plaintext one, which a context \
                 without certificates reaches",
            ),
            Self::TlsOnly => (
                "TLS_REQUIRED",
                format!("{node} speaks TLS only, and this call came without"),
                "name a context that has a CA and a certificate: `genesisctl context list`, then \
                 --context NAME",
            ),
            Self::NotHttp2 => (
                "TLS_FAILED",
                format!("{node} speaks TLS but not HTTP/2, so it is no agent"),
                "check the port: an agent's gRPC port is what its `[listen] grpc` says",
            ),
            Self::Handshake(error) => (
                "TLS_FAILED",
                format!("{node} and this client can't agree on TLS: {error}"),
                "check the port, and what stands between: TLS 1.2 or 1.3 is needed from end to end",
            ),
        };
        Error::new(Kind::Unauthenticated, "UNAUTHENTICATED", reason, message, next)
    }
}

/// Whether the alert is about the client's certificate.
fn judges_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
            | A::CertificateRequired
    )
}

fn untrusted(node: &Node, why: &CertificateError) -> (String, &'static str) {
    use CertificateError as C;
    match why {
        C::Expired | C::ExpiredContext { .. } => (
            format!("the certificate of {node} has expired"),
            "issue a new one for that host (`genesis-agent pki issue --server`), and check the clocks of \
             both hosts",
        ),
        C::NotValidYet | C::NotValidYetContext { .. } => (
            format!("the certificate of {node} is not valid yet"),
            "check the clocks of both hosts",
        ),
        // A CA that was made anew bears the old one's name: then its signature does not fit.
        C::UnknownIssuer | C::BadSignature => (
            format!("the certificate of {node} was not issued by the context's CA"),
            "check the context's `ca`; where the agents' CA was replaced, take over a new context file \
             with `genesisctl context add NAME --from FILE --yes`",
        ),
        C::NotValidForNameContext { presented, .. } => (
            format!("the certificate of {node} is for other names: {}", names(presented)),
            WRONG_NAME,
        ),
        C::NotValidForName => {
            (format!("the certificate of {node} is for another name"), WRONG_NAME)
        }
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => (
            format!("what {node} shows is no server certificate"),
            "issue one with `genesis-agent pki issue --server`",
        ),
        other => (
            format!("the certificate of {node} can't be trusted: {other}"),
            "issue a new one for that host (`genesis-agent pki issue --server`)",
        ),
    }
}

const WRONG_NAME: &str =
    "name the node as its certificate does, or set `server_name` in the context";

/// `DnsName("web-1")` as `web-1`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, name)) => name.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    match presented {
        [] => "none".to_owned(),
        presented => presented.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

fn refused(node: &Node, alert: AlertDescription) -> (String, &'static str) {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired | A::NoCertificate => (
            format!("{node} wants a client certificate, and there is none to show"),
            "add `certificate` and `key` to the context: `genesis-agent pki issue --context FILE` makes \
             a ready one",
        ),
        A::CertificateExpired => (
            format!("{node} refuses the client certificate: it has expired or is not valid yet"),
            "have a new one issued, then `genesisctl context add NAME --from FILE --yes`; check the clocks \
             of both hosts",
        ),
        A::CertificateRevoked => (
            format!("{node} refuses the client certificate: it has been revoked"),
            "have a new one issued, then `genesisctl context add NAME --from FILE --yes`",
        ),
        A::UnknownCA | A::DecryptError => (
            format!(
                "{node} refuses the client certificate: it does not trust the CA that issued it"
            ),
            "use a certificate of the agent's `client_ca`; an agent with a `revocation_list`, but none of \
             this CA in it, refuses in the same way (`genesisctl pki list` on its host)",
        ),
        A::UnsupportedCertificate => (
            format!("{node} refuses the client certificate: it is not made for clients"),
            "have one issued with --role",
        ),
        other => (
            format!("{node} refuses the client certificate ({other:?})"),
            "look at the agent's log for why; have a new certificate issued",
        ),
    }
}
