//! A directory with a network, and executions of plugins in it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Where the plugin under test is.
pub(crate) const BERTH: &str = env!("CARGO_BIN_EXE_berth");
/// Where a distribution puts CNI plugins.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The exit code; none when it was killed.
    pub code: Option<i32>,
    pub stdout: String,
}

impl Run {
    pub(crate) fn document(&self) -> Value {
        if self.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The addresses, without prefix lengths.
    pub(crate) fn ips(&self) -> Vec<String> {
        assert_eq!(self.code, Some(0), "{self:?}");
        let document = self.document();
        let ips = document["ips"].as_array().unwrap();
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap())
            .map(|text| text.split('/').next().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn error_code(&self) -> Option<u64> {
        self.document()["code"].as_u64()
    }
}

/// A directory of a test.
pub(crate) struct Rig {
    directory: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let rig = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(rig.path("ns")).unwrap();
        std::fs::write(rig.path("ns/alive"), b"").unwrap();
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A configuration of the store with these ranges.
    pub(crate) fn config(&self, version: &str, ranges: &Value) -> Value {
        json!({
            "cniVersion": version, "name": "net", "type": "macvlan",
            "ipam": {"type": "berth", "ranges": ranges, "dataDir": self.text("data")},
        })
    }

    /// A command that executes a plugin.
    pub(crate) fn command(
        &self,
        program: impl AsRef<OsStr>,
        verb: &str,
        container: &str,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", self.path("ns/alive"))
            .env("CNI_PATH", PLUGINS)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(crate) fn berth(&self, verb: &str, container: &str, config: &Value) -> Run {
        execute(self.command(BERTH, verb, container), &config.to_string())
    }

    /// The names of files in the network's directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("data/net"));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }
}

/// Executes it with this on stdin.
pub(crate) fn execute(mut command: Command, stdin: &str) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A plugin may exit without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
    }
}
