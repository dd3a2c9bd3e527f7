//! The commands, one file each: arguments in, work done by the library, words and files out.

pub mod ablate;
pub mod bench;
pub mod certify;
pub mod compare;
pub mod fit;
pub mod gap;
pub mod hunt;
pub mod params;
pub mod readme;
pub mod replay;
pub mod run;
pub mod sensitivity;
mod varied;
pub mod verify;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use drydock_traces::run_record::{ExitClass, RunRecord};
use indicatif::ProgressBar;

use crate::listeners::GAUGE_RUNNING;
use crate::progress::bar;
use crate::runner::{RunError, RunOptions};
use crate::scenario::{Scenario, ScenarioError};

/// What an error means to a script: a configuration error is the user's, any other is ours.
pub fn class_of(error: &anyhow::Error) -> ExitClass {
    let usage = error.is::<ScenarioError>()
        || error.is::<UsageError>()
        || matches!(error.downcast_ref(), Some(RunError::Scenario(_)))
        || error.is::<drydock_models::parameters::ParameterError>()
        || error
            .chain()
            .any(<dyn std::error::Error>::is::<std::io::Error>);
    if usage {
        ExitClass::Usage
    } else {
        ExitClass::Internal
    }
}

/// A wrong argument that only the command can see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Opens a file for writing before the work starts, so that a wrong path costs nothing.
/// Errors: the path and the system's words.
pub fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a text to a file, or to standard output for `-`.
/// Errors: the path and the system's words.
pub fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return print(text);
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Prints; a closed pipe is the reader's choice and no error.
/// Errors: any other failure of standard output.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// The flag of this process that Ctrl-C and SIGTERM set; the second one ends the process at once.
pub fn interrupt_flag() -> Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        let inner = flag.clone();
        let handler = move || {
            if inner.swap(true, Ordering::Relaxed) {
                std::process::exit(ExitClass::Interrupted.code().into());
            }
        };
        // Without a handler the default action ends the process, which is all that is lost.
        let _ = ctrlc::set_handler(handler);
        flag
    });
    flag.clone()
}

/// This program, to be run again in a process of its own.
/// Errors: the system does not tell where it is.
pub fn this_program() -> anyhow::Result<std::process::Command> {
    let path = std::env::current_exe().context("cannot find the path of this program")?;
    Ok(std::process::Command::new(path))
}

/// Runs with a progress bar, if wanted.
/// Errors: as for [`run`](crate::runner::run).
pub fn with_progress(
    scenario: Scenario,
    options: RunOptions,
    visible: bool,
) -> Result<RunRecord, RunError> {
    let bar = if visible {
        bar(
            scenario.workload.pod_count(),
            "{pos}/{len} Pods Running, {msg}",
        )
    } else {
        ProgressBar::hidden()
    };
    let result = crate::runner::run(scenario, options, |snapshot| {
        bar.set_position(snapshot.gauges[GAUGE_RUNNING]);
        let seconds = snapshot.at.as_nanos() / 1_000_000_000;
        bar.set_message(format!("{seconds} s simulated, {} events", snapshot.events));
    });
    bar.finish_and_clear();
    result
}
