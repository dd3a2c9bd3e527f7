//! The command `drydock`: reads the command line once, dispatches, exits once.
#![cfg_attr(not(madsim), allow(unused))]

use std::process::ExitCode;

use clap::Parser;
use drydock::cli::{Cli, Command};
use drydock::command;
use drydock_traces::run_record::ExitClass;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors; everything else is usage.
            let class = if error.use_stderr() {
                ExitClass::Usage
            } else {
                ExitClass::Ok
            };
            let _ = error.print();
            return ExitCode::from(class.code());
        }
    };
    let result = std::panic::catch_unwind(|| {
        if let Err(error) = drydock_engine::self_test::self_test(&[]) {
            eprintln!("error: {error}");
            return ExitClass::Internal;
        }
        let done = match &cli.command {
            Command::Run(args) => command::run::main(args),
            Command::Verify(args) => command::verify::main(args),
            Command::Hunt(args) => command::hunt::main(args),
            Command::Replay(args) => command::replay::main(args),
            Command::Params(args) => command::params::main(args),
            Command::Bench(args) => command::bench::main(args),
            Command::Compare(args) => command::compare::main(args),
            Command::Fit(args) => command::fit::main(args),
            Command::Ablate(args) => command::ablate::main(args),
            Command::Sensitivity(args) => command::sensitivity::main(args),
            Command::Gap(args) => command::gap::main(args),
            Command::Certify(args) => command::certify::main(args),
            Command::Readme(args) => command::readme::main(args),
        };
        done.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            command::class_of(&error)
        })
    });
    // A panic is the testbed's own error, whatever it was doing.
    ExitCode::from(result.unwrap_or(ExitClass::Internal).code())
}
