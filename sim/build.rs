//! Stamps the binary with what makes a run repeatable: commit, compiler, hash of the lock file.
//! They go into the record of a run, never into its hash.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a build script reads cargo's environment and speaks to cargo"
)]

use std::path::Path;
use std::process::Command;

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn main() {
    let commit = output("git", &["rev-parse", "HEAD"]).map_or("unknown".to_owned(), |commit| {
        let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
        if changed.is_none_or(|changed| changed.is_empty()) {
            commit
        } else {
            commit + "-dirty"
        }
    });
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let toolchain = output(&compiler, &["--version"]).unwrap_or_else(|| "unknown".to_owned());
    let lock = std::fs::read("../Cargo.lock").unwrap_or_default();
    // FNV-1a, 128 bits: names a lock file, protects nothing.
    let hash = lock.iter().fold(
        0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128,
        |hash, byte| {
            (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        },
    );
    println!("cargo::rustc-env=DRYDOCK_COMMIT={commit}");
    println!("cargo::rustc-env=DRYDOCK_TOOLCHAIN={toolchain}");
    println!("cargo::rustc-env=DRYDOCK_LOCK_HASH={hash:032x}");
    for path in ["../.git/HEAD", "../.git/index", "../Cargo.lock"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rustc-check-cfg=cfg(madsim)");
}
