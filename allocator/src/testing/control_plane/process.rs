//! A server process of a test: it ends with the test, however that ends. No restarts, no policy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::{Instant, sleep};

/// How often a process or its health is looked at.
pub(super) const POLL: Duration = Duration::from_millis(20);

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns on a thread that lives as long as this process: the kernel sends the death signal when
/// the *thread* that spawned ends, and a test's thread ends with the test.
fn spawn(command: Command) -> io::Result<Child> {
    static KEEPER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("keeper of servers".to_owned())
            .spawn(move || {
                for (mut command, answer) in queue {
                    // The asker may be gone: then the child is reaped by nobody, and dies with us.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be made");
        jobs
    });
    let (answer, child) = mpsc::channel();
    keeper
        .send((command, answer))
        .expect("the keeper never ends");
    child.recv().expect("the keeper answers every job")
}

/// A program, how it is started, and its process while it runs. Its output goes to a log file.
/// Dropped, it is killed with all its descendants that stayed in its process group.
#[derive(Debug)]
pub struct Server {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A server that is not started yet; `log` is appended to.
    pub fn new(program: &Path, arguments: Vec<String>, log: PathBuf) -> Self {
        let name = program.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            log,
            child: None,
        }
    }

    /// Sets a variable of its environment, from the next start on.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it. Nothing happens when it runs.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        // `setpriv` (util-linux) asks for a signal when we die and becomes the program.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = spawn(command).with_context(|| format!("starting {} by setpriv", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process ID, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process exists.
    pub fn is_running(&mut self) -> bool {
        self.exited().is_none() && self.child.is_some()
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten();
        if status.is_some() {
            self.child = None;
        }
        status
    }

    /// Errors: it does not run; the error holds the end of its log.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        bail!("{} ended:\n{}", self.name, self.log_tail());
    }

    /// Sends a signal to the server alone (`STOP` and `CONT` pause and resume it).
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal)?;
        }
        Ok(())
    }

    /// SIGTERM, and SIGKILL when it has not ended after `within`.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let limit = Instant::now() + within;
        while self.is_running() && Instant::now() < limit {
            sleep(POLL).await;
        }
        self.kill();
        Ok(())
    }

    /// SIGKILL to it and its process group; returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself: the process is ours until `wait`, so no other is hit.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            let _ = child.wait();
        }
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
