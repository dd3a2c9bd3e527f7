//! What the plugin is built of.

use std::process::Command;

#[test]
fn the_plugin_has_no_async_runtime_no_http_and_no_kubernetes_client() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "berth",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args([
            "--no-default-features",
            "--features",
            "plugin",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(
        crates.contains(&"rustix") && crates.contains(&"serde_json"),
        "{tree}"
    );
    for banned in [
        "tokio",
        "mio",
        "async-std",
        "smol",
        "futures-executor",
        "hyper",
        "http",
        "h2",
        "tonic",
        "reqwest",
        "rustls",
        "kube",
        "kube-client",
        "k8s-openapi",
        "clap",
        "schemars",
    ] {
        assert!(!crates.contains(&banned), "{banned} in\n{tree}");
    }
}
