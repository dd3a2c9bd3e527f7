//! When a process counts as ready. Alive is another question: a process that answers at all is.

use core::time::Duration;

use crate::core::agent::{AgentState, HostPart};
use crate::core::controller::ControllerState;
use crate::core::time::BootTime;

/// The incarnation is read every minute where nothing waits, and a failed read is tried again
/// within seconds: two minutes without one mean that the apiserver does not take what is sent.
const EPOCH_AGE_MAX: Duration = Duration::from_mins(2);
/// The Lease is read or renewed every five seconds, and retried within seconds.
const LEASE_AGE_MAX: Duration = Duration::from_secs(30);
/// A step is one request, which ends within a minute, and a failed one is tried again after half a
/// minute at the latest. One waiting object is not a standstill: `berth_writes_refused` counts it.
const PROGRESS_AGE_MAX: Duration = Duration::from_mins(2);

/// What keeps an agent from being ready; nothing when it is. `journal` is the result of a trial
/// write beside the journal.
pub fn agent_complaints(
    state: &AgentState,
    journal: Result<(), String>,
    now: BootTime,
) -> Vec<String> {
    let mut complaints = Vec::new();
    if !state.is_serving {
        complaints.push("not serving yet: the journal, the API or blocks are being read".into());
    }
    complaints.extend(state.waits_for.iter().cloned());
    if !state.is_journal_ok {
        complaints.push("the journal is not open or did not take the last entry".into());
    }
    if let Err(error) = journal {
        complaints.push(format!("the state directory cannot be written: {error}"));
    }
    for (part, text) in lost_parts(state) {
        // Of the journal the lines above say more.
        let is_said = part == HostPart::Journal && !complaints.is_empty();
        if part.is_vital() && !is_said {
            complaints.push(text);
        }
    }
    let age = now.since(state.epoch_shown_at);
    if state.is_serving && age > EPOCH_AGE_MAX {
        let seconds = age.as_secs();
        complaints.push(format!(
            "the apiserver last showed this incarnation live {seconds} s ago"
        ));
    }
    complaints
}

/// What an agent that is ready does without for now.
pub fn agent_notes(state: &AgentState) -> Vec<String> {
    let lost = lost_parts(state).filter(|(part, _)| !part.is_vital());
    lost.map(|(_, text)| format!("degraded: {text}")).collect()
}

fn lost_parts(state: &AgentState) -> impl Iterator<Item = (HostPart, String)> {
    state.parts.iter().filter_map(|state| {
        let (part, why) = (state.part, state.lost.as_ref()?);
        let text = format!("{}: {why}: {}", part.name(), part.consequence());
        Some((part, text))
    })
}

/// What keeps a controller from being ready. One that does not lead is ready to.
pub fn controller_complaints(state: &ControllerState, now: BootTime) -> Vec<String> {
    let mut complaints = Vec::new();
    if !state.is_listed {
        complaints.push("not every kind is listed yet".into());
    }
    let stalled = now.since(state.progress_at);
    let is_stalled = state.leads && stalled > PROGRESS_AGE_MAX;
    if is_stalled {
        let seconds = stalled.as_secs();
        complaints.push(format!("work is due and no step succeeded for {seconds} s"));
    }
    if is_stalled || !state.is_listed || !state.leads {
        complaints.extend(state.waits_for.iter().cloned());
    }
    let age = now.since(state.lease_answered_at);
    if age > LEASE_AGE_MAX {
        let seconds = age.as_secs();
        complaints.push(format!(
            "the apiserver last answered about the Lease {seconds} s ago"
        ));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::PartState;

    fn at(seconds: u64) -> BootTime {
        BootTime::new(Duration::from_secs(seconds))
    }

    #[test]
    fn an_agent_is_ready_when_it_serves_and_can_write() {
        let ready = AgentState {
            is_serving: true,
            is_journal_ok: true,
            epoch_shown_at: at(1000),
            ..AgentState::default()
        };
        let complaints = |state: &AgentState, journal: Result<(), String>, now| {
            agent_complaints(state, journal, at(now)).len()
        };
        assert_eq!(complaints(&ready, Ok(()), 1060), 0);
        assert_eq!(complaints(&ready, Ok(()), 1121), 1, "the apiserver is gone");
        assert_eq!(complaints(&ready, Err("full".into()), 1060), 1);
        let mut broken = ready.clone();
        broken.is_journal_ok = false;
        assert_eq!(complaints(&broken, Ok(()), 1060), 1);
        assert!(complaints(&AgentState::default(), Ok(()), 1060) > 0);
    }

    #[test]
    fn a_lost_part_is_a_complaint_or_a_note_and_named_in_either() {
        for part in HostPart::ALL {
            let mut state = AgentState {
                is_serving: true,
                is_journal_ok: true,
                epoch_shown_at: at(1000),
                ..AgentState::default()
            };
            let mut say = |lost: Option<&str>| {
                state.parts = vec![PartState {
                    part,
                    lost: lost.map(str::to_owned),
                    since: at(1000),
                }];
                let complaints = agent_complaints(&state, Ok(()), at(1001));
                (complaints, agent_notes(&state))
            };
            assert_eq!(say(None), (Vec::new(), Vec::new()));
            let (complaints, notes) = say(Some("gone"));
            let (said, silent) = if part.is_vital() {
                (complaints, notes)
            } else {
                (notes, complaints)
            };
            assert!(silent.is_empty());
            assert!(said[0].contains(&format!("{}: gone: ", part.name())));
        }
    }

    #[test]
    fn a_controller_is_ready_while_the_lease_is_within_reach() {
        let follower = ControllerState {
            is_listed: true,
            lease_answered_at: at(100),
            ..ControllerState::default()
        };
        assert!(controller_complaints(&follower, at(130)).is_empty());
        assert_eq!(controller_complaints(&follower, at(131)).len(), 1);
        let unlisted = ControllerState {
            is_listed: false,
            ..follower.clone()
        };
        assert_eq!(controller_complaints(&unlisted, at(110)).len(), 1);
        let why = "AddressPool is not listed: the answer cannot be read".to_owned();
        let unlisted = ControllerState {
            waits_for: vec![why.clone()],
            ..unlisted
        };
        assert!(controller_complaints(&unlisted, at(110)).contains(&why));
    }

    #[test]
    fn a_leader_without_progress_says_since_when_and_why() {
        let why = "AddressPool a: not found".to_owned();
        let leader = ControllerState {
            leads: true,
            is_listed: true,
            lease_answered_at: at(1000),
            progress_at: at(890),
            waits_for: vec![why.clone()],
            ..ControllerState::default()
        };
        assert_eq!(controller_complaints(&leader, at(1005)), [""; 0]);
        let complaints = controller_complaints(&leader, at(1011));
        assert!(complaints[0].contains("121 s"), "{complaints:?}");
        assert!(complaints.contains(&why), "{complaints:?}");
    }

    #[test]
    fn an_agent_that_cannot_read_its_own_machine_says_so() {
        let why = "BerthNode m cannot be read: spec.state".to_owned();
        let state = AgentState {
            is_serving: true,
            is_journal_ok: true,
            epoch_shown_at: at(1000),
            waits_for: vec![why.clone()],
            ..AgentState::default()
        };
        assert_eq!(agent_complaints(&state, Ok(()), at(1001)), [why]);
    }
}
