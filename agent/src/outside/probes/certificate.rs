//! When the certificate ends that somebody serves.

use std::time::Duration;

use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Measured, Outcome};
use crate::outside::Clock;
use crate::outside::dial::Resolver;
use crate::outside::handshake;

/// A handshake may take so long; a check's own time may be shorter.
const PATIENCE: Duration = Duration::from_secs(30);

/// Days until the certificate ends that is served at `address` to who asks for `server_name`.
///
/// # Errors
/// Why none can be seen, in words. Whether the service is there is another check's matter.
pub(super) async fn days_left(
    clock: &dyn Clock,
    resolver: &Resolver,
    address: &str,
    server_name: &str,
) -> Outcome {
    let leaf = handshake::shown(resolver, address, server_name, PATIENCE).await?;
    let (_, parsed) = X509Certificate::from_der(&leaf)
        .map_err(|error| format!("{address} serves what is no certificate: {error}"))?;
    let until = parsed.validity().not_after.timestamp();
    let value = (until - clock.now().as_second()) as f64 / 86_400.0;
    let until = jiff::Timestamp::from_second(until)
        .map_or_else(|_| "never".to_owned(), |at| at.to_string());
    Ok(Measured {
        value,
        detail: format!("{server_name} at {address}: its certificate ends at {until}"),
    })
}
