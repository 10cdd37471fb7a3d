//! The committed generated code is what the `.proto` files say. `UPDATE=1` rewrites it.

#![allow(clippy::unwrap_used)] // The helper of a test.

use std::fs;
use std::path::{Path, PathBuf};

use genesis_proto::MethodPolicy;
use genesis_proto::prost_reflect::{DescriptorPool, MethodDescriptor, Value};
use genesis_proto::v1::Role;
use protox::Compiler;

const NAMES: [&str; 5] =
    ["genesis.v1.rs", "genesis.trading.v1.rs", "descriptors.bin", "trading.bin", "policies.rs"];

fn generate(into: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("genesis/v1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "proto"))
        .collect();
    files.sort();
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).unwrap();
    let documented = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .out_dir(into)
        .build_transport(true)
        .compile_fds(documented)
        .unwrap();
    // What others serve: the agent's own reflection does not list it.
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("genesis/trading/v1/trading_control.proto").unwrap();
    tonic_prost_build::configure()
        .out_dir(into)
        .build_transport(true)
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
    // Comments make half of the descriptors' size and nothing reads them at run time.
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(&files).unwrap();
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(into.join("policies.rs"), policies(&descriptors)).unwrap();
    fs::write(into.join("descriptors.bin"), descriptors).unwrap();
    // For its JSON, which commands speak.
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    compiler.open_file("genesis/trading/v1/trading_control.proto").unwrap();
    fs::write(into.join("trading.bin"), compiler.encode_file_descriptor_set()).unwrap();
}

/// The policy of each rpc, in Rust, by its path.
fn policies(descriptors: &[u8]) -> String {
    let pool = DescriptorPool::decode(descriptors).unwrap();
    let mut rows: Vec<String> = pool
        .services()
        .filter(|service| service.full_name().starts_with("genesis."))
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let policy = format!("{:?}", policy(&pool, &method)).replace("Some(", "Some(Role::");
            format!("    ({path:?}, {policy}),\n")
        })
        .collect();
    rows.sort();
    format!("static METHOD_POLICIES: &[(&str, MethodPolicy)] = &[\n{}];\n", rows.concat())
}

fn policy(pool: &DescriptorPool, method: &MethodDescriptor) -> MethodPolicy {
    let options = method.options();
    let option = |name: &str| {
        let extension = pool.get_extension_by_name(name)?;
        options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
    };
    let flag = |name: &str| option(name).as_ref().and_then(Value::as_bool);
    let role = option("genesis.v1.role")
        .as_ref()
        .and_then(Value::as_enum_number)
        .and_then(|number| Role::try_from(number).ok())
        .filter(|role| *role != Role::Unspecified);
    let (mutating, destructive) = (flag("genesis.v1.mutating"), flag("genesis.v1.destructive"));
    MethodPolicy {
        role,
        mutating: mutating.unwrap_or(true),
        destructive: destructive.unwrap_or(true),
        urgent: flag("genesis.v1.urgent").unwrap_or(false),
        streaming: method.is_server_streaming(),
        takes_stream: method.is_client_streaming(),
        complete: role.is_some() && mutating.is_some() && destructive.is_some(),
    }
}

#[test]
fn committed_code_matches_the_contract() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    generate(fresh.path());
    for name in NAMES {
        let wanted = fs::read(fresh.path().join(name)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(committed.join(name), &wanted).unwrap();
        }
        let found = fs::read(committed.join(name)).unwrap_or_default();
        assert!(
            found == wanted,
            "{name} differs from the .proto files; run UPDATE=1 cargo test -p genesis-proto --test regenerate"
        );
    }
}
