//! The committed generated code is what the `.proto` files say. `UPDATE=1` rewrites it.

#![allow(clippy::unwrap_used)] // The helper of a test.

use std::fs;
use std::path::{Path, PathBuf};

use protox::Compiler;

const NAMES: [&str; 4] =
    ["genesis.v1.rs", "genesis.trading.v1.rs", "descriptors.bin", "trading.bin"];

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
    fs::write(into.join("descriptors.bin"), compiler.encode_file_descriptor_set()).unwrap();
    // For its JSON, which commands speak.
    let mut compiler = Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(false);
    compiler.open_file("genesis/trading/v1/trading_control.proto").unwrap();
    fs::write(into.join("trading.bin"), compiler.encode_file_descriptor_set()).unwrap();
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
