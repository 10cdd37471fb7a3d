//! Databases: weekly care that proves itself, and what is known of them in between.

pub mod config;

pub use config::Config;
