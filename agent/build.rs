//! How the program is linked, where the machine that builds is the one that runs.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if var("HOST") == var("TARGET") {
        pack_relocations();
        order_functions();
    }
}

/// Packs the program's relocations where the C library of this machine can read them (glibc 2.36): they are a
/// megabyte that would otherwise be read, and stay resident, at every start.
fn pack_relocations() {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = said.ok().and_then(|said| {
        let text = String::from_utf8(said.stdout).ok()?;
        let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    if version >= Some((2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Places side by side what an agent runs while it waits (`package/learn` has found it out), where the compiler's own
/// linker is used, which can do it. Otherwise the kernel, which maps 64 KiB around whatever is run, has half of the
/// program in memory.
fn order_functions() {
    const ORDER: &str = "package/order.gz";
    println!("cargo::rerun-if-changed={ORDER}");
    let flags = var("CARGO_ENCODED_RUSTFLAGS");
    let linker_of_compiler = var("RUSTC_LINKER").is_empty() && !flags.contains("link");
    if var("PROFILE") != "release"
        || var("TARGET") != "x86_64-unknown-linux-gnu"
        || !linker_of_compiler
    {
        return;
    }
    let unpacked = Command::new("gzip").args(["-dc", ORDER]).output();
    let order = Path::new(&var("OUT_DIR")).join("order.txt");
    match unpacked {
        Ok(said) if said.status.success() && std::fs::write(&order, &said.stdout).is_ok() => {
            println!("cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={}", order.display());
            println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
        }
        _ => println!(
            "cargo::warning={ORDER} can't be unpacked; the agent will need more memory than it should"
        ),
    }
}

/// What cargo says to a build script, empty where it says nothing.
fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
