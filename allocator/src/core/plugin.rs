//! The plugin's side of a request, as a state machine: when to connect, when to try again, when to
//! leave a DEL in the spool, what to answer. It opens no socket and reads no clock.
//!
//! A DEL never needs the agent: where the socket does not answer, its intent goes to the spool and
//! the runtime gets its success. An ADD keeps trying until its deadline, because a refused ADD
//! costs the Pod ten seconds and more in the kubelet; the agent answers a repeated ADD as the
//! first.

use core::time::Duration;

use super::exchange::{Allocation, Failure, Response};
use super::time::BootTime;

/// How long an ADD may take in all. Below the runtime's own limit (four minutes), so that the
/// runtime hears a reason instead of killing the plugin.
pub const ADD_BUDGET: Duration = Duration::from_secs(90);
/// How long a DEL waits for the agent before it is spooled.
pub const DEL_BUDGET: Duration = Duration::from_secs(2);
/// How long CHECK and GC may take.
pub const CHECK_BUDGET: Duration = Duration::from_secs(10);
/// How long STATUS may take: the kubelet's runtime asks every few seconds.
pub const STATUS_BUDGET: Duration = Duration::from_secs(1);
/// Pause between two attempts to reach the agent.
pub const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Which verb is being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PluginVerb {
    /// ADD.
    Add,
    /// DEL.
    Del,
    /// CHECK.
    Check,
    /// GC.
    Gc,
    /// STATUS.
    Status,
}

