//! The agent's journal: read at the start, written as things happen, rewritten after a failure or
//! when it is long. [`core::journal`](crate::core::journal) defines its form; [`lost`](super::lost)
//! decides what a missing or damaged one means.

use std::collections::BTreeMap;

use super::Agent;
use super::boundary::Output;
use super::errands::StartStep;
use super::host::HostPart;
use super::startup::Phase;
use super::timers::Timer;
use crate::core::exchange::RequestId;
use crate::core::journal::{self, Binding, Entry, Replay, Seal, State, Stored, UnknownVersion};
use crate::core::report::LocalError;
use crate::core::time::BootTime;

impl Agent {
    /// Writes an entry. Memory must already state it, because a journal that failed or is long is
    /// rewritten from memory.
    pub(super) fn journal(&mut self, entry: &Entry) {
        let number = self.journal_frames;
        assert!(number > 0, "every entry stands behind the header");
        let live = self.attachments.len() + self.blocks.len();
        if self.journal_ok && number < 1024 + 4 * live {
            self.journal_frames += 1;
            let frame = journal::encode(number, entry);
            self.seal = self.seal.continued(&frame);
            let seal = self.lost.is_proven().then_some(self.seal);
            self.out.push(Output::Append(frame, seal));
        } else {
            self.journal_ok = true;
            self.compact_journal();
        }
    }

    pub(super) fn journal_opened(&mut self, result: Result<Stored, LocalError>) {
        if self.phase != Phase::Opening {
            return;
        }
        let opened = result.map(|stored| {
            let is_sealed = stored.seal.is_some_and(|seal| seal.holds(&stored.bytes));
            (self.replay_of(&stored.bytes), is_sealed)
        });
        let (replay, is_sealed) = match opened {
            Ok((Ok(replay), is_sealed)) => (replay, is_sealed),
            Ok((Err(error), _)) => {
                self.event("JournalRefused", error.to_string());
                self.phase = Phase::Refused;
                self.refuse_early();
                return;
            }
            Err(error) => {
                self.journal_unopened(&error);
                return;
            }
        };
        self.journal_ok = true;
        let (mut this_boot, mut said_so) = (false, false);
        for entry in replay.entries {
            match entry {
                Entry::Header { boot_id, .. } => this_boot = boot_id == self.config.boot_id,
                Entry::Lost => said_so = true,
                Entry::Block { pool, index } => {
                    self.inherited.insert((pool, index));
                }
                Entry::Tombstone { attachment, netns } if this_boot => {
                    self.tombstones.insert((attachment, netns));
                }
                entry if this_boot => self.replayed.push(entry),
                _ => {}
            }
        }
        // A header of this boot without entries is a journal, too.
        self.lost
            .found(this_boot, said_so, &replay.state, is_sealed);
        if let State::Damaged(damage) = replay.state {
            self.journal_damaged(damage);
        }
        self.phase = Phase::Loading;
        self.loading = StartStep::ALL.into_iter().collect();
        #[cfg(feature = "mutants")]
        if self.is_mutant(crate::core::Mutant::HeaderBeforeLost) {
            self.compact_journal();
        }
        // The disk stays unchanged until the API shows what a missing or damaged journal may have
        // known: if this process dies before, its successor must not find a sound journal.
        for step in StartStep::ALL {
            self.startup_step(step);
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "a mutant reads otherwise")]
    fn replay_of(&self, bytes: &[u8]) -> Result<Replay, UnknownVersion> {
        journal::decode(bytes)
    }

    #[cfg(feature = "mutants")]
    fn replay_of(&self, bytes: &[u8]) -> Result<Replay, UnknownVersion> {
        let replay = journal::decode(bytes)?;
        if let State::Damaged(damage) = replay.state
            && self.is_mutant(crate::core::Mutant::DamageBelieved)
        {
            return journal::decode(bytes.get(..damage.at).unwrap_or_default());
        }
        Ok(replay)
    }

    /// The disk may come back.
    fn journal_unopened(&mut self, error: &LocalError) {
        if std::mem::replace(&mut self.journal_ok, false) {
            self.event("JournalFailed", error.to_string());
        }
        self.refuse_early();
        self.try_journal_later();
    }

    fn try_journal_later(&mut self) {
        let entropy = self.draw();
        let pause = self.config.policy.api_retry.pause(8, entropy);
        self.arm(Timer::Journal, self.now + pause);
    }

