//! Each rpc carries all its options.

#[test]
fn every_rpc_declares_all_its_options() {
    let policies = genesis_proto::method_policies();
    assert!(policies.len() > 20, "the descriptors are read");
    for (path, policy) in policies {
        assert!(policy.complete, "{path} lacks role, mutating or destructive");
    }
}

#[test]
fn every_rpc_that_changes_something_can_be_planned_and_held_to_its_plan() {
    let policies = genesis_proto::method_policies();
    let mut changing = 0;
    for service in genesis_proto::pool().services() {
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            if !policies.get(&path).is_some_and(|policy| policy.mutating) {
                continue;
            }
            changing += 1;
            assert!(
                method.input().get_field_by_name("plan_hash").is_some(),
                "the request of {path} lacks plan_hash"
            );
            let name = format!("Plan{}", method.name());
            let plan = service
                .methods()
                .find(|plan| plan.name() == name)
                .unwrap_or_else(|| panic!("{path} has no {name}"));
            assert_eq!(plan.input(), method.input(), "{name} takes another request than {path}");
            assert!(plan.output().get_field_by_name("plan").is_some(), "{name} answers no plan");
            let policy = policies[&format!("/{}/{name}", service.full_name())];
            assert!(
                !policy.mutating && policy.role == Some(genesis_proto::v1::Role::Viewer),
                "{name}"
            );
        }
    }
    assert!(changing >= 11, "{changing}");
}
