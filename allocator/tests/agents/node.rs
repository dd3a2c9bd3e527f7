//! One node: its directories, its agent's process, and the plugins that a runtime would execute.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::adapters::socket::ask;
use berth::core::exchange::{AddRequest, Attachment, PodReference, Verb};
use berth::core::objects::Uid;
use berth::core::plugin::PluginInput;
use berth::core::time::BootTime;
use serde_json::{Value, json};

use crate::rig::Pod;
use crate::runtime::FakeRuntime;

/// An agent that does not serve by then is broken, however busy the machine.
const START: Duration = Duration::from_secs(120);

/// Below the node's directory.
const RUNTIME_SOCKET: &str = "rt/s";

/// A node's directories and its runtime: all that outlives its agent.
#[derive(Clone)]
pub(crate) struct Hands {
    directory: PathBuf,
    runtime: Arc<Mutex<FakeRuntime>>,
}

/// One node.
pub(crate) struct Node {
    pub name: String,
    hands: Hands,
    kubeconfig: PathBuf,
    agent: Option<Child>,
    start_count: u32,
    network: &'static str,
}

/// What came of one execution of the plugin.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub code: i32,
    pub stdout: String,
    pub took: Duration,
}

impl Run {
    /// The addresses of a successful ADD.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let document: Value = serde_json::from_str(&self.stdout).unwrap();
        let ips = document["ips"].as_array().unwrap();
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The one address of an ADD that must have succeeded.
    pub(crate) fn address(&self) -> String {
        assert_eq!(self.code, 0, "{}", self.stdout);
        self.addresses().remove(0)
    }
}

impl Node {
    pub(crate) fn new(name: &str, directory: PathBuf, kubeconfig: &Path) -> Self {
        fs::create_dir_all(directory.join("ns")).unwrap();
        fs::write(directory.join("machine-id"), format!("machine-{name}\n")).unwrap();
        let runtime = FakeRuntime::started(&directory.join(RUNTIME_SOCKET));
        Self {
            name: name.to_owned(),
            hands: Hands {
                directory,
                runtime: Arc::new(Mutex::new(runtime)),
            },
            kubeconfig: kubeconfig.to_owned(),
            agent: None,
            start_count: 0,
            network: "net",
        }
    }

    /// What its runtime needs, to be used while the agent is killed.
    pub(crate) fn hands(&self) -> Hands {
        self.hands.clone()
    }

    fn log(&self) -> PathBuf {
        self.path(&format!("log-{}", self.start_count))
    }

    /// Its agent is told no default network from now on: it claims at ADD.
    pub(crate) fn claim_at_add(&mut self) {
        self.network = "";
    }

    /// Starts the agent; it may not serve yet.
    pub(crate) fn start(&mut self) {
        self.start_count += 1;
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_berthd"))
            .args(["agent", "--node-name", &self.name])
            .args(["--metrics-address", "127.0.0.1:0"])
            .args(["--default-network", self.network])
            .arg("--machine-id-file")
            .arg(self.path("machine-id"))
            .arg("--socket")
            .arg(self.path("run/s"))
            .arg("--state-directory")
            .arg(self.path("state"))
            .arg("--netns-directory")
            .arg(self.path("ns"))
            .arg("--runtime-socket")
            .arg(self.path(RUNTIME_SOCKET))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    /// Waits until the agent says that it is ready.
    pub(crate) fn await_ready(&self) {
        let limit = boot_time() + START;
        loop {
            if self
                .try_page("/readyz")
                .is_some_and(|(code, _)| code == 200)
            {
                return;
            }
            assert!(boot_time() < limit, "{}", self.log_text());
            pause();
        }
    }

    /// The log of the running agent.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Status and body of a page of the agent.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        self.try_page(path)
            .unwrap_or_else(|| panic!("{}", self.log_text()))
    }

