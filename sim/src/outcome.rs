//! How a command ends: the exit codes, each with one meaning, stable for scripts.

use std::process::ExitCode;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All well; also a run that ended with Pods waiting for lack of addresses.
    Well,
    /// Usage or configuration: nothing was run.
    Usage,
    /// An invariant was violated (safety or liveness; the record tells which).
    Violated,
    /// The same seed gave different bytes.
    NotDeterministic,
    /// Outside the tolerance of a reference, or a probe that never fired.
    OutOfTolerance,
    /// The testbed's own error.
    Internal,
    /// Interrupted; what was done is kept.
    Interrupted,
}

impl Outcome {
    /// The process' exit code.
    pub const fn code(self) -> u8 {
        match self {
            Outcome::Well => 0,
            Outcome::Usage => 1,
            Outcome::Violated => 2,
            Outcome::NotDeterministic => 3,
            Outcome::OutOfTolerance => 4,
            Outcome::Internal => 5,
            Outcome::Interrupted => 130,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn every_outcome_has_a_code_of_its_own() {
        let all = [
            Outcome::Well,
            Outcome::Usage,
            Outcome::Violated,
            Outcome::NotDeterministic,
            Outcome::OutOfTolerance,
            Outcome::Internal,
            Outcome::Interrupted,
        ];
        let codes: std::collections::BTreeSet<u8> = all.iter().map(|o| o.code()).collect();
        assert_eq!(codes.len(), all.len());
    }
}
