//! Single numbers that databases answer.

use std::time::Duration;

use super::postgres::{Limits, Session};
use super::{Engine, Failure, sqlite};

/// Waits for nobody, and takes no longer.
const LIMITS: Limits = Limits { lock: Duration::from_secs(1), statement: Duration::from_secs(5) };

/// The one number that a query answers, from 0 on. It can't write.
///
/// # Errors
/// Why there is none, in words.
pub async fn number(engine: &Engine, purpose: &str, sql: &str) -> Result<f64, String> {
    let said = match engine {
        Engine::Postgres(postgres) => text(postgres, purpose, sql).await,
        Engine::Sqlite(path) => sqlite::value(path, sql).await,
    };
    parse(&said.map_err(|failure| failure.to_string())?)
}

async fn text(target: &super::Postgres, purpose: &str, sql: &str) -> Result<String, Failure> {
    let mut session = Session::open(target, purpose, LIMITS).await?;
    session.run("SET default_transaction_read_only = on").await?;
    let said = session.text(sql).await;
    session.close().await;
    said
}

/// A number from 0 on.
///
/// # Errors
/// That it is none.
pub fn parse(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => {
            let shown: String = text.chars().take(80).collect();
            Err(format!("{shown:?} is no number from 0 on"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_clearly_a_number_is_none() {
        for (text, value) in [("0", 0.0), (" 12\n", 12.0), ("0.5", 0.5), ("1e3", 1_000.0)] {
            assert_eq!(parse(text), Ok(value));
        }
        for text in ["", "none", "-1", "NaN", "inf", "1 2", "0x1", "t"] {
            assert!(parse(text).unwrap_err().contains("no number"), "{text}");
        }
    }
}
