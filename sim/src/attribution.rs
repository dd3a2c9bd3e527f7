//! Follows what the start of each Pod waits for, from the world's observations, and cuts its time
//! into segments that leave no gap. It changes nothing and judges nothing.

use std::collections::BTreeMap;

use drydock_models::cni::IpamStage;
use drydock_models::ids::{ContainerId, PodUid};
use drydock_models::observation::{Observation, PodStage};
use drydock_traces::run_record::{Segment, Stage};

/// A cause of waiting, as it was told: some are two causes after one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// One cause.
    Plain(Stage),
    /// A step that needs so much CPU: what it takes longer is waiting for a core.
    Cpu(Stage, u64),
    /// A request that a limiter holds back for so long, and then the API.
    Request {
        limiter: Stage,
        limited_ns: u64,
        api: Stage,
    },
}

/// The start of one Pod.
#[derive(Debug, Default)]
struct Start {
    /// Causes, each from its instant to the next. Shape: ascending.
    causes: Vec<(u64, Cause)>,
    /// The sandbox whose ADD runs in the IPAM.
    ipam: Option<ContainerId>,
    running_ns: Option<u64>,
}

/// The starts of all Pods.
#[derive(Debug, Default)]
pub struct Starts {
    pods: BTreeMap<PodUid, Start>,
}

impl Starts {
    /// Enters a fact.
    pub fn observe(&mut self, now_ns: u64, observation: &Observation) {
        match observation {
            Observation::PodCreated { pod } => self.plain(*pod, now_ns, Stage::Scheduling),
            Observation::PodBound { pod, .. } => self.plain(*pod, now_ns, Stage::KubeletWatch),
            Observation::PodStage { pod, stage } => {
                self.start(*pod).ipam = None;
                self.cause(*pod, now_ns, cause(*stage));
            }
            Observation::IpamAddStarted { pod, container, .. } => {
                self.start(*pod).ipam = Some(*container);
                self.plain(*pod, now_ns, Stage::Ipam);
            }
            Observation::IpamStage {
                pod,
                container,
                stage,
                ..
            }
                // An orphan's work is nobody's wait.
                if self.start(*pod).ipam == Some(*container) => {
                    self.plain(*pod, now_ns, ipam(*stage));
                }
            Observation::IpamAddEnded { pod, container, .. }
                if self.start(*pod).ipam == Some(*container) => {
                    self.start(*pod).ipam = None;
                    self.plain(*pod, now_ns, Stage::Macvlan);
                }
            Observation::PodRunning { pod } => {
                self.start(*pod).running_ns.get_or_insert(now_ns);
            }
            _ => {}
        }
    }

    fn start(&mut self, pod: PodUid) -> &mut Start {
        self.pods.entry(pod).or_default()
    }

    fn plain(&mut self, pod: PodUid, now_ns: u64, stage: Stage) {
        self.cause(pod, now_ns, Cause::Plain(stage));
    }

    fn cause(&mut self, pod: PodUid, now_ns: u64, cause: Cause) {
        let start = self.start(pod);
        let same = start.causes.last().is_some_and(|(_, last)| *last == cause);
        let plain = matches!(cause, Cause::Plain(_));
        if start.running_ns.is_none() && !(same && plain) {
            start.causes.push((now_ns, cause));
        }
    }

    /// The segments of a Pod, from the start of the workload until it was Running, or until the
    /// end of the run. Shape: as [`drydock_traces::run_record::PodPath`] wants them, times since
    /// the start of the workload.
    pub fn segments(&self, pod: PodUid, workload_ns: u64, end_ns: u64) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        let Some(start) = self.pods.get(&pod) else {
            return segments;
        };
        let end_ns = start.running_ns.unwrap_or(end_ns);
        let created = start.causes.first().map_or(end_ns, |(at, _)| *at);
        let mut push = |stage, from: u64, to: u64| {
            let (from, to) = (
                from.saturating_sub(workload_ns),
                to.saturating_sub(workload_ns),
            );
            match segments.last_mut() {
                _ if from >= to => {}
                Some(last) if last.stage == stage => last.end_ns = to,
                _ => segments.push(Segment {
                    stage,
                    start_ns: from,
                    end_ns: to,
                }),
            }
        };
        push(Stage::Creation, workload_ns, created);
        let ends = start.causes.iter().skip(1).map(|(at, _)| *at);
        for ((from, cause), to) in start.causes.iter().zip(ends.chain([end_ns])) {
            let (from, to) = (*from, to);
            match *cause {
                Cause::Plain(stage) => push(stage, from, to),
                Cause::Cpu(stage, work_ns) => {
                    let works_from = to.saturating_sub(work_ns).max(from);
                    push(Stage::CpuWait, from, works_from);
                    push(stage, works_from, to);
                }
                Cause::Request {
                    limiter,
                    limited_ns,
                    api,
                } => {
                    let departs = (from + limited_ns).min(to);
                    push(limiter, from, departs);
                    push(api, departs, to);
                }
            }
        }
        let follow = |pair: &[Segment]| pair[0].end_ns == pair[1].start_ns;
        assert!(
            segments.windows(2).all(follow),
            "the causes of a start follow one another without a gap"
        );
        segments
    }
}

