//! Numbers that others keep, such as how much waits in a queue: printed by a command, or among a service's metrics.

use std::time::Duration;

use serde_json::Value;

use super::samples::{Selector, sum};
use super::{Measured, Outcome, bare};
use crate::outside::hooks::{self, Hook};
use crate::outside::web::Web;

/// More than this of metrics is not read, in bytes.
const SCRAPE_LIMIT: usize = 4 << 20;

/// The number that a command prints as its last line that is not empty.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn command(command: &[String], timeout: Duration) -> Outcome {
    let hook = Hook { command: command.to_vec(), timeout };
    let output = hooks::run(&hook, &Value::Null, &[]).await.map_err(|error| error.chain())?;
    let program = command.first().map_or("", String::as_str);
    if output.stdout.len() >= hooks::OUTPUT_LIMIT {
        // What is kept of it is the beginning.
        return Err(format!("{program} prints too much for its last line to be seen"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    let last = last.ok_or_else(|| format!("{program} prints nothing"))?;
    match last.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => {
            Ok(Measured { value, detail: format!("{program} says {value}") })
        }
        _ => {
            let last: String = last.chars().take(80).collect();
            Err(format!("{program} says {last:?}, which is no number from 0 on"))
        }
    }
}

/// The sum of the samples of `metric` at `url`.
///
/// # Errors
/// Why there is none, in words; also when nobody answers, since a queue that can't be seen is not empty.
pub(super) async fn scrape(web: &Web, url: &str, metric: &str) -> Outcome {
    let selector = Selector::parse(metric)?;
    let shown = bare(url);
    let headers = [("accept", "text/plain;version=0.0.4,application/openmetrics-text;q=0.5")];
    let answer = web.get(url, &headers, SCRAPE_LIMIT).await;
    let answer = answer.map_err(|failure| format!("{shown} can't be read: {failure}"))?;
    if !(200..300).contains(&answer.status) {
        return Err(format!("{shown} answered {}", answer.status));
    }
    if answer.cut {
        return Err(format!("{shown} has more than {} MiB of metrics", SCRAPE_LIMIT >> 20));
    }
    let text = String::from_utf8_lossy(&answer.body);
    let (value, count) =
        sum(&text, &selector).map_err(|why| format!("{metric} at {shown}: {why}"))?;
    let of = if count == 1 { String::new() } else { format!(" in {count} samples") };
    Ok(Measured { value, detail: format!("{metric} is {value}{of}") })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use axum::http::StatusCode;
    use axum::routing::get;

    use super::*;

    #[tokio::test]
    async fn a_command_s_last_line_is_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("depth");
        let text = "#!/bin/sh\n# Checks whether it is called as it was told to be.\n\
                    printf '%b' \"$1\"\nexit \"${2:-0}\"\n";
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
        let run = |arguments: &[&str]| {
            let mut words = vec![script.display().to_string()];
            words.extend(arguments.iter().map(|&argument| argument.to_owned()));
            async move { command(&words, Duration::from_secs(60)).await }
        };
        for (printed, value) in
            [("12", 12.0), ("looking\\n 0.5 \\n\\n \\n", 0.5), ("1e3\\n", 1_000.0)]
        {
            assert_eq!(run(&[printed]).await.unwrap().value, value, "{printed}");
        }
        for (printed, why) in [
            ("", "prints nothing"),
            (" \\n", "prints nothing"),
            ("12 orders", "no number"),
            ("-1", "no number"),
            ("inf", "no number"),
            ("NaN", "no number"),
        ] {
            let said = run(&[printed]).await.unwrap_err();
            assert!(said.contains(why), "{printed}: {said}");
        }
        assert!(run(&["1", "3"]).await.unwrap_err().contains("exit status: 3"));
        let yes = ["sh", "-c", "head -c 100000 /dev/zero; echo; echo 1"].map(str::to_owned);
        let said = command(&yes, Duration::from_secs(60)).await.unwrap_err();
        assert!(said.contains("too much"), "{said}");
        let slow = ["sleep", "300"].map(str::to_owned);
        let said = command(&slow, Duration::from_millis(1)).await.unwrap_err();
        assert!(said.contains("was killed"), "{said}");
        assert!(command(&[], Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test]
    async fn a_metric_is_read_where_it_is_served() {
        let router = axum::Router::new()
            .route("/metrics", get(|| async { "depth{q=\"a\"} 3\ndepth{q=\"b\"} 4\nup 1\n" }))
            .route("/much", get(|| async { "x 1\n".repeat(SCRAPE_LIMIT / 4 + 1) }))
            .route("/bytes", get(|| async { b"\xff\xfe\nup 1\n".to_vec() }))
            .route("/gone", get(|| async { StatusCode::GONE }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let web = Web::default();
        let read =
            async |path: &str, metric: &str| scrape(&web, &format!("{base}/{path}"), metric).await;
        let depth = read("metrics?hush", "depth").await.unwrap();
        assert_eq!((depth.value, depth.detail.as_str()), (7.0, "depth is 7 in 2 samples"));
        assert_eq!(read("metrics", "depth{q=\"b\"}").await.unwrap().value, 4.0);
        assert_eq!(read("bytes", "up").await.unwrap().value, 1.0);
        for (path, metric, why) in [
            ("metrics?hush", "down", "no sample"),
            ("metrics", "de pth", "neither"),
            ("much", "x", "more than 4 MiB"),
            ("gone?hush", "up", "answered 410"),
        ] {
            let said = read(path, metric).await.unwrap_err();
            assert!(said.contains(why) && !said.contains("hush"), "{said}");
        }
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        assert!(read("metrics", "up").await.unwrap_err().contains("can't be read"));
    }
}
