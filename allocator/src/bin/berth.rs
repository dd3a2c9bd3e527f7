//! The CNI plugin: reads environment and stdin once, asks the node's agent or this node's own
//! store, prints once, exits once. It holds no credentials, opens no network connection and knows
//! no Kubernetes.
//!
//! Where agent and spool are is not in the network configuration, which a tenant may write; the
//! variables `BERTH_SOCKET` and `BERTH_SPOOL` of the runtime's own environment move them, and
//! `BERTH_DISK_NETWORKS` the list of networks that the store on disk serves.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use berth::adapters::clock::boot_time;
use berth::adapters::disk::{self, NodeFiles};
use berth::adapters::socket::{self, SOCKET_PATH};
use berth::adapters::spool::{SPOOL_PATH, SpoolDirectory};
use berth::cni::config::STDIN_BYTES_MAX;
use berth::cni::disk::{DiskAsk, DiskVerb};
use berth::cni::result::Answer;
use berth::cni::version::{SpecVersion, version_document};
use berth::cni::{Ask, Call, Environment, Printed, parse};
use berth::core::exchange::{Allocation, DelRequest, Failure, Verb};
use berth::core::plugin::{PluginCall, PluginInput, PluginOutput, PluginVerb};

fn main() -> ExitCode {
    let environment = Environment::read(|name| std::env::var_os(name));
    let printed = match parse(&environment, &read_stdin(&environment)) {
        Ok(Call::About) => return about(),
        Ok(Call::Version) => Printed {
            stdout: Some(version_document()),
            exit_code: 0,
        },
        Ok(Call::Ask(ask)) => {
            let outcome = run(&ask).map(|allocation| allocation.map(Answer::from));
            Printed::outcome(ask.version, outcome.map_err(Into::into))
        }
        Ok(Call::Disk(ask)) => Printed::outcome(ask.version, run_disk(&ask).map_err(Into::into)),
        Err(refused) => Printed::error(&refused.error, refused.version),
    };
    print(&printed)
}

/// At most one byte more than allowed: enough to tell that it is too much.
fn read_stdin(environment: &Environment) -> Vec<u8> {
    let mut bytes = Vec::new();
    if environment.command.is_some() {
        // What cannot be read whole is no configuration, and is refused as such.
        let _ = io::stdin()
            .take(STDIN_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes);
    }
    bytes
}

fn run_disk(ask: &DiskAsk) -> Result<Option<Answer>, Failure> {
    let verb = match &ask.verb {
        DiskVerb::Add(_) => PluginVerb::Add,
        // No spool behind it: it waits for the lock as long as the runtime may wait for it.
        DiskVerb::Del(_) | DiskVerb::Check(_) | DiskVerb::Gc(_) => PluginVerb::Check,
        DiskVerb::Status(_) => PluginVerb::Status,
    };
    let deadline = boot_time() + ask.timeout.unwrap_or(verb.budget());
    let node = NodeFiles::of(|name| std::env::var_os(name), std::env::current_exe());
    disk::serve(ask, &node.rule(), &disk::boot_id()?, deadline)
}

fn run(ask: &Ask) -> Result<Option<Allocation>, Failure> {
    let path = |variable: &str, default: &str| {
        PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| OsString::from(default)))
    };
    let socket = path("BERTH_SOCKET", SOCKET_PATH);
    let (verb, del): (_, Option<&DelRequest>) = match &ask.verb {
        Verb::Add(_) => (PluginVerb::Add, None),
        Verb::Del(del) => (PluginVerb::Del, Some(del)),
        Verb::Check(_) => (PluginVerb::Check, None),
        Verb::Gc(_) => (PluginVerb::Gc, None),
        Verb::Status => (PluginVerb::Status, None),
    };
    let call = PluginCall::within(verb, ask.timeout.unwrap_or(verb.budget()), boot_time());
    let mut input = PluginInput::Go;
    loop {
        input = match call.handle(boot_time(), input) {
            PluginOutput::Connect => socket::ask(&socket, &ask.verb, call.deadline()),
            PluginOutput::Pause(pause) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a process of its own, which really waits"
                )]
                std::thread::sleep(pause);
                PluginInput::Go
            }
            PluginOutput::Spool => {
                let spool = SpoolDirectory::new(path("BERTH_SPOOL", SPOOL_PATH));
                match del.map(|del| spool.leave(del)) {
                    Some(Ok(())) => PluginInput::Spooled,
                    Some(Err(error)) => PluginInput::SpoolFailed(error.message),
                    None => PluginInput::SpoolFailed("only a DEL is spooled".into()),
                }
            }
            PluginOutput::Exit(outcome) => return outcome,
        };
    }
}

fn print(printed: &Printed) -> ExitCode {
    if let Some(document) = &printed.stdout {
        let mut stdout = io::stdout().lock();
        if stdout
            .write_all(document.as_bytes())
            .and_then(|()| stdout.flush())
            .is_err()
        {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::from(printed.exit_code)
}

fn about() -> ExitCode {
    let versions: Vec<&str> = SpecVersion::ALL.map(SpecVersion::as_str).to_vec();
    eprintln!(
        "berth {}: CNI IPAM plugin. A container runtime or a main plugin calls it with CNI_COMMAND \
         set and a network configuration on stdin.\nCNI versions: {}",
        env!("CARGO_PKG_VERSION"),
        versions.join(", ")
    );
    ExitCode::SUCCESS
}
