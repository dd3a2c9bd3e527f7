//! What an agent does when a time has come. Each timer stands once, for the earliest time that was
//! asked for; the shell is asked to wake the agent for the first of all.

use super::Agent;
use super::errands::{StartStep, Watched};
use super::memory::{BlockKey, PoolId};
use crate::core::exchange::{Attachment, RequestId};
use crate::core::objects::Uid;
use crate::core::time::BootTime;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Startup(StartStep),
    SettleGrace,
    Epoch,
    Block(BlockKey),
    Search(PoolId),
    PoolCheck(PoolId),
    Add(RequestId),
    Release(Attachment),
    Reopen(Watched),
    Sweep,
    Reassert,
    Sandboxes,
    Pod(Uid),
    RemovePod(Uid),
    Namespace(String),
    Unasked(Uid),
    /// To open or write the journal again after a failure.
    Journal,
    Survey,
}

impl Agent {
    pub(super) fn fire_timers(&mut self) {
        self.wake = BootTime::NEVER;
        while let Some((at, _)) = self.timers.first() {
            if *at > self.now {
                break;
            }
            let Some((_, timer)) = self.timers.pop_first() else {
                break;
            };
            self.armed.remove(&timer);
            match timer {
                Timer::Startup(step) => self.startup_step(step),
                // Every input ends with a look whether service may begin.
                Timer::SettleGrace => {}
                Timer::Epoch => self.epoch_timer(),
                Timer::Block(block) => {
                    self.leave_hung_write(block);
                    self.touched_blocks.insert(block);
                    self.touched_pools.insert(block.pool);
                }
                Timer::Search(pool) => self.search_timer(pool),
                Timer::PoolCheck(pool) => self.check_pool(pool),
                Timer::Add(request) => self.add_timer(request),
                Timer::Release(attachment) => self.release_timer(&attachment),
                Timer::Reopen(watched) => self.reopen(watched),
                Timer::Sweep => self.sweep_timer(),
                Timer::Reassert => self.reassert_all(),
                Timer::Sandboxes => self.list_sandboxes(),
                Timer::RemovePod(uid) => self.remove_pod(&uid),
                Timer::Journal => self.journal_timer(),
                Timer::Survey => self.survey(String::new()),
                Timer::Pod(uid) | Timer::Unasked(uid) => {
                    self.touched_pods.insert(uid);
                }
                Timer::Namespace(name) => self.touch_namespace(&name),
            }
        }
    }

    /// Arms the timer for `at`, unless it is armed for an earlier time.
    pub(super) fn arm(&mut self, timer: Timer, at: BootTime) {
        if self.armed.get(&timer).is_some_and(|armed| *armed <= at) {
            return;
        }
        self.disarm(&timer);
        self.armed.insert(timer.clone(), at);
        self.timers.insert((at, timer));
    }

    pub(super) fn disarm(&mut self, timer: &Timer) {
        if let Some(at) = self.armed.remove(timer) {
            self.timers.remove(&(at, timer.clone()));
        }
    }
}
