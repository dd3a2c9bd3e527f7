//! The real `berthd agent` on a host whose things come and go, and without a cluster that answers:
//! what it says of its host does not wait for one.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth::adapters::clock::boot_time;

use crate::runtime::FakeRuntime;

const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
"users": [{"name": "u", "user": {}}],
"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;

/// A host, its runtime, and the agent's process.
pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    pub runtime: FakeRuntime,
    process: Option<Child>,
}

impl Daemon {
    /// A host with all that an agent needs, and no agent yet; `None` where this is not root.
    pub(crate) fn host() -> Option<Self> {
        if !crate::namespaces::has(&["unshare", "mount"]) {
            return None;
        }
        // Short: a socket's path has at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("b").tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["netns", "bin", "runtime"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("machine-id"), "machine-1\n").unwrap();
        fs::write(at("kubeconfig"), KUBECONFIG).unwrap();
        fs::write(at("plugin"), "a plugin").unwrap();
        let runtime = FakeRuntime::started(&at("runtime/cri.sock"));
        Some(Self {
            runtime,
            directory,
            process: None,
        })
    }

    /// The same, with its agent.
    pub(crate) fn started() -> Option<Self> {
        let mut daemon = Self::host()?;
        let at = |name: &str| daemon.path(name).display().to_string();
        let install = Command::new(env!("CARGO_BIN_EXE_berthd"))
            .args(["install", "--plugin", &at("plugin")])
            .args(["--plugin-directory", &at("bin")])
            .output()
            .unwrap();
        assert!(install.status.success(), "{install:?}");
        daemon.start("exec \"$@\"", &daemon.path("runtime/cri.sock"));
        daemon.await_ready(&[]);
        Some(daemon)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the agent in a mount namespace of its own, by a shell script that ends with it. It is
    /// not the first of this boot: the machine's name is known without a cluster.
    pub(crate) fn start(&mut self, script: &str, runtime_socket: &Path) {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs::create_dir_all(self.path("state")).unwrap();
        let name = format!("{} machine-1.n1\n", boot.trim());
        fs::write(self.path("state/machine-name"), name).unwrap();
        let log = File::create(self.path("log")).unwrap();
        let at = |name: &str| self.path(name);
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "slave",
                "sh",
                "-ec",
                script,
                "sh",
            ])
            .arg(env!("CARGO_BIN_EXE_berthd"))
            .args(["agent", "--node-name", "n1", "--look-pause-ms", "100"])
            .args(["--metrics-address", "127.0.0.1:0"])
            .arg("--machine-id-file")
            .arg(at("machine-id"))
            .arg("--socket")
            .arg(at("run/s"))
            .arg("--state-directory")
            .arg(at("state"))
            .arg("--netns-directory")
            .arg(at("netns"))
            .arg("--plugin-directory")
            .arg(at("bin"))
            .arg("--plugin")
            .arg(at("plugin"))
            .arg("--runtime-socket")
            .arg(runtime_socket)
            .current_dir(self.directory.path())
            .env("KUBECONFIG", at("kubeconfig"))
            .env("RUST_LOG", "info,kube=off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Status and body of a page; nothing while no agent answers.
    pub(crate) fn page(&self, path: &str) -> Option<(u16, String)> {
        let log = self.log();
        let address = log.split("address=").nth(1)?.split_whitespace().next()?;
        let mut stream = TcpStream::connect(address).ok()?;
        let patience = Some(Duration::from_secs(10));
        stream.set_read_timeout(patience).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    /// Waits until exactly these parts are lost, by the metrics.
    pub(crate) fn await_ready(&self, lost: &[&str]) {
        let limit = boot_time() + Duration::from_mins(1);
        loop {
            let page = self
                .page("/metrics")
                .map_or_else(String::new, |page| page.1);
            let parts: Vec<_> = page
                .lines()
                .filter_map(|line| line.strip_prefix("berth_part_up{part=\"")?.split_once('"'))
                .collect();
            let down: Vec<_> = parts.iter().filter(|(_, rest)| *rest == "} 0").collect();
            let names: Vec<_> = down.iter().map(|(name, _)| *name).collect();
            // All six that are looked at: the machine's ID is doubted only.
            if parts.len() == 6 && names == lost {
                return;
            }
            assert!(boot_time() < limit, "{parts:?}\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// How often the log says that the part was lost, and that it is back.
    pub(crate) fn said(&self, part: &str) -> (usize, usize) {
        let log = self.log();
        let count = |start: String| log.lines().filter(|line| line.contains(&start)).count();
        (
            count(format!(" {part}: ")),
            count(format!(" {part} is back")),
        )
    }

    /// What `/readyz` says about the part, in the line that names it.
    pub(crate) fn readyz(&self, part: &str) -> String {
        let (_, body) = self.page("/readyz").unwrap();
        let line = body.lines().find(|line| {
            let line = line.strip_prefix("degraded: ").unwrap_or(line);
            line.starts_with(&format!("{part}: "))
        });
        line.unwrap_or_default().to_owned()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
