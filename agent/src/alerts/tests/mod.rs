//! Stories of alerts in simulated time.

mod host;
mod render;
mod stories;
mod table;