    /// The journal did not accept an entry; the ADDs in that batch were refused. Their attachments
    /// stay until their DEL: the plugin was not told of them, but it was not told anything else
    /// either.
    pub(super) fn append_failed(&mut self, _refused: &[RequestId]) {
        self.journal_ok = false;
        let why = "it did not take the last entry".to_owned();
        self.part_found(HostPart::Journal, Some(why));
        self.count("berth_journal_failures_total");
        for key in std::mem::take(&mut self.entering) {
            if let Some(block) = self.blocks.get_mut(&key) {
                block.journaled = false;
            }
        }
        self.try_journal_later();
    }

    /// Opens or rewrites the journal after a failure.
    pub(super) fn journal_timer(&mut self) {
        if self.phase == Phase::Opening {
            self.out.push(Output::OpenJournal);
        } else if !self.journal_ok && self.is_loaded() {
            self.journal_ok = true;
            self.compact_journal();
        }
    }

    /// Rewrites the journal from memory.
    pub(super) fn compact_journal(&mut self) {
        let header = Entry::Header {
            version: journal::VERSION,
            boot_id: self.config.boot_id.clone(),
        };
        let mut entries = vec![header];
        let mut blocks = self.inherited.clone();
        for (key, block) in &self.blocks {
            if block.journaled
                && let Some(pool) = self.pools.get(&key.pool)
            {
                blocks.insert((pool.name.clone(), key.index));
            }
        }
        entries.extend(
            blocks
                .into_iter()
                .map(|(pool, index)| Entry::Block { pool, index }),
        );
        if self.lost.is_marked() {
            entries.push(Entry::Lost);
        }
        entries.extend(self.replayed.iter().cloned());
        entries.extend(self.ended.iter().map(|attachment| Entry::Ended {
            attachment: attachment.clone(),
        }));
        let attached = self.attachments.values();
        let attached = attached.map(|a| (&a.binding, Self::last_del(a)));
        let poolless = self.poolless.values();
        let poolless = poolless.map(|(binding, last_del)| (binding, *last_del));
        for (binding, last_del) in attached.chain(poolless) {
            let attachment = &binding.attachment;
            entries.push(Entry::Bound(Box::new(binding.clone())));
            if let Some(at) = last_del {
                entries.push(Entry::Releasing {
                    attachment: attachment.clone(),
                    at,
                });
            }
        }
        entries.extend(
            self.tombstones
                .iter()
                .map(|(attachment, netns)| Entry::Tombstone {
                    attachment: attachment.clone(),
                    netns: netns.clone(),
                }),
        );
        self.journal_frames = entries.len();
        let bytes = journal::encode_all(&entries);
        self.seal = Seal::of(&bytes);
        // Only complete journals are sealed: the next process can rely on what they do not mention.
        let seal = self.lost.is_proven().then_some(self.seal);
        self.out.push(Output::Compact(bytes, seal));
    }

    pub(super) fn replay(&mut self) {
        let mut bound: BTreeMap<_, (Binding, Option<BootTime>)> = BTreeMap::new();
        for entry in std::mem::take(&mut self.replayed) {
            match entry {
                Entry::Bound(binding) => {
                    bound.insert(binding.attachment.clone(), (*binding, None));
                }
                Entry::Releasing { attachment, at } => {
                    if let Some((_, last_del)) = bound.get_mut(&attachment) {
                        *last_del = Some(at);
                    }
                }
                Entry::Ended { attachment } => {
                    bound.remove(&attachment);
                    self.ended.insert(attachment);
                }
                Entry::Header { .. }
                | Entry::Block { .. }
                | Entry::Tombstone { .. }
                | Entry::Lost => {}
            }
        }
        let mut bound: Vec<_> = bound.into_values().collect();
        // If an end is missing, two bindings may name one place: the later one has it.
        bound.sort_by_key(|(binding, _)| binding.at);
        for (binding, last_del) in bound {
            self.restore_attachment(binding, last_del);
        }
    }

    /// Rewrites a journal that did not accept an entry once its disk accepts writes again, and
    /// writes a removed journal file back to its place.
    pub(super) fn mend_journal(&mut self) {
        let is_lost = self.parts.why_lost(HostPart::Journal).is_some();
        if is_lost || !self.journal_ok {
            self.journal_ok = true;
            self.compact_journal();
        }
    }
}
