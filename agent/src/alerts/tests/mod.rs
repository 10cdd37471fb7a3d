//! Stories of alerts in simulated time.

mod host;
mod odd;
mod render;
mod stories;
mod table;
