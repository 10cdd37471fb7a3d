//! Each rpc carries all its options.

#[test]
fn every_rpc_declares_all_its_options() {
    let policies = genesis_proto::method_policies();
    assert!(policies.len() > 20, "the descriptors are read");
    for (path, policy) in policies {
        assert!(policy.complete, "{path} lacks role, mutating or destructive");
    }
}