impl PluginVerb {
    /// How long it may take in all.
    pub const fn budget(self) -> Duration {
        match self {
            Self::Add => ADD_BUDGET,
            Self::Del => DEL_BUDGET,
            Self::Check | Self::Gc => CHECK_BUDGET,
            Self::Status => STATUS_BUDGET,
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginInput {
    /// The process started, or a pause is over.
    Go,
    /// Nobody listens, or the connection broke before an answer.
    Refused,
    /// The agent answered.
    Answered(Response),
    /// The deadline of [`PluginCall::deadline`] passed without an answer.
    TimedOut,
    /// The DEL is in the spool.
    Spooled,
    /// The spool could not be written; the operating system's error.
    SpoolFailed(String),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginOutput {
    /// Connect and send the request with its deadline.
    Connect,
    /// Come back with [`PluginInput::Go`] after a pause.
    Pause(Duration),
    /// Write the DEL into the spool.
    Spool,
    /// Print the result and exit; a DEL has no allocation.
    Exit(Result<Option<Allocation>, Failure>),
}

/// One execution of the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginCall {
    verb: PluginVerb,
    deadline: BootTime,
}

impl PluginCall {
    /// A call that starts now.
    pub fn new(verb: PluginVerb, now: BootTime) -> Self {
        Self::within(verb, verb.budget(), now)
    }

    /// A call that starts now and may take `budget`.
    pub fn within(verb: PluginVerb, budget: Duration, now: BootTime) -> Self {
        Self {
            verb,
            deadline: now + budget,
        }
    }

    /// When it gives up; sent to the agent with the request.
    pub fn deadline(&self) -> BootTime {
        self.deadline
    }

    /// What to do next.
    pub fn handle(&self, now: BootTime, input: PluginInput) -> PluginOutput {
        match (self.verb, input) {
            (_, PluginInput::Go) => PluginOutput::Connect,
            (PluginVerb::Add, PluginInput::Refused) if now + RETRY_PAUSE < self.deadline => {
                PluginOutput::Pause(RETRY_PAUSE)
            }
            (PluginVerb::Add, PluginInput::Refused | PluginInput::TimedOut) => {
                let message = "the node agent did not answer in time";
                PluginOutput::Exit(Err(Failure::new(Failure::TRY_AGAIN, message)))
            }
            (PluginVerb::Add, PluginInput::Answered(Response::Added(allocation))) => {
                PluginOutput::Exit(Ok(Some(allocation)))
            }
            // An agent that cannot take it now (its journal cannot be opened) reads it in the
            // spool.
            (PluginVerb::Del, PluginInput::Answered(Response::Failed(_))) => PluginOutput::Spool,
            (_, PluginInput::Answered(Response::Failed(failure))) => {
                PluginOutput::Exit(Err(failure))
            }
            (PluginVerb::Add, PluginInput::Answered(Response::Done)) => {
                let message = "the node agent answered an ADD without an address";
                PluginOutput::Exit(Err(Failure::new(Failure::IO, message)))
            }
            (PluginVerb::Del, PluginInput::Refused | PluginInput::TimedOut) => PluginOutput::Spool,
            (PluginVerb::Del, PluginInput::Answered(_)) | (_, PluginInput::Spooled) => {
                PluginOutput::Exit(Ok(None))
            }
            (PluginVerb::Status, PluginInput::Refused | PluginInput::TimedOut) => {
                let message = "the node agent does not answer";
                PluginOutput::Exit(Err(Failure::new(Failure::NOT_AVAILABLE, message)))
            }
            (PluginVerb::Check | PluginVerb::Gc, PluginInput::Refused | PluginInput::TimedOut) => {
                let message = "the node agent did not answer";
                PluginOutput::Exit(Err(Failure::new(Failure::TRY_AGAIN, message)))
            }
            (PluginVerb::Check | PluginVerb::Gc | PluginVerb::Status, PluginInput::Answered(_)) => {
                PluginOutput::Exit(Ok(None))
            }
            (_, PluginInput::SpoolFailed(reason)) => {
                let message = format!("neither the node agent nor the spool took it: {reason}");
                PluginOutput::Exit(Err(Failure::new(Failure::IO, message)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime::from_nanos(1_000_000_000);

    #[test]
    fn a_del_without_an_agent_that_takes_it_succeeds_through_the_spool() {
        let del = PluginCall::new(PluginVerb::Del, START);
        assert_eq!(del.handle(START, PluginInput::Go), PluginOutput::Connect);
        let failure = Failure::new(Failure::IO, "the journal cannot be opened");
        for silence in [
            PluginInput::Refused,
            PluginInput::TimedOut,
            PluginInput::Answered(Response::Failed(failure)),
        ] {
            assert_eq!(del.handle(START, silence), PluginOutput::Spool);
        }
        let exit = del.handle(START, PluginInput::Spooled);
        assert_eq!(exit, PluginOutput::Exit(Ok(None)));
    }

    #[test]
    fn an_add_tries_until_its_deadline_and_then_asks_to_be_called_again() {
        let add = PluginCall::new(PluginVerb::Add, START);
        let mut now = START;
        let mut tries = 0;
        let failure = loop {
            match add.handle(now, PluginInput::Refused) {
                PluginOutput::Pause(pause) => now = now + pause,
                PluginOutput::Exit(Err(failure)) => break failure,
                other => panic!("{other:?}"),
            }
            tries += 1;
        };
        assert_eq!(failure.code, Failure::TRY_AGAIN);
        assert!(
            now <= add.deadline() && tries > 300,
            "{tries} tries until {now}"
        );
    }

    #[test]
    fn what_has_nothing_to_spool_fails_at_once_without_an_agent() {
        for (verb, code) in [
            (PluginVerb::Check, Failure::TRY_AGAIN),
            (PluginVerb::Gc, Failure::TRY_AGAIN),
            (PluginVerb::Status, Failure::NOT_AVAILABLE),
        ] {
            let call = PluginCall::new(verb, START);
            for silence in [PluginInput::Refused, PluginInput::TimedOut] {
                let PluginOutput::Exit(Err(failure)) = call.handle(START, silence) else {
                    panic!("{verb:?} goes on")
                };
                assert_eq!(failure.code, code);
            }
            let done = call.handle(START, PluginInput::Answered(Response::Done));
            assert_eq!(done, PluginOutput::Exit(Ok(None)));
        }
    }

    #[test]
    fn no_failure_of_a_del_reads_like_something_already_gone() {
        let del = PluginCall::new(PluginVerb::Del, START);
        let exit = del.handle(START, PluginInput::SpoolFailed("disk full".into()));
        let PluginOutput::Exit(Err(failure)) = exit else {
            panic!("{exit:?}")
        };
        for word in ["not found", "no such file or directory"] {
            assert!(!failure.message.contains(word), "{}", failure.message);
        }
    }
}
