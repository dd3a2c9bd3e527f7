//! What Prometheus reads: base units, no label per Pod, address or container.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::apiserver::unnamed_count;
use crate::core::agent::{AgentState, COUNTERS};
use crate::core::controller::ControllerState;
use crate::core::objects::Kind;
use crate::core::report::Metric;
use crate::core::time::BootTime;

type Labels<const N: usize> = [(&'static str, String); N];

/// From 0.25 ms, which a warm answer from memory takes, to 128 s, past any deadline.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 20))
}

fn gauge_value(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What a process measures. The role decides which parts are registered.
pub struct Metrics {
    registry: Registry,
    answers: Family<Labels<2>, Counter>,
    answer_seconds: Family<Labels<1>, Histogram>,
    api_requests: Family<Labels<3>, Counter>,
    api_seconds: Family<Labels<2>, Histogram>,
    events: Family<Labels<1>, Counter>,
    counters: BTreeMap<&'static str, Counter>,
    other: Family<Labels<1>, Counter>,
    ordinals: Family<Labels<1>, Gauge>,
    waiting: Family<Labels<1>, Gauge>,
    pools: Family<Labels<2>, Gauge>,
    machines: Family<Labels<1>, Gauge>,
    serving: Gauge,
    leads: Gauge,
    epoch: Gauge,
    epoch_age_seconds: Gauge,
    distrusted: Gauge,
    exhausted: Gauge,
    tombstones: Gauge,
    calls: Gauge,
    spool: Gauge,
    burials_held: Gauge,
    set_aside: Family<Labels<1>, Gauge>,
    writes_refused: Gauge,
    unnamed: Gauge,
    parts: Family<Labels<1>, Gauge>,
    agent: Mutex<AgentState>,
    controller: Mutex<ControllerState>,
}

impl Metrics {
    fn empty() -> Self {
        Self {
            registry: Registry::default(),
            answers: Family::default(),
            answer_seconds: Family::new_with_constructor(seconds),
            api_requests: Family::default(),
            api_seconds: Family::new_with_constructor(seconds),
            events: Family::default(),
            counters: BTreeMap::new(),
            other: Family::default(),
            ordinals: Family::default(),
            waiting: Family::default(),
            pools: Family::default(),
            machines: Family::default(),
            serving: Gauge::default(),
            leads: Gauge::default(),
            epoch: Gauge::default(),
            epoch_age_seconds: Gauge::default(),
            distrusted: Gauge::default(),
            exhausted: Gauge::default(),
            tombstones: Gauge::default(),
            calls: Gauge::default(),
            spool: Gauge::default(),
            burials_held: Gauge::default(),
            set_aside: Family::default(),
            writes_refused: Gauge::default(),
            unnamed: Gauge::default(),
            parts: Family::default(),
            agent: Mutex::default(),
            controller: Mutex::default(),
        }
    }

    fn register_common(&mut self) {
        let build: Family<Labels<1>, Gauge> = Family::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())])
            .set(1);
        let registry = &mut self.registry;
        registry.register("berth_build_info", "Which program this is", build);
        registry.register(
            "berth_api_requests",
            "Requests to the apiserver by verb, resource and result",
            self.api_requests.clone(),
        );
        registry.register(
            "berth_api_request_seconds",
            "How long the apiserver took, with the wait for a token",
            self.api_seconds.clone(),
        );
        registry.register(
            "berth_events",
            "Kubernetes Events: posted, folded into an earlier one, dropped or failed",
            self.events.clone(),
        );
        registry.register(
            "berth_objects_set_aside",
            "Objects that are there and cannot be read, by kind",
            self.set_aside.clone(),
        );
        registry.register(
            "berth_objects_without_name",
            "What the apiserver sent and nothing names, since the start",
            self.unnamed.clone(),
        );
        registry.register(
            "berth_reports",
            "Counters of the core without a description",
            self.other.clone(),
        );
    }

    /// What an agent measures.
    pub fn for_agent() -> Self {
        let mut metrics = Self::empty();
        metrics.register_common();
        let registry = &mut metrics.registry;
        for (name, help) in COUNTERS {
            let counter = Counter::default();
            // The encoder appends the suffix itself.
            let base = name.strip_suffix("_total").unwrap_or(name);
            registry.register(base, help, counter.clone());
            metrics.counters.insert(name, counter);
        }
        registry.register(
            "berth_answers",
            "Answers to plugins by verb and CNI code; 0 is success",
            metrics.answers.clone(),
        );
        registry.register(
            "berth_answer_seconds",
            "How long plugins waited for an answer",
            metrics.answer_seconds.clone(),
        );
        registry.register(
            "berth_ordinals",
            "Ordinals that this node holds, by state",
            metrics.ordinals.clone(),
        );
        registry.register(
            "berth_waiting",
            "ADDs and claims that wait",
            metrics.waiting.clone(),
        );
        registry.register(
            "berth_part_up",
            "1 while what the agent depends on is there, 0 while it is lost",
            metrics.parts.clone(),
        );
        metrics.register_agent_gauges();
        metrics
    }

    fn register_agent_gauges(&mut self) {
        for (name, help, gauge) in [
            ("berth_serving", "1 while ADDs are served", &self.serving),
            ("berth_epoch", "Number of the incarnation", &self.epoch),
            (
                "berth_epoch_age_seconds",
                "Since the last request that showed the incarnation live; -1: none did",
                &self.epoch_age_seconds,
            ),
            (
                "berth_blocks_distrusted",
                "Blocks that wait for a fence",
                &self.distrusted,
            ),
            (
                "berth_pools_exhausted",
                "Pools where claims wait and nothing is free",
                &self.exhausted,
            ),
            (
                "berth_tombstones",
                "DELs that came before their ADD",
                &self.tombstones,
            ),
            (
                "berth_api_requests_in_flight",
                "Requests without an answer",
                &self.calls,
            ),
            (
                "berth_spool_entries",
                "DELs that no agent took in yet",
                &self.spool,
            ),
        ] {
            self.registry.register(name, help, gauge.clone());
        }
    }

    /// What a controller measures.
    pub fn for_controller() -> Self {
        let mut metrics = Self::empty();
        metrics.register_common();
        let registry = &mut metrics.registry;
        registry.register(
            "berth_leader",
            "1 while this process leads",
            metrics.leads.clone(),
        );
        registry.register(
            "berth_burials_held",
            "Machines whose burial waits for the hourly limit",
            metrics.burials_held.clone(),
        );
        registry.register(
            "berth_writes_refused",
            "Objects whose last write the apiserver refused",
            metrics.writes_refused.clone(),
        );
        registry.register(
            "berth_pool_addresses",
            "Ordinals of a pool as of the last count: capacity, held, free",
            metrics.pools.clone(),
        );
        registry.register(
            "berth_machines",
            "Machines by state of their incarnation",
            metrics.machines.clone(),
        );
        metrics
    }

    /// A counter of the core moved.
    pub fn count(&self, metric: &Metric) {
        match self.counters.get(metric.name) {
            Some(counter) => counter.inc_by(metric.increment),
            None => self
                .other
                .get_or_create(&[("name", metric.name.to_owned())])
                .inc_by(metric.increment),
        };
    }

    /// A plugin was answered with that CNI code, 0 for success, or hung up before.
    pub fn answered(&self, verb: &'static str, code: Option<u32>, took: Duration) {
        let verb = ("verb", verb.to_owned());
        let code = code.map_or_else(|| "gone".to_owned(), |code| code.to_string());
        self.answers
            .get_or_create(&[verb.clone(), ("code", code)])
            .inc();
        self.answer_seconds
            .get_or_create(&[verb])
            .observe(took.as_secs_f64());
    }

    /// The apiserver answered.
    pub fn api_answered(&self, verb: &str, resource: &str, result: &str, took: Duration) {
        let (verb, resource) = (("verb", verb.to_owned()), ("resource", resource.to_owned()));
        self.api_requests
            .get_or_create(&[
                verb.clone(),
                resource.clone(),
                ("result", result.to_owned()),
            ])
            .inc();
        self.api_seconds
            .get_or_create(&[verb, resource])
            .observe(took.as_secs_f64());
    }

    /// What became of a Kubernetes Event.
    pub fn event(&self, result: &str) {
        self.events
            .get_or_create(&[("result", result.to_owned())])
            .inc();
    }

    /// How many DELs lie in the spool.
    pub fn spool(&self, count: usize) {
        self.spool.set(gauge_value(count as u64));
    }

    /// How the agent stands.
    pub fn agent(&self) -> MutexGuard<'_, AgentState> {
        self.agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the controller stands.
    pub fn controller(&self) -> MutexGuard<'_, ControllerState> {
        self.controller
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn set_agent(&self, now: BootTime) {
        let state = self.agent();
        self.serving.set(i64::from(state.is_serving));
        self.epoch.set(gauge_value(state.epoch));
        let age = now.since(state.epoch_shown_at).as_secs();
        let known = state.epoch_shown_at != BootTime::ZERO;
        self.epoch_age_seconds
            .set(if known { gauge_value(age) } else { -1 });
        for (label, count) in [
            ("unbound", state.ordinals_unbound),
            ("bound", state.ordinals_bound),
            ("releasing", state.ordinals_releasing),
            ("lost", state.ordinals_lost),
        ] {
            self.ordinals
                .get_or_create(&[("state", label.to_owned())])
                .set(gauge_value(count));
        }
        for (label, count) in [("add", state.adds_waiting), ("claim", state.claims_waiting)] {
            self.waiting
                .get_or_create(&[("what", label.to_owned())])
                .set(gauge_value(count));
        }
        for part in &state.parts {
            self.parts
                .get_or_create(&[("part", part.part.name().to_owned())])
                .set(i64::from(part.lost.is_none()));
        }
        self.distrusted.set(gauge_value(state.blocks_distrusted));
        self.exhausted.set(gauge_value(state.pools_exhausted));
        self.tombstones.set(gauge_value(state.tombstones));
        self.calls.set(gauge_value(state.calls_in_flight));
    }

    fn set_controller(&self) {
        let state = self.controller();
        self.leads.set(i64::from(state.leads));
        self.burials_held.set(gauge_value(state.burials_held));
        // A pool that is gone is not reported on.
        self.pools.clear();
        for pool in &state.pools {
            for (label, count) in [
                ("capacity", pool.capacity),
                ("held", pool.held),
                ("free", pool.free),
            ] {
                self.pools
                    .get_or_create(&[("pool", pool.name.clone()), ("state", label.to_owned())])
                    .set(gauge_value(count));
            }
        }
        for (label, count) in [
            ("live", state.machines_live),
            ("dying", state.machines_dying),
            ("dead", state.machines_dead),
        ] {
            self.machines
                .get_or_create(&[("state", label.to_owned())])
                .set(gauge_value(count));
        }
    }

    /// A process has one of the two roles; the other's state is empty.
    fn set_unread(&self) {
        let (agent, controller) = (self.agent(), self.controller());
        for kind in Kind::ALL {
            let of = |counts: &BTreeMap<Kind, u64>| counts.get(&kind).copied().unwrap_or(0);
            self.set_aside
                .get_or_create(&[("kind", format!("{kind:?}"))])
                .set(gauge_value(
                    of(&agent.set_aside) + of(&controller.set_aside),
                ));
        }
        self.writes_refused
            .set(gauge_value(controller.writes_refused));
        self.unnamed.set(gauge_value(unnamed_count()));
    }

    /// All of it, in the OpenMetrics text format.
    pub fn render(&self, now: BootTime) -> String {
        self.set_agent(now);
        self.set_controller();
        self.set_unread();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String succeeds");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::{HostPart, PartState};
    use crate::core::controller::PoolCount;

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
    }

    #[test]
    fn an_agents_page_states_answers_requests_and_holdings() {
        let metrics = Metrics::for_agent();
        metrics.answered("ADD", Some(0), Duration::from_millis(3));
        metrics.answered("ADD", Some(11), Duration::from_secs(2));
        metrics.answered("DEL", None, Duration::ZERO);
        metrics.api_answered("update", "addressblocks", "conflict", Duration::ZERO);
        metrics.count(&Metric {
            name: "berth_fences_total",
            label: String::new(),
            increment: 2,
        });
        metrics.spool(4);
        let part = |part, lost: Option<&str>| PartState {
            part,
            lost: lost.map(str::to_owned),
            since: BootTime::ZERO,
        };
        *metrics.agent() = AgentState {
            ordinals_bound: 7,
            set_aside: [(Kind::AddressPool, 2)].into(),
            parts: vec![
                part(HostPart::Runtime, Some("refused")),
                part(HostPart::Spool, None),
            ],
            epoch_shown_at: BootTime::new(Duration::from_secs(10)),
            ..AgentState::default()
        };
        let text = metrics.render(BootTime::new(Duration::from_secs(25)));
        has(&text, r#"berth_answers_total{verb="ADD",code="0"} 1"#);
        has(&text, r#"berth_answers_total{verb="ADD",code="11"} 1"#);
        has(&text, r#"berth_answers_total{verb="DEL",code="gone"} 1"#);
        has(&text, r#"berth_answer_seconds_count{verb="ADD"} 2"#);
        has(
            &text,
            r#"berth_api_requests_total{verb="update",resource="addressblocks",result="conflict"} 1"#,
        );
        has(&text, "berth_fences_total 2");
        has(&text, "berth_spool_entries 4");
        has(&text, r#"berth_part_up{part="runtime"} 0"#);
        has(&text, r#"berth_part_up{part="spool"} 1"#);
        has(&text, r#"berth_ordinals{state="bound"} 7"#);
        has(&text, "berth_epoch_age_seconds 15");
        has(&text, r#"berth_objects_set_aside{kind="AddressPool"} 2"#);
        has(&text, r#"berth_objects_set_aside{kind="Node"} 0"#);
        has(&text, "# EOF");
    }

    #[test]
    fn every_counter_of_the_core_is_on_the_page_from_the_start() {
        let text = Metrics::for_agent().render(BootTime::ZERO);
        for (name, _) in COUNTERS {
            has(&text, &format!("{name} 0"));
        }
        has(&text, "berth_epoch_age_seconds -1");
    }

    #[test]
    fn a_pool_that_is_gone_leaves_the_page() {
        let metrics = Metrics::for_controller();
        metrics.controller().pools = vec![PoolCount {
            name: "p".into(),
            capacity: 9,
            held: 4,
            free: 5,
        }];
        let line = r#"berth_pool_addresses{pool="p",state="free"} 5"#;
        has(&metrics.render(BootTime::ZERO), line);
        metrics.controller().pools.clear();
        assert!(!metrics.render(BootTime::ZERO).contains("pool=\"p\""));
    }
}
