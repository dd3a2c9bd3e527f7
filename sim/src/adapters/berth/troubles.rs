//! What is out of order around an agent: its journal's file, its view of the namespaces, the spool,
//! the runtime's list. Here is what each trouble does to an answer about paths and sandboxes, and
//! in `disk` what it does to a file; when it begins and ends is the fault plan's, and what Berth
//! makes of it is Berth's.

use std::time::Duration;

use berth::core::exchange::{MountId, PathState, Probe, Sandbox};
use drydock_engine::{Stream, Streams};
use drydock_models::ipam::Trouble;

/// The runtime answers a list within this, or counts as silent: `berthd`'s own patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// A slow write of the journal, or a slow list of the spool, takes from 1 s to this.
pub(super) const SLOW_MAX: Duration = Duration::from_secs(4);

/// Whether a trouble is in what the apiserver stores, and no machine's own.
pub(super) fn is_of_objects(trouble: Trouble) -> bool {
    matches!(
        trouble,
        Trouble::ObjectPoisoned
            | Trouble::ObjectMistyped
            | Trouble::ObjectNewer
            | Trouble::CrdChanged
            | Trouble::TenantAnnotates
            | Trouble::ForeignPods
    )
}

/// The troubles of a machine.
#[derive(Debug, Default)]
pub struct Troubles {
    active: Vec<Active>,
    /// Marks that were recreated in the directory of namespaces, each with another number.
    canary_count: u64,
}

/// One that has begun and not ended.
#[derive(Debug)]
pub(super) struct Active {
    /// Position in the plan.
    pub(super) fault: u32,
    trouble: Trouble,
    pub(super) draws: Stream,
    /// It affects one look in this many.
    one_in: u64,
    /// It has answered a look.
    was_seen: bool,
}

/// What an append comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is done, after a while.
    After(Duration),
    /// It failed.
    Failed,
    /// The process dies in it, by this fault of the plan.
    Torn(u32),
}

/// What the runtime does with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It answers.
    Sandboxes(Vec<Sandbox>),
    /// It refuses.
    Refused,
    /// It never answers; who asked gives up after this.
    Silent(Duration),
}

impl Troubles {
    /// The one that is such, if it has begun.
    pub(super) fn find(&mut self, is: impl Fn(Trouble) -> bool) -> Option<&mut Active> {
        self.active.iter_mut().find(|active| is(active.trouble))
    }

    /// A trouble begins that lasts; `draw` decides what a plan leaves open.
    pub(super) fn begin(&mut self, fault: u32, trouble: Trouble, draw: u64) {
        let mut draws = Streams::new(draw).stream("trouble", 0, "draws");
        let one_in = *draws.pick(&[1, 2, 4]);
        self.active.push(Active {
            fault,
            trouble,
            draws,
            one_in,
            was_seen: false,
        });
    }

    /// A trouble ends. Answers with what it was.
    pub fn end(&mut self, fault: u32) -> Option<Trouble> {
        let place = self
            .active
            .iter()
            .position(|active| active.fault == fault)?;
        let ended = self.active.remove(place);
        if ended.trouble == Trouble::CanaryGone {
            self.canary_count += 1;
        }
        Some(ended.trouble)
    }

    /// Whether notices of a change in the spool come.
    pub fn spool_is_watched(&self) -> bool {
        let late = |active: &Active| active.trouble == Trouble::SpoolLate;
        !self.active.iter().any(late)
    }

    /// A look at a namespace's path, as it would be without trouble, through a machine's `mount`.
    pub fn look(&mut self, is_present: bool, mount: u64) -> Probe {
        if let Some(active) = self.find(|trouble| trouble == Trouble::PathUnknown)
            && active.draws.chance(1, active.one_in)
        {
            return Probe::UNKNOWN;
        }
        let canaries = self.canary_count;
        let marked = |number: u64| MountId(mount | number << 32);
        if let Some(active) = self.find(|trouble| trouble == Trouble::PathsVanished) {
            // The agent marks an empty directory as it marked the one before.
            let (mount, canary) = if std::mem::replace(&mut active.was_seen, true) {
                (marked(1 << 16 | u64::from(active.fault)), true)
            } else {
                (marked(canaries), false)
            };
            let state = PathState::Gone { mount };
            return Probe { state, canary };
        }
        let canary = self
            .find(|trouble| trouble == Trouble::CanaryGone)
            .is_none();
        // Without its mark the directory is known by its device alone.
        let mount = marked(if canary { canaries } else { 1 << 17 });
        let state = if is_present {
            PathState::Present { mount }
        } else {
            PathState::Gone { mount }
        };
        Probe { state, canary }
    }

    /// The runtime's answer to the agent.
    pub fn ask(&mut self, runtime_up: bool, sandboxes: Vec<Sandbox>) -> Listed {
        if let Some(active) = self.find(|trouble| trouble == Trouble::RuntimeUnaskable) {
            if active.draws.chance(1, 2) {
                return Listed::Silent(PATIENCE);
            }
            return Listed::Refused;
        }
        if runtime_up {
            Listed::Sandboxes(sandboxes)
        } else {
            Listed::Refused
        }
    }
}

/// How long a slow disk takes this time.
pub(super) fn slow(active: &mut Active) -> Duration {
    active.draws.duration(Duration::from_secs(1)..=SLOW_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_show_nothing_always_or_now_and_then() {
        let shown = |draw| {
            let mut troubles = Troubles::default();
            troubles.begin(0, Trouble::PathUnknown, draw);
            let looks = (0..100).filter(|_| troubles.look(true, 1).state == PathState::Unknown);
            looks.count()
        };
        let counts: Vec<usize> = (0..30).map(shown).collect();
        assert!(counts.contains(&100), "{counts:?}");
        assert!(
            counts.iter().any(|count| (10..40).contains(count)),
            "{counts:?}"
        );
        assert!(
            counts.iter().any(|count| (40..70).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn what_was_seen_under_one_mark_is_not_gone_under_another() {
        let mut troubles = Troubles::default();
        let seen = |probe: Probe| match probe.state {
            PathState::Present { mount } | PathState::Gone { mount } => (mount, probe.canary),
            PathState::Unknown => panic!("the path can be told"),
        };
        let before = seen(troubles.look(true, 1));
        assert!(before.1);
        troubles.begin(0, Trouble::CanaryGone, 0);
        let without = seen(troubles.look(false, 1));
        assert!(!without.1);
        troubles.end(0);
        let after = seen(troubles.look(false, 1));
        assert!(after.1 && after.0 != before.0 && after.0 != without.0);
        troubles.begin(1, Trouble::PathsVanished, 0);
        for _ in 0..2 {
            let vanished = troubles.look(true, 1);
            assert!(matches!(vanished.state, PathState::Gone { .. }));
            assert!(!vanished.canary || seen(vanished).0 != after.0);
        }
        troubles.end(1);
        assert_eq!(seen(troubles.look(true, 1)), after);
    }

    #[test]
    fn a_runtime_that_cannot_be_asked_is_never_an_empty_list() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.ask(false, Vec::new()), Listed::Refused);
        troubles.begin(0, Trouble::RuntimeUnaskable, 0);
        let answers: Vec<Listed> = (0..20).map(|_| troubles.ask(true, Vec::new())).collect();
        assert!(answers.contains(&Listed::Refused));
        assert!(answers.contains(&Listed::Silent(PATIENCE)));
        troubles.end(0);
        assert_eq!(
            troubles.ask(true, Vec::new()),
            Listed::Sandboxes(Vec::new())
        );
    }
}
