//! The operation log as people read it. Storage appends to it with every audited write; nobody else can.

pub mod rpc;
