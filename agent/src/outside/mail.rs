//! E-mail.

use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::notify::Sent;
use crate::alerts::channel::MailTls;
use crate::alerts::message::Message;
use crate::alerts::render;

/// A mail server.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// Its host, by whose name its certificate goes.
    pub host: &'a str,
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub tls: MailTls,
    /// User and password, where it asks for them.
    pub login: Option<(&'a str, &'a str)>,
}

/// Sends a message by mail to `one` of those that it is for.
pub async fn send(
    server: &Server<'_>,
    (from, to, one): (&str, &[String], &str),
    message: &Message,
    timeout: Duration,
) -> Sent {
    // To one at a time: a server that refuses one recipient must not keep the mail from the others.
    let envelope = || {
        let address = |text: &str| text.parse::<Address>().map_err(|error| error.to_string());
        Envelope::new(Some(address(from)?), vec![address(one)?]).map_err(|error| error.to_string())
    };
    let composed = compose(from, to, message).and_then(|mail| Ok((mail, envelope()?)));
    let (mail, envelope) = match composed {
        Ok(composed) => composed,
        Err(why) => return Sent::never(format!("it makes no mail: {why}")),
    };
    // The cryptography of the process, which somebody may have chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let parameters = || TlsParameters::new(server.host.to_owned());
    let tls = match server.tls {
        MailTls::None => Ok(Tls::None),
        MailTls::StartTls => parameters().map(Tls::Required),
        MailTls::Tls => parameters().map(Tls::Wrapper),
    };
    let tls = match tls {
        Ok(tls) => tls,
        Err(error) => return Sent::later(format!("no TLS to {}: {error}", server.host)),
    };
    let mut transport =
        AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server.address.to_string())
            .port(server.port)
            .timeout(Some(timeout))
            .tls(tls);
    if let Some((user, password)) = server.login {
        transport = transport.credentials(Credentials::new(user.to_owned(), password.to_owned()));
    }
    match transport.build().send_raw(&envelope, &mail.formatted()).await {
        Ok(said) => {
            let words: Vec<&str> = said.message().collect();
            let words = render::clean(&words.join(" "), 200);
            Sent::Accepted { detail: format!("{}: {words}", said.code()) }
        }
        Err(error) => {
            // What it says of the server's words; it never holds the password.
            let why = render::clean(&error.to_string(), 300);
            let code = error.status().map(|code| code.to_string());
            match code.as_deref() {
                // RFC 4954, section 6: it wants another login.
                Some("530" | "534" | "535" | "538") => {
                    Sent::mend(format!("{why}; mend its secret"))
                }
                _ if error.is_permanent() => Sent::never(why),
                _ => Sent::later(why),
            }
        }
    }
}

/// The mail; the same for the same message, whenever it is made.
fn compose(from: &str, to: &[String], message: &Message) -> Result<Mail, String> {
    let mailbox = |text: &str| {
        let address = text.parse().map_err(|error| format!("{text:?}: {error}"))?;
        Ok::<_, String>(Mailbox::new(Some("GENESIS".to_owned()), address))
    };
    let (subject, text) = render::mail(message);
    let host: String = message.sender.host_id.chars().filter(char::is_ascii_alphanumeric).collect();
    let mut mail = Mail::builder()
        .from(mailbox(from)?)
        .subject(subject)
        .message_id(Some(format!("<{}@{host}.genesis>", message.id)))
        .date(crate::runs::system_time(message.at))
        .header(ContentType::TEXT_PLAIN);
    for address in to {
        let address = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
        mail = mail.to(Mailbox::new(None, address));
    }
    // RFC 3834: no answering machine need answer.
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    mail.raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
        .body(text)
        .map_err(|error| error.to_string())
}
