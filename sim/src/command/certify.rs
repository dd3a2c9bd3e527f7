//! `certify`: the stored runs once more, and whether each still has the events that its certificate
//! names.

use std::path::Path;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use drydock_traces::corpus::certificates::{Certificates, Change};
use drydock_traces::corpus::changelog;
use drydock_traces::run_record::ExitClass;

use crate::certificates::{CHANGELOG, LIST, Stored, certify, stored};
use crate::cli::CertifyArgs;
use crate::command::{UsageError, interrupt_flag, print, write};
use crate::host::cores;
use crate::progress::bar;

/// Runs the command.
/// Errors: usage, files, a run that failed.
pub fn main(args: &CertifyArgs) -> anyhow::Result<ExitClass> {
    let root = Path::new("");
    let hint = "run this in the project's root";
    let list = read(LIST).context(hint)?;
    let page = read(CHANGELOG).context(hint)?;
    let list =
        Certificates::from_toml(&list).map_err(|error| UsageError(format!("{LIST}: {error}")))?;
    let asked = |name: &str| {
        let mut words = args.words.iter();
        args.words.is_empty() || words.any(|word| name.contains(word.as_str()))
    };
    let mut runs = stored(root)?;
    runs.retain(|run| asked(&run.name));
    if runs.is_empty() && list.only(asked).runs.is_empty() {
        let words = args.words.join(" ");
        return Err(UsageError(format!("no stored run has a name with {words} in it")).into());
    }
    let interrupt = interrupt_flag();
    let now = with_progress(&runs, args.jobs.unwrap_or_else(cores), &interrupt)?;
    if interrupt.load(Ordering::Relaxed) {
        return Ok(ExitClass::Interrupted);
    }
    let changes = list.only(asked).changes(&now);
    for change in &changes {
        print(&format!("{change}\n"))?;
    }
    if let (true, Some(commit), Some(why)) = (args.write, &args.commit, &args.why) {
        return rewrite(&list, &page, &changes, commit, why);
    }
    let untold = changelog::untold(&page, &list);
    for line in &untold {
        print(&format!("UNTOLD {line}\n"))?;
    }
    if changes.is_empty() && untold.is_empty() {
        print(&format!("all {} certificates stand\n", now.runs.len()))?;
        return Ok(ExitClass::Ok);
    }
    print(&format!(
        "{} of {} certificates changed, {} changes untold in {CHANGELOG}; if they are meant: cargo \
         sim certify --write --commit SUBJECT --why REASON\n",
        changes.len(),
        now.runs.len(),
        untold.len()
    ))?;
    Ok(ExitClass::OutsideReference)
}

/// Writes the list and its changelog.
fn rewrite(
    list: &Certificates,
    page: &str,
    changes: &[Change],
    commit: &str,
    why: &str,
) -> anyhow::Result<ExitClass> {
    if changes.is_empty() {
        print("nothing changed, nothing is written\n")?;
        return Ok(ExitClass::Ok);
    }
    write(Path::new(LIST), &list.with(changes).to_toml())?;
    let page = changelog::with_entry(page, commit, why, changes);
    write(Path::new(CHANGELOG), &page)?;
    print(&format!(
        "{} lines of {LIST} written, with an entry in {CHANGELOG}\n",
        changes.len()
    ))?;
    Ok(ExitClass::Ok)
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// Makes the runs with a progress bar on a terminal and nothing elsewhere.
fn with_progress(
    runs: &[Stored],
    jobs: u32,
    interrupt: &std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> anyhow::Result<Certificates> {
    let bar = bar(runs.len() as u64, "{pos}/{len} runs, {eta} left");
    let list = certify(runs, jobs, interrupt, |done| bar.set_position(done));
    bar.finish_and_clear();
    list.map_err(|(name, error)| anyhow::Error::new(error).context(name))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::certificates::StoredKind;
    use crate::cli::{Cli, Command};
    use drydock_traces::seed::Seed;

    #[test]
    fn the_command_line_of_each_stored_run_asks_for_that_run() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let runs = stored(root).unwrap();
        assert!(runs.len() > 60);
        for run in runs {
            let words = run.command.split_whitespace().skip(1);
            let said = match Cli::try_parse_from(words).unwrap().command {
                Command::Run(args) => StoredKind::Run(Box::new(args.scenario.spec())),
                Command::Hunt(args) => {
                    assert_eq!(args.seeds.count(), 1);
                    StoredKind::Storm(args.subject(), Seed(args.seeds.first))
                }
                Command::Replay(args) => StoredKind::Plan(args.plan),
                other => panic!("{}: {other:?}", run.command),
            };
            assert_eq!(said, run.kind, "{}", run.command);
        }
    }
}