fn cause(stage: PodStage) -> Cause {
    match stage {
        PodStage::Kubelet { work_ns } => Cause::Cpu(Stage::Kubelet, work_ns),
        PodStage::Volumes => Cause::Plain(Stage::Volumes),
        PodStage::Request { limited_ns } => Cause::Request {
            limiter: Stage::KubeletBucket,
            limited_ns,
            api: Stage::KubeletApi,
        },
        PodStage::ImagePull => Cause::Plain(Stage::ImagePull),
        PodStage::Sandbox { work_ns } => Cause::Cpu(Stage::Sandbox, work_ns),
        PodStage::Disk => Cause::Plain(Stage::Disk),
        PodStage::NetworkLock => Cause::Plain(Stage::NetworkLock),
        PodStage::Multus { work_ns } => Cause::Cpu(Stage::Multus, work_ns),
        PodStage::MultusApi => Cause::Plain(Stage::MultusApi),
        PodStage::Macvlan { work_ns } => Cause::Cpu(Stage::Macvlan, work_ns),
        PodStage::DuplicateDetection => Cause::Plain(Stage::DuplicateDetection),
        PodStage::Cleanup => Cause::Plain(Stage::Cleanup),
        PodStage::RetryDelay => Cause::Plain(Stage::RetryDelay),
        PodStage::Relist => Cause::Plain(Stage::Relist),
        PodStage::StatusQueue => Cause::Plain(Stage::StatusQueue),
        PodStage::StatusCpu { work_ns } => Cause::Cpu(Stage::StatusCpu, work_ns),
        PodStage::StatusRequest { limited_ns } => Cause::Request {
            limiter: Stage::StatusBucket,
            limited_ns,
            api: Stage::StatusApi,
        },
    }
}

fn ipam(stage: IpamStage) -> Stage {
    match stage {
        IpamStage::Cpu => Stage::IpamCpu,
        IpamStage::Api => Stage::IpamApi,
        IpamStage::Limiter => Stage::IpamLimiter,
        IpamStage::Queue => Stage::IpamQueue,
        IpamStage::Lock => Stage::IpamLock,
        IpamStage::Lease => Stage::IpamLease,
        IpamStage::Backoff => Stage::IpamBackoff,
        IpamStage::Controller => Stage::IpamController,
        IpamStage::DataPlane => Stage::IpamDataPlane,
    }
}

#[cfg(test)]
mod tests {
    use drydock_models::ids::NodeIndex;

    use super::*;

    const POD: PodUid = PodUid(3);

    fn starts(facts: &[(u64, Observation)]) -> Starts {
        let mut starts = Starts::default();
        for (at, fact) in facts {
            starts.observe(*at, fact);
        }
        starts
    }

    fn shown(segments: &[Segment]) -> Vec<(Stage, u64, u64)> {
        segments
            .iter()
            .map(|segment| (segment.stage, segment.start_ns, segment.end_ns))
            .collect()
    }

    #[test]
    fn the_time_of_a_step_is_split_into_work_and_waiting_without_a_gap() {
        let stage = |stage| Observation::PodStage { pod: POD, stage };
        let facts = [
            (120, Observation::PodCreated { pod: POD }),
            (130, stage(PodStage::Kubelet { work_ns: 5 })),
            (150, stage(PodStage::Request { limited_ns: 30 })),
            (190, stage(PodStage::Volumes)),
            (190, stage(PodStage::Sandbox { work_ns: 99 })),
            (200, Observation::PodRunning { pod: POD }),
            (210, stage(PodStage::RetryDelay)),
        ];
        let segments = starts(&facts).segments(POD, 100, 1_000);
        assert_eq!(
            shown(&segments),
            [
                (Stage::Creation, 0, 20),
                (Stage::Scheduling, 20, 30),
                (Stage::CpuWait, 30, 45),
                (Stage::Kubelet, 45, 50),
                (Stage::KubeletBucket, 50, 80),
                (Stage::KubeletApi, 80, 90),
                (Stage::Sandbox, 90, 100),
            ]
        );
    }

    #[test]
    fn what_an_orphan_of_the_ipam_does_is_not_waited_for() {
        let (node, pod) = (NodeIndex(0), POD);
        let stage = |container, stage| Observation::IpamStage {
            node,
            container: ContainerId(container),
            pod,
            stage,
        };
        let begin = |container| Observation::IpamAddStarted {
            node,
            container: ContainerId(container),
            pod,
        };
        let pause = PodStage::RetryDelay;
        let facts = [
            (0, Observation::PodCreated { pod }),
            (10, begin(1)),
            (20, stage(1, IpamStage::Lease)),
            (30, Observation::PodStage { pod, stage: pause }),
            (40, stage(1, IpamStage::Api)),
            (50, begin(2)),
            (60, stage(1, IpamStage::Api)),
            (70, stage(2, IpamStage::Lock)),
        ];
        let segments = starts(&facts).segments(POD, 0, 80);
        assert_eq!(
            shown(&segments),
            [
                (Stage::Scheduling, 0, 10),
                (Stage::Ipam, 10, 20),
                (Stage::IpamLease, 20, 30),
                (Stage::RetryDelay, 30, 50),
                (Stage::Ipam, 50, 70),
                (Stage::IpamLock, 70, 80),
            ]
        );
    }
}
