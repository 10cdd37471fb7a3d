//! The harness of the scenarios: the real agent on a temporary state folder, the real client in process,
//! and writers of numbered lines.
//!
//! Nothing here sleeps to let something happen: the agent says when it is ready, and everything else is
//! asked for until it is so or a generous limit has passed.
// This library is test code throughout; a panic is how it reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod acme;
mod agent;
pub mod alerts;
pub mod application;
pub mod backend;
pub mod backups;
pub mod binaries;
pub mod cargo_application;
pub mod cargo_registry;
pub mod certificates;
mod client;
pub mod clock;
pub mod crowd;
mod daemon;
pub mod debian;
mod disk;
pub mod etcd;
pub mod fuzz;
pub mod health;
pub mod http;
pub mod http_script;
pub mod index_server;
mod laptop;
pub mod lines;
pub mod mail_server;
pub mod netns;
pub mod older;
pub mod otlp;
pub mod package_index;
pub mod paper;
pub mod pgbouncer;
pub mod pki;
pub mod ports;
pub mod postgres;
pub mod private_ca;
pub mod prometheus;
pub mod promql;
pub mod psql;
pub mod random;
pub mod rpcs;
pub mod s3;
mod segment;
pub mod smtp;
pub mod storm;
pub mod tls_client;
pub mod tls_server;
pub mod toured;
pub mod trading;
pub mod updates;
pub mod wall_clock;
pub mod wheels;
mod writer;

pub use agent::{Ended, Signal, TestAgent, source};
pub use client::{Output, ctl, ctl_env};
pub use disk::{Ballast, LoopDisk};
pub use laptop::Laptop;
pub use segment::Segment;
pub use writer::{ChildWriter, Writer};
