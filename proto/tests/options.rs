//! Each rpc carries all its options.

#[test]
fn every_rpc_declares_all_its_options() {
    let policies = genesis_proto::method_policies();
    assert!(policies.len() > 20, "the descriptors are read");
    for (path, policy) in policies {
        assert!(policy.complete, "{path} lacks role, mutating or destructive");
    }
}

/// Plans for which programs are run that ask others: whoever only looks does not start them.
const RUNS_TOOLS: [&str; 1] = ["PlanUpdateDependencies"];

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
            let role = match RUNS_TOOLS.contains(&name.as_str()) {
                true => policies[&path].role,
                false => Some(genesis_proto::v1::Role::Viewer),
            };
            assert!(!policy.mutating && policy.role == role, "{name}");
        }
    }
    assert!(changing >= 11, "{changing}");
}
