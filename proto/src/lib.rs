//! The contract of GENESIS: messages, clients and servers generated from `genesis/**/*.proto`, the
//! descriptors behind them, and what each rpc demands of its caller.
//!
//! Nothing of ours is imported here. The generated code is committed, so that building needs no
//! protobuf compiler; `tests/regenerate.rs` fails when it differs from the `.proto` files.

pub use prost_reflect;

/// Messages, clients and servers of `genesis.v1`.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all)] // Generated code; its comments are the .proto files'.
    include!("gen/genesis.v1.rs");
}

/// Messages, client and server of `genesis.trading.v1`: what a trading system serves.
pub mod trading {
    #![allow(missing_docs, unreachable_pub, clippy::all)] // Generated code; its comments are the .proto file's.
    include!("gen/genesis.trading.v1.rs");
}

mod code;
mod descriptors;
mod json;
pub mod runbook;

pub use code::code_name;
pub use descriptors::{FILE_DESCRIPTOR_SET, MethodPolicy, method_policies, pool};
pub use json::{JsonError, from_json, to_json};
