//! The descriptors of the contract, and the rpc options read from them when they were generated.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use prost_reflect::DescriptorPool;

use crate::v1::Role;

/// The encoded `FileDescriptorSet` of `genesis.v1`, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");

const TRADING: &[u8] = include_bytes!("gen/trading.bin");

/// What one rpc demands, read from its options in the `.proto` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodPolicy {
    /// The least role that may call it. `None`: the option is missing, so nobody may.
    pub role: Option<Role>,
    /// Whether it changes anything. A missing option counts as mutating.
    pub mutating: bool,
    /// Whether its effect can't be had back. A missing option counts as destructive.
    pub destructive: bool,
    /// Whether it is served from the reserved lane. A missing option counts as no.
    pub urgent: bool,
    /// Whether it answers with a stream.
    pub streaming: bool,
    /// Whether it takes a stream.
    pub takes_stream: bool,
    /// Whether the first three options are written down, as a test demands.
    pub complete: bool,
}

/// The descriptor pool of `genesis.v1`, decoded at first use (well under a millisecond).
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(decode)
}

/// The pool of `genesis.trading.v1`, which others serve: no reflection of ours lists it.
pub(crate) fn trading_pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    // Part of this binary, as above.
    POOL.get_or_init(|| DescriptorPool::decode(TRADING).unwrap_or_default())
}

fn decode() -> DescriptorPool {
    // The bytes are part of this binary and `tests/regenerate.rs` decodes them, so this can't fail at run time; an
    // empty pool would deny every rpc rather than allow one.
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap_or_default()
}

// `METHOD_POLICIES`: each rpc's path with its policy, in order. Reading them out of the descriptors at every start would
// take three megabytes for a moment, which leaves holes between what stays.
include!("gen/policies.rs");

/// The policy of each rpc, by its path (`/genesis.v1.LogsService/GetStatus`).
pub fn method_policies() -> BTreeMap<String, MethodPolicy> {
    METHOD_POLICIES.iter().map(|(path, policy)| ((*path).to_owned(), *policy)).collect()
}
