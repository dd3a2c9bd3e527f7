//! client-go's leader election on a Lease, as a state machine without clock or network: its owner
//! makes the calls, keeps the timers and cancels what [`Elector::stop`] leaves behind.
//!
//! Modeled as of client-go v0.24: poll with jitter and no queue, no watch; expiry by the observer's
//! own clock from its first sight of a record; the record compared in whole seconds, as it is
//! printed; renewal at once and then every retry period within the renew deadline; release from a
//! cached object. Also modeled are two defects that leave a Lease held by nobody: a failed GET
//! empties the cached object (kubernetes/client-go#966, fixed by kubernetes#112022), and a renewal
//! that commits while it is being canceled outdates it (client-go#1289, #1417, fixed by
//! kubernetes#132849). Both fixes are options. Not modeled: events, metrics, health checks.
//!
//! Source: client-go v0.24.0 tools/leaderelection/leaderelection.go:237-373,
//! tools/leaderelection/resourcelock/leaselock.go:41-90, apimachinery
//! pkg/util/wait/wait.go:132-202.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::stream::Stream;
use drydock_engine::time::SimInstant;

use crate::request::{Answer, ApiError, Consistency, Custom, CustomKind, Request, Response, Shape};

/// Leases of coordination.k8s.io/v1.
pub(crate) const LEASE: CustomKind = CustomKind {
    resource: "leases",
    shape: Shape::Flat,
};

/// `JitterFactor` (leaderelection.go:73): a pause is one to 2.2 retry periods.
const JITTER_PERCENT: u64 = 120;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How a candidate behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ElectionConfig {
    /// LeaseDuration.
    pub lease_duration: Duration,
    /// RenewDeadline.
    pub renew_deadline: Duration,
    /// RetryPeriod.
    pub retry_period: Duration,
    /// A GET that fails leaves the cached object alone (client-go v0.26).
    pub failed_get_keeps_lease: bool,
    /// The release reads the Lease again before it writes (kubernetes#132849).
    pub release_reads_first: bool,
}

/// Where the jitter of the polls comes from.
#[derive(Clone, Debug)]
pub(crate) enum Jitter {
    /// Before Go 1.20, a process that never seeds Go's global source: all draw the same numbers.
    Unseeded(usize),
    /// A source of its own.
    Seeded(Box<Stream>),
}

impl Jitter {
    fn pause(&mut self, retry_period: Duration) -> Duration {
        let whole = retry_period.as_nanos() as u64 * JITTER_PERCENT / 100;
        let addition = match self {
            Jitter::Unseeded(next) => {
                let billionths = GO_SEED_1[*next % GO_SEED_1.len()];
                *next += 1;
                u128::from(whole) * u128::from(billionths) / u128::from(NANOS_PER_SECOND)
            }
            Jitter::Seeded(stream) => u128::from(stream.below(whole.max(1))),
        };
        retry_period + Duration::from_nanos(addition as u64)
    }
}

/// The record inside a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    holder: Rc<str>,
    acquired: u64,
    renewed: u64,
    transitions: u64,
}

impl Record {
    fn read(body: &str) -> Record {
        let mut parts = body.split('|');
        let mut next = || parts.next().unwrap_or_default();
        let holder = Rc::from(next());
        let mut number = || next().parse().unwrap_or_default();
        Record {
            holder,
            acquired: number(),
            renewed: number(),
            transitions: number(),
        }
    }

    fn body(&self) -> Rc<str> {
        let mut text = String::with_capacity(self.holder.len() + 48);
        text.push_str(&self.holder);
        for number in [self.acquired, self.renewed, self.transitions] {
            // Writing to a string cannot fail.
            let _ = write!(text, "|{number}");
        }
        Rc::from(text)
    }

    /// Whether two records print alike: their times are printed in whole seconds.
    fn prints_like(&self, other: &Record) -> bool {
        let second = |nanos: u64| nanos / NANOS_PER_SECOND;
        self.holder == other.holder
            && self.transitions == other.transitions
            && second(self.acquired) == second(other.acquired)
            && second(self.renewed) == second(other.renewed)
    }
}

