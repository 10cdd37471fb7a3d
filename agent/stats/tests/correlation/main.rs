//! Correlation matrices against pandas, R, statsmodels, brute force, and themselves.

#![allow(clippy::unwrap_used)] // Tests.

mod blocks;
mod data;
mod definite;
mod estimates;
mod hardness;
mod validation;
mod windows;
