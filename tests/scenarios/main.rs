//! What an operator notices, shown on the real agent through the real client. One binary, one file for each
//! behaviour.
// Helpers of tests are not in a `#[test]` function, which is all that clippy's allowance covers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod agent_basics;
mod alerts_channels;
mod alerts_faults;
mod alerts_kill;
mod alerts_mail;
mod alerts_secrets;
mod alerts_sources;
mod architecture;
mod breaker;
mod demo;
mod docs;
mod emergency;
mod health_attempts;
mod health_disk;
mod health_holds;
mod health_kill;
mod health_levels;
mod health_memory;
mod health_whole;
mod identities;
mod laptop;
mod limits;
mod logs_bad_input;
mod logs_concurrent;
mod logs_damage;
mod logs_durable;
mod logs_formats;
mod logs_held;
mod logs_hostile;
mod logs_kill;
mod logs_live;
mod logs_midnight;
mod logs_modes;
mod logs_rebuild;
mod logs_retention;
mod logs_s3;
mod logs_space;
mod oplog;
mod overload;
mod plans;
mod request_ids;
mod runs;
mod server;