/// The holder that a stored Lease names; empty when it was released.
#[cfg(test)]
pub(crate) fn holder_of(lease: &Custom) -> &str {
    lease.body.split('|').next().unwrap_or_default()
}

/// What the lock keeps of the Lease.
#[derive(Clone, Debug)]
enum Cached {
    /// An object without a name: a GET failed.
    Empty,
    Lease(Rc<Custom>),
}

/// One request of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Get,
    Create,
    Put,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Acquiring(Try),
    AcquirePause,
    Renewing(Try),
    /// Between two rounds.
    RenewPause,
    /// Within a round, after a try failed.
    RenewAgain,
    /// Reads before it releases.
    ReleaseRead,
    Releasing,
    Over,
}

/// How a Lease was won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Won {
    /// There was no Lease.
    Created,
    /// Its last holder had released it.
    Released,
    /// The record names this identity: an earlier process, or another one with the same identity.
    Own,
    /// Its holder had not renewed it.
    Expired,
}

/// How a leader left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// The Lease is free.
    Released,
    /// Somebody else leads already, or nobody led.
    NotHeld,
    /// The cached object is empty: no request is made, the Lease stays held.
    EmptyLease,
    /// The cached object is outdated: 409, the Lease stays held.
    Outdated,
    /// The write failed otherwise.
    Failed,
}

/// What an owner must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It leads.
    Won(Won),
    /// It leads no longer, though its work goes on. The owner must cancel what is in flight.
    Deposed,
    /// It is over.
    Left(Left),
}

/// What the owner must do, in this order: cancel what is in flight if the news is
/// [`News::Deposed`], make the call, set the timers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    /// A request on the Lease.
    pub call: Option<Request>,
    /// [`Elector::woken`] after this long.
    pub pause: Option<Duration>,
    /// [`Elector::limit_passed`] after this long, with [`Elector::round`].
    pub limit: Option<Duration>,
    /// What happened.
    pub news: Option<News>,
}

/// One candidate.
#[derive(Clone, Debug)]
pub(crate) struct Elector {
    config: ElectionConfig,
    lease: Rc<str>,
    identity: Rc<str>,
    jitter: Jitter,
    cached: Cached,
    /// `observedRawRecord`: set by reads alone.
    seen: Option<Record>,
    /// Version in which `seen` was read; a shortcut.
    seen_version: u64,
    /// `observedRecord.HolderIdentity`, and the transitions beside it.
    holder: Rc<str>,
    transitions: u64,
    acquired: u64,
    observed_at: SimInstant,
    tried_at: SimInstant,
    written: Option<Record>,
    how: Won,
    state: State,
    round: u32,
}

impl Elector {
    /// A candidate for a Lease.
    pub(crate) fn new(
        config: ElectionConfig,
        lease: Rc<str>,
        identity: Rc<str>,
        jitter: Jitter,
    ) -> Elector {
        Elector {
            config,
            lease,
            identity,
            jitter,
            cached: Cached::Empty,
            seen: None,
            seen_version: 0,
            holder: Rc::from(""),
            transitions: 0,
            acquired: 0,
            observed_at: SimInstant::ZERO,
            tried_at: SimInstant::ZERO,
            written: None,
            how: Won::Created,
            state: State::AcquirePause,
            round: 0,
        }
    }

    /// Renewal round under way; see [`Reaction::limit`].
    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// Whether a write for the lease is in flight.
    pub(crate) fn is_writing(&self) -> bool {
        matches!(
            self.state,
            State::Acquiring(Try::Put | Try::Create) | State::Renewing(Try::Put | Try::Create)
        )
    }

    /// Whether a round of renewal is under way.
    pub(crate) fn is_renewing(&self) -> bool {
        matches!(self.state, State::Renewing(_) | State::RenewAgain)
    }

    /// Whether its release is in flight, which nothing cancels.
    pub(crate) fn is_releasing(&self) -> bool {
        matches!(self.state, State::Releasing | State::ReleaseRead)
    }