    /// The same; nothing while no agent answers.
    pub(crate) fn try_page(&self, path: &str) -> Option<(u16, String)> {
        let log = self.log_text();
        let address = log.split("address=").nth(1)?.split_whitespace().next()?;
        let mut stream = TcpStream::connect(address).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let code = head.split(' ').nth(1)?.parse().ok()?;
        Some((code, body.to_owned()))
    }

    /// The agent's process.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().map(Child::id).unwrap()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// Units: KiB of the running agent that are resident.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let process = self.agent.as_ref()?.id();
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Starts a second agent beside the first; gives the first back.
    pub(crate) fn start_successor(&mut self) -> Child {
        let first = self.agent.take().unwrap();
        self.start();
        first
    }
}

impl Hands {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its runtime, to be ill-treated.
    pub(crate) fn runtime(&self) -> MutexGuard<'_, FakeRuntime> {
        self.runtime.lock().unwrap()
    }

    /// An ADD without a process around it; what it answered with.
    pub(crate) fn ask(&self, pod: &Pod, within: Duration) -> PluginInput {
        let add = AddRequest {
            attachment: Attachment {
                container: pod.name.clone(),
                interface: "eth0".into(),
            },
            netns: self.path("ns").join(&pod.name).display().to_string(),
            pod: PodReference {
                namespace: "default".into(),
                name: pod.name.clone(),
                uid: Some(Uid::new(&pod.uid)),
            },
            network: "net".into(),
            pools: Vec::new(),
            ips: Vec::new(),
        };
        let deadline = boot_time() + within;
        ask(&self.path("run/s"), &Verb::Add(add), deadline)
    }

    /// The Pod's sandbox begins: its container is named as the Pod.
    pub(crate) fn begin(&self, pod: &Pod) {
        self.runtime().begin(&pod.name, &pod.uid);
        fs::write(self.path("ns").join(&pod.name), b"").unwrap();
    }

    /// A sandbox ends.
    pub(crate) fn end(&self, container: &str) {
        fs::remove_file(self.path("ns").join(container)).unwrap();
        self.runtime().end(container);
    }

    /// One execution of the plugin, as a runtime would.
    pub(crate) fn plugin(&self, verb: &str, container: &str, pod: &Pod, within: Duration) -> Run {
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "macvlan",
            "ipam": {"type": "berth", "timeoutMilliseconds": within.as_millis() as u64},
        });
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_UID={}",
            pod.name, pod.uid
        );
        let begin = boot_time();
        let mut child = Command::new(env!("CARGO_BIN_EXE_berth"))
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", self.path("ns").join(container))
            .env("CNI_ARGS", args)
            .env("BERTH_SOCKET", self.path("run/s"))
            .env("BERTH_SPOOL", self.path("state/spool"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin may exit without reading.
        let _ = child
            .stdin
            .take()
            .unwrap()
            .write_all(config.to_string().as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            took: boot_time().since(begin),
        }
    }

    /// DEL, and then the end of the sandbox, as a runtime does it.
    pub(crate) fn tear_down(&self, container: &str, pod: &Pod) {
        let run = self.plugin("DEL", container, pod, Duration::from_secs(60));
        assert_eq!((run.code, run.stdout.as_str()), (0, ""), "DEL never fails");
        self.end(container);
    }
}

impl core::ops::Deref for Node {
    type Target = Hands;

    fn deref(&self) -> &Hands {
        &self.hands
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A moment for the other processes, while something outside is awaited.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are awaited, which no clock of ours moves"
)]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// So long, while other processes go on.
#[expect(clippy::disallowed_methods, reason = "see pause")]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until it is so, at most `within`.
pub(crate) fn await_that(
    within: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<(), String>,
) {
    let limit: BootTime = boot_time() + within;
    loop {
        match is_so() {
            Ok(()) => return,
            Err(why) => assert!(boot_time() < limit, "{what}: {why}"),
        }
        pause();
    }
}
