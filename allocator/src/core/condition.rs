//! How a condition is stated: one of each type, with the time of its last change and within the
//! bounds that every Kubernetes client relies on. Which conditions there are, and when, is said
//! where they are stated.

use super::objects::Condition;
use super::time::WallTime;

/// Units: bytes. The apiserver refuses longer messages, and with them the whole status.
pub const MESSAGE_MAX: usize = 32_768;

/// Units: bytes. What a list of names in a message may take: a reader wants a hint, not a dump.
const MESSAGE_CUT: usize = 2_048;

impl Condition {
    /// A condition without its time, which [`state_condition`] sets. A message that is too long is
    /// cut: the number of names that a cluster can put into it has no bound, the status has one.
    pub fn new(kind: &str, status: &str, reason: &str, mut message: String) -> Self {
        const { assert!(MESSAGE_CUT + 3 <= MESSAGE_MAX) }
        if message.len() > MESSAGE_CUT {
            message.truncate(message.floor_char_boundary(MESSAGE_CUT));
            message.push_str("...");
        }
        Self {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            ..Self::default()
        }
    }

    /// The same, about this generation of the object.
    pub fn observed(mut self, generation: Option<u64>) -> Self {
        self.observed_generation = generation;
        self
    }
}

/// Puts `next` in the place of the condition of its type, ascending by type. The time of the last
/// transition stays while the status does; `now` is written where it changes, unless no clock told
/// it yet.
pub fn state_condition(conditions: &mut Vec<Condition>, mut next: Condition, now: WallTime) {
    let before = conditions
        .iter()
        .find(|old| old.kind == next.kind && old.status == next.status);
    next.last_transition_time = match before {
        Some(Condition {
            last_transition_time: Some(time),
            ..
        }) => Some(time.clone()),
        _ => (now != WallTime::default()).then(|| now.rfc3339()),
    };
    conditions.retain(|old| old.kind != next.kind);
    conditions.push(next);
    conditions.sort_by(|a, b| a.kind.cmp(&b.kind));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(conditions: &mut Vec<Condition>, status: &str, reason: &str, second: u64) {
        let next = Condition::new("Approved", status, reason, String::new()).observed(Some(second));
        state_condition(conditions, next, WallTime(second * 1_000_000));
    }

    #[test]
    fn the_transition_time_changes_with_the_status_alone() {
        let mut conditions = vec![Condition::new("Zoned", "True", "x", String::new())];
        let time = |conditions: &[Condition]| conditions[0].last_transition_time.clone().unwrap();
        stated(&mut conditions, "False", "Invalid", 1);
        assert_eq!(time(&conditions), "1970-01-01T00:00:01Z");
        stated(&mut conditions, "False", "Overlapping", 2);
        assert_eq!(time(&conditions), "1970-01-01T00:00:01Z");
        assert_eq!(conditions[0].reason, "Overlapping");
        assert_eq!(conditions[0].observed_generation, Some(2));
        stated(&mut conditions, "True", "Approved", 3);
        assert_eq!(time(&conditions), "1970-01-01T00:00:03Z");
        let kinds: Vec<_> = conditions.iter().map(|c| c.kind.as_str()).collect();
        assert_eq!(kinds, ["Approved", "Zoned"]);
    }

    #[test]
    fn a_condition_of_an_older_release_gets_its_time_and_no_clock_gives_none() {
        let mut conditions = vec![Condition::new("Approved", "True", "x", String::new())];
        let again = conditions[0].clone();
        state_condition(&mut conditions, again, WallTime::default());
        assert_eq!(conditions[0].last_transition_time, None);
        stated(&mut conditions, "True", "x", 5);
        assert!(conditions[0].last_transition_time.is_some());
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let message = "\u{e9}".repeat(MESSAGE_MAX);
        let condition = Condition::new("Long", "True", "x", message);
        assert!(condition.message.len() <= MESSAGE_CUT + 3);
        assert!(condition.message.ends_with("..."));
    }
}