    /// Whether, by its last read or write of the Lease, it leads.
    pub(crate) fn leads(&self) -> bool {
        self.holder == self.identity
    }

    /// Starts polling for the Lease.
    pub(crate) fn start(&mut self, now: SimInstant) -> Reaction {
        self.state = State::Acquiring(Try::Get);
        self.get(now)
    }

    /// A pause is over.
    pub(crate) fn woken(&mut self, now: SimInstant) -> Reaction {
        match self.state {
            State::AcquirePause => self.start(now),
            State::RenewPause => self.renew(now),
            State::RenewAgain => {
                self.state = State::Renewing(Try::Get);
                self.get(now)
            }
            _ => Reaction::default(),
        }
    }

    /// The renew deadline of a round passed.
    pub(crate) fn limit_passed(&mut self, round: u32, now: SimInstant) -> Reaction {
        if round != self.round || !self.is_renewing() {
            return Reaction::default();
        }
        let released = self.release(now);
        Reaction {
            news: released.news.or(Some(News::Deposed)),
            ..released
        }
    }

    /// The owner's work is over, or it has stopped waiting. The owner must cancel what is in flight
    /// before it carries out the reaction.
    pub(crate) fn stop(&mut self, now: SimInstant) -> Reaction {
        match self.state {
            State::Acquiring(_) | State::AcquirePause | State::Over => {
                self.state = State::Over;
                over(Left::NotHeld)
            }
            State::Releasing | State::ReleaseRead => Reaction::default(),
            State::Renewing(_) | State::RenewPause | State::RenewAgain => self.release(now),
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&mut self, response: Response, now: SimInstant) -> Reaction {
        match self.state {
            State::Acquiring(step) | State::Renewing(step) => match step {
                Try::Get => self.got(response, now),
                Try::Create | Try::Put => self.put(response, now),
            },
            State::ReleaseRead => match self.read(response, now) {
                Ok(()) => self.write_release(now),
                Err(_) => self.left(Left::Failed),
            },
            State::Releasing => self.left(match response {
                Ok(_) => Left::Released,
                Err(ApiError::Conflict) => Left::Outdated,
                Err(_) => Left::Failed,
            }),
            _ => Reaction::default(),
        }
    }

    fn get(&mut self, now: SimInstant) -> Reaction {
        self.tried_at = now;
        call(self.read_request())
    }

    fn read_request(&self) -> Request {
        Request::Get {
            kind: LEASE,
            name: self.lease.clone(),
            consistency: Consistency::Quorum,
        }
    }

    /// LeaseLock.Get and what the elector remembers of it.
    fn read(&mut self, response: Response, now: SimInstant) -> Result<(), ApiError> {
        match response {
            Ok(Answer::Custom(lease)) => {
                if self.seen.is_none() || lease.resource_version != self.seen_version {
                    self.seen_version = lease.resource_version;
                    self.observe(Record::read(&lease.body), now);
                }
                self.cached = Cached::Lease(lease);
                Ok(())
            }
            Ok(_) => unreachable!("a GET of a Lease answers with a Lease"),
            Err(error) => {
                self.read_failed();
                Err(error)
            }
        }
    }

    fn read_failed(&mut self) {
        if !self.config.failed_get_keeps_lease {
            self.cached = Cached::Empty;
        }
    }

    fn observe(&mut self, record: Record, now: SimInstant) {
        let same = (self.seen.as_ref()).is_some_and(|seen| seen.prints_like(&record));
        if same {
            return;
        }
        self.know(&record, now);
        self.seen = Some(record);
    }

    /// `setObservedRecord`.
    fn know(&mut self, record: &Record, now: SimInstant) {
        self.holder = record.holder.clone();
        self.transitions = record.transitions;
        self.acquired = record.acquired;
        self.observed_at = now;
    }

    fn got(&mut self, response: Response, now: SimInstant) -> Reaction {
        match self.read(response, now) {
            Err(ApiError::NotFound) => {
                self.how = Won::Created;
                let record = self.record(now, 0);
                let lease = Rc::new(Custom {
                    kind: LEASE,
                    name: self.lease.clone(),
                    uid: 0,
                    resource_version: 0,
                    labels: Vec::new(),
                    finalizers: Vec::new(),
                    deleting: false,
                    annotations: Vec::new(),
                    status: None,
                    body: record.body(),
                    record_count: 1,
                });
                self.written = Some(record);
                self.enter(Try::Create);
                call(Request::Create(lease))
            }
            Err(_) => self.failed(),
            Ok(()) => {
                let valid = self.observed_at + self.config.lease_duration > self.tried_at;
                if !self.holder.is_empty() && valid && !self.leads() {
                    return self.failed();
                }
                self.how = if self.holder.is_empty() {
                    Won::Released
                } else if self.leads() {
                    Won::Own
                } else {
                    Won::Expired
                };
                let transitions = self.transitions + u64::from(!self.leads());
                let mut record = self.record(now, transitions);
                if self.leads() {
                    record.acquired = self.acquired;
                }
                self.enter(Try::Put);
                self.write(record)
            }
        }
    }

    fn put(&mut self, response: Response, now: SimInstant) -> Reaction {
        let Ok(answer) = response else {
            return self.failed();
        };
        if let Answer::Custom(lease) = answer {
            self.cached = Cached::Lease(lease);
        }
        if let Some(record) = self.written.take() {
            self.know(&record, now);
        }
        if let State::Acquiring(_) = self.state {
            let news = Some(News::Won(self.how));
            return Reaction {
                news,
                ..self.renew(now)
            };
        }
        self.state = State::RenewPause;
        pause(self.config.retry_period)
    }

    /// A round of renewal.
    fn renew(&mut self, now: SimInstant) -> Reaction {
        self.round += 1;
        self.state = State::Renewing(Try::Get);
        Reaction {
            limit: Some(self.config.renew_deadline),
            ..self.get(now)
        }
    }

    fn failed(&mut self) -> Reaction {
        if let State::Acquiring(_) = self.state {
            self.state = State::AcquirePause;
            return pause(self.jitter.pause(self.config.retry_period));
        }
        self.state = State::RenewAgain;
        pause(self.config.retry_period)
    }

    /// `release`; the context of what is in flight was canceled.
    fn release(&mut self, now: SimInstant) -> Reaction {
        if self.state == State::Renewing(Try::Get) {
            self.read_failed();
        }
        if !self.leads() {
            return self.left(Left::NotHeld);
        }
        if self.config.release_reads_first {
            self.state = State::ReleaseRead;
            return call(self.read_request());
        }
        self.write_release(now)
    }

    fn write_release(&mut self, now: SimInstant) -> Reaction {
        if !self.leads() {
            return self.left(Left::NotHeld);
        }
        if let Cached::Empty = self.cached {
            return self.left(Left::EmptyLease);
        }
        self.state = State::Releasing;
        let mut record = self.record(now, self.transitions);
        record.holder = Rc::from("");
        self.write(record)
    }

    fn left(&mut self, how: Left) -> Reaction {
        self.state = State::Over;
        self.holder = Rc::from("");
        over(how)
    }

    fn record(&self, now: SimInstant, transitions: u64) -> Record {
        Record {
            holder: self.identity.clone(),
            acquired: now.as_nanos(),
            renewed: now.as_nanos(),
            transitions,
        }
    }

    /// LeaseLock.Update: the cached object with a new record.
    fn write(&mut self, record: Record) -> Reaction {
        let Cached::Lease(cached) = &self.cached else {
            unreachable!("a write follows a read, or was ruled out")
        };
        let mut lease = Custom::clone(cached);
        lease.body = record.body();
        self.written = Some(record);
        call(Request::Replace {
            object: Rc::new(lease),
            part: crate::request::Part::Main,
        })
    }

    fn enter(&mut self, step: Try) {
        self.state = match self.state {
            State::Acquiring(_) => State::Acquiring(step),
            _ => State::Renewing(step),
        };
    }
}

fn call(request: Request) -> Reaction {
    Reaction {
        call: Some(request),
        ..Reaction::default()
    }
}

fn pause(pause: Duration) -> Reaction {
    Reaction {
        pause: Some(pause),
        ..Reaction::default()
    }
}

fn over(how: Left) -> Reaction {
    Reaction {
        news: Some(News::Left(how)),
        ..Reaction::default()
    }
}

/// What `math/rand.Float64` gives a process that never seeds it, in billionths. These suffice for
/// nearly every process within its time limit.
/// Source: computed with `rand.New(rand.NewSource(1))`, which is that stream.
#[rustfmt::skip]
const GO_SEED_1: [u64; 192] = [
    604_660_287, 940_509_088, 664_560_053, 437_714_187, 424_637_497, 686_823_072, 65_637_019,
    156_519_254, 96_969_518, 300_911_860, 515_212_628, 813_639_960, 214_263_872, 380_657_189,
    318_058_174, 468_889_844, 283_034_151, 293_101_857, 679_084_675, 218_553_052, 203_186_876,
    360_871_416, 570_673_276, 862_491_437, 293_114_244, 297_082_563, 752_573_035, 206_582_661,
    865_335_013, 696_719_165, 523_820_306, 28_303_083, 158_328_277, 607_253_439, 975_241_618,
    79_453_623, 594_808_597, 59_120_651, 692_024_587, 301_522_681, 173_266_238, 541_099_855,
    544_155_573, 278_507_621, 423_152_201, 530_585_715, 253_540_500, 282_080_994, 788_604_915,
    361_805_480, 880_543_122, 297_112_260, 894_361_729, 97_454_618, 976_916_868, 74_290_998,
    222_289_417, 681_078_312, 241_515_088, 311_522_444, 932_846_428, 741_848_959, 801_055_042,
    730_231_477, 182_924_916, 428_357_081, 896_991_957, 682_653_488, 978_929_355, 922_212_258,
    90_837_275, 493_141_997, 926_986_803, 954_945_440, 347_953_963, 690_838_831, 710_907_195,
    563_779_595, 649_489_460, 551_765_049, 755_823_507, 403_803_285, 130_651_117, 985_964_729,
    896_341_745, 322_083_970, 721_147_765, 644_539_782, 85_520_507, 669_575_297, 622_728_317,
    369_692_843, 236_822_546, 535_281_890, 187_246_101, 238_840_702, 628_098_171, 126_752_929,
    281_330_293, 410_322_844, 434_912_473, 625_095_028, 550_146_920, 623_608_826, 729_180_726,
    830_533_918, 513_815, 736_068_601, 399_983_762, 497_868_113, 603_978_102, 409_618_277,
    29_671_281, 1_903_894, 2_843_041, 915_821_314, 589_834_185, 559_392_449, 815_405_170,
    878_011_758, 458_442_478, 600_165_595, 26_265_150, 845_832_787, 249_693_201, 641_784_290,
    247_466_607, 173_655_844, 592_623_753, 814_394_550, 693_838_136, 30_322_547, 539_210_105,
    975_674_814, 750_763_056, 294_006_312, 753_161_277, 150_964_044, 355_767_265, 831_930_852,
    231_830_041, 627_834_605, 498_394_301, 89_836_089, 25_193_959, 392_216_183, 589_383_086,
    929_611_635, 572_086_801, 588_576_345, 411_762_688, 552_580_389, 491_607_396, 957_953_913,
    797_208_540, 107_381_112, 783_034_973, 393_250_999, 130_413_846, 190_032_766, 739_825_781,
    654_041_409, 98_383_788, 520_380_285, 99_729_663, 151_843_402, 76_190_262, 315_208_085,
    159_650_921, 137_804_061, 322_610_682, 539_074_517, 570_851_627, 512_781_758, 684_175_130,
    653_040_205, 524_499_759, 654_270_134, 716_368_374, 636_644_214, 12_825_909, 30_682_195,
    98_030_874, 369_111_709, 826_454_125, 347_681_708, 344_315_017, 252_999_823, 216_471_146,
    555_002_135, 402_070_845, 506_497_063,
];

#[cfg(test)]
mod tests;
