//! The trading system of the tour: the paper venue, with a position at each of two venues.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// What the agent's configuration says of it.
pub(super) fn configuration(root: &Path) -> String {
    format!(
        "[trading]\ncontrol = {{ grpc = \"{}\" }}\nvenues = [\"alpha\", \"beta\"]\n\n",
        target(root)
    )
}

fn target(root: &Path) -> String {
    format!("unix:{}", root.join("desk.sock").display())
}

/// Starts it, and returns when it can be reached.
pub(super) fn start(root: &Path) -> io::Result<Child> {
    let book = json!({ "venues": {
        "alpha": {
            "positions": { "BTC-PERP": "3" },
            "open_orders": [
                { "symbol": "BTC-PERP", "client_order_id": "grid-17", "quantity": "1" },
            ],
            "books": { "BTC-PERP": { "bids": [["101.5", "2"]], "asks": [] } },
        },
        "beta": { "positions": { "ETH-PERP": "-20" } },
    }});
    let first = root.join("desk-first.json");
    std::fs::write(&first, book.to_string())?;
    let mut desk = Command::new(std::env::current_exe()?)
        .args(["paper-venue", "--listen", &target(root)])
        .arg("--file")
        .arg(root.join("desk.json"))
        .arg("--book")
        .arg(first)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = String::new();
    match desk.stdout.take().map(BufReader::new) {
        Some(mut stdout) => stdout.read_line(&mut said)?,
        None => 0,
    };
    match said.trim_end() == target(root) {
        true => Ok(desk),
        false => {
            let _ = desk.kill();
            let _ = desk.wait();
            Err(io::Error::other("it does not listen"))
        }
    }
}
