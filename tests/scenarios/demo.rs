//! The demo walks through every operation with the real client and ends well.

use std::process::Command;

use genesis_tests::binaries;

#[test]
fn the_tour_shows_each_noun_and_proves_that_nothing_is_lost() {
    let output = Command::new(binaries::agent())
        .arg("demo")
        .arg("--genesisctl")
        .arg(binaries::client())
        .output()
        .unwrap();
    let (shown, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{shown}");
    assert!(shown.contains("came back, once each, in order."), "{shown}");
    // Two thirds of the database's pages held nothing.
    for said in [
        "optimization can begin",
        "DROP INDEX \"orders_symbol_price\"",
        "database.optimize SUCCEEDED",
        "free-pages        PASS   0.0 %",
        "passes L2",
        "PROMOTED",
        "ROLLED_BACK",
        "CVE-2024-22195",
        "3.1.3",
        "FLAT: every venue was seen empty twice",
        "time to recover",
    ] {
        assert!(shown.contains(said), "{said} is not in the tour:\n{shown}");
    }
    let nouns = "status whoami logs db backup health alerts observe baseline param experiment trades deps breaker emergency schedule run oplog config rollback incident drill cert";
    for noun in nouns.split(' ') {
        let command = shown.lines().any(|line| {
            line.starts_with("$ genesisctl ") && line.split(' ').any(|word| word == noun)
        });
        assert!(command, "no command with {noun} in the tour:\n{shown}");
    }
    assert!(shown.contains("$ kill -9 "), "the tour kills the agent");
}

#[test]
fn without_a_client_it_says_how_to_build_one() {
    let output = Command::new(binaries::agent())
        .args(["demo", "--genesisctl", "/nonexistent/genesisctl"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cargo build --release --bin genesisctl"), "{said}");
}
