//! Consumers of a correlation matrix, each with an id of its own: `NODE CONSUMERS ROUNDS UNTIL`. In each round each hedges
//! one asset by another, as much as the matrix that it was given says, and reports what is left of the risk. Ends after
//! so many rounds, or once all of them use version UNTIL; 0: never. Says how many outcomes it reported with each version.
// Test code: a panic is how it reports, and its one line of output is its answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use genesis_client::matrices::Consumer;
use genesis_client::{Client, Node, Options};
use genesis_tests::clock::now;

/// How the returns of both really go together.
const TRUE: f64 = 0.72;
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection has room for so many consumers' streams.
const TOGETHER: usize = 30;

struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 12;
        (bits as f64 + 0.5) / (1_u64 << 52) as f64
    }

    fn normal(&mut self) -> f64 {
        let (one, other) = (self.uniform(), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos()
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [node, count, rounds, until] = arguments.as_slice() else {
        panic!("NODE CONSUMERS ROUNDS UNTIL")
    };
    let node: Node = node.parse().expect("NODE is one");
    let count: usize = count.parse().expect("CONSUMERS is a number");
    let rounds: usize = rounds.parse().expect("ROUNDS is a number");
    let until: u64 = until.parse().expect("UNTIL is a number");
    let mut consumers = Vec::new();
    for first in (0..count).step_by(TOGETHER) {
        let client = Client::connect(&node, Options::default()).await.expect("the agent is there");
        for at in first..count.min(first + TOGETHER) {
            let name = format!("hedger-{at}");
            consumers.push(Consumer::start(client.clone(), &name).expect("a name"));
        }
    }
    for consumer in &consumers {
        consumer.follower().ready(PATIENCE).await.expect("a matrix");
    }
    let (mut random, mut used) = (Random(0x9e37_79b9_7f4a_7c15), BTreeMap::<u64, u64>::new());
    for _ in 0..rounds {
        let mut through = until > 0;
        for consumer in &consumers {
            let matrix = consumer.current().expect("it stays");
            let (btc, noise) = (random.normal(), random.normal());
            let eth = TRUE * btc + (1.0 - TRUE * TRUE).sqrt() * noise;
            let hedge = matrix.between("BTC", "ETH").expect("both are there");
            let left = btc - hedge * eth;
            assert!(
                consumer.report(
                    &matrix,
                    SystemTime::try_from(now()).expect("after 1970"),
                    -left * left
                ),
                "there is room"
            );
            *used.entry(matrix.version()).or_default() += 1;
            through &= matrix.version() == until && !matrix.is_canary();
        }
        for consumer in &consumers {
            consumer.outcomes().flush(PATIENCE).await.expect("they are kept");
        }
        if through {
            break;
        }
    }
    let mut acknowledged = 0;
    for consumer in consumers {
        acknowledged += consumer.close(PATIENCE).await.acknowledged;
    }
    let each: Vec<String> = used.iter().map(|(version, n)| format!("\"{version}\":{n}")).collect();
    println!("{{\"used\":{{{}}},\"acknowledged\":{acknowledged}}}", each.join(","));
}
