//! The per-host agent of GENESIS. See docs/architecture.md for the map.

pub mod agent;
pub mod alerts;
pub mod batches;
pub mod bits;
pub mod cli;
pub mod config;
pub mod demo;
pub mod emergency;
pub mod error;
pub mod events;
pub mod fleet;
pub mod lock;
pub mod main_loop;
pub mod operations;
pub mod oplog;
pub mod outside;
pub mod own_log;
pub mod paper;
pub mod pki;
pub mod plan;
pub mod rooms;
pub mod runs;
pub mod scheduler;
pub mod server;
pub mod state;
pub mod trading;
