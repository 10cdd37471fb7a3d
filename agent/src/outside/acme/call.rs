//! Calls to CAs, each repeated at once while its nonce is not taken.

/// A nonce that is not taken is replaced so often; each time instant-acme has tried thrice.
pub(super) const NONCES: usize = 5;

/// Whether the nonce was not taken, which says nothing of what was asked.
pub(super) fn bad_nonce(error: &instant_acme::Error) -> bool {
    match error {
        instant_acme::Error::Api(problem) => super::trouble::kind_of(problem) == "badNonce",
        _ => false,
    }
}

/// Evaluates a call of instant-acme, again while the nonce is not taken: what it returns and what was heard with it, or
/// the trouble, as `$means` sees it with the status. A macro, since the calls borrow what they are called on.
macro_rules! asked {
    ($attempted:expr, $call:expr) => {
        $crate::outside::acme::call::asked!($attempted, $call, |trouble, _| trouble)
    };
    ($attempted:expr, $call:expr, $means:expr) => {{
        let mut again = $crate::outside::acme::call::NONCES;
        loop {
            let (returned, heard) =
                $crate::outside::acme::client::hearing(async { $call.await }).await;
            match returned {
                Ok(value) => break Ok((value, heard)),
                Err(error) if again > 0 && $crate::outside::acme::call::bad_nonce(&error) => {
                    again -= 1;
                }
                Err(error) => {
                    let trouble = $crate::outside::acme::trouble::trouble;
                    break Err($means(trouble($attempted, &error, &heard), heard.status));
                }
            }
        }
    }};
}
pub(super) use asked;
