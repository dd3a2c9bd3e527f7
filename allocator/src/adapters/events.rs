//! Reports for people as Kubernetes Events. What repeats within ten minutes is folded into one, and
//! no more are posted than a bucket allows: in a storm of failures the apiserver has other work.

use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::apiserver::KubeApi;
use super::bucket::{Rate, TokenBucket};
use super::clock::{boot_time, wall_time};
use super::line::one_line;
use super::metrics::Metrics;
use crate::core::api::ApiError;
use crate::core::time::{BootTime, WallTime};

/// How long a posted report is not posted again.
const FOLDED_FOR: Duration = Duration::from_mins(10);
/// Reports that are remembered for folding.
const FOLDED_MAX: usize = 1024;
/// Reports that wait to be posted.
const WAITING_MAX: usize = 256;
/// As client-go's spam filter allows one source a burst of 25.
const RATE: Rate = Rate {
    per_second: 1,
    burst: 25,
};
/// Units: bytes. The apiserver refuses longer notes.
const NOTE_BYTES_MAX: usize = 1024;
/// Reasons that are not complaints.
const NORMAL: [&str; 2] = ["BurialBegun", "Buried"];

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Regarding {
    /// `v1`, for instance.
    pub api_version: &'static str,
    /// `Pod`, for instance.
    pub kind: &'static str,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, or empty.
    pub uid: String,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    /// About what.
    pub regarding: Regarding,
    /// Why, for machines.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// Who reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// `berth.dev/agent`, for instance.
    pub controller: &'static str,
    /// The node or replica.
    pub instance: String,
}

/// Where Events are created.
pub trait EventApi: Send + Sync + 'static {
    /// Creates an Event.
    fn post(
        &self,
        namespace: &str,
        event: Value,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;
}

impl EventApi for KubeApi {
    async fn post(&self, namespace: &str, event: Value) -> Result<(), ApiError> {
        self.post_event(namespace, &event).await
    }
}

/// Takes reports without ever waiting.
#[derive(Clone)]
pub struct EventSink {
    sender: mpsc::Sender<Report>,
    metrics: Arc<Metrics>,
}

impl EventSink {
    /// A sink whose reports are posted through `api` until it is dropped. Within a tokio runtime.
    pub fn new(api: impl EventApi, reporter: Reporter, metrics: Arc<Metrics>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(post_all(api, reporter, receiver, metrics.clone()));
        Self { sender, metrics }
    }

    /// Has it posted, if there is room.
    pub fn report(&self, report: Report) {
        if self.sender.try_send(report).is_err() {
            self.metrics.event("dropped");
        }
    }
}

/// Reports by when they were last posted, and how often they came since.
#[derive(Default)]
struct Folded(BTreeMap<Report, (BootTime, u64)>);

impl Folded {
    /// Whether to post it now: how often it was folded before.
    fn admit(&mut self, report: &Report, now: BootTime) -> Option<u64> {
        if let Some((posted, count)) = self.0.get_mut(report)
            && now.since(*posted) < FOLDED_FOR
        {
            *count += 1;
            return None;
        }
        if self.0.len() >= FOLDED_MAX {
            self.0
                .retain(|_, (posted, _)| now.since(*posted) < FOLDED_FOR);
        }
        if self.0.len() >= FOLDED_MAX {
            self.0.pop_first();
        }
        let before = self.0.insert(report.clone(), (now, 0));
        Some(before.map_or(0, |(_, count)| count))
    }
}

async fn post_all(
    api: impl EventApi,
    reporter: Reporter,
    mut reports: mpsc::Receiver<Report>,
    metrics: Arc<Metrics>,
) {
    let bucket = TokenBucket::new(RATE);
    let mut folded = Folded::default();
    let mut sequence = 0;
    while let Some(report) = reports.recv().await {
        let Some(repeats) = folded.admit(&report, boot_time()) else {
            metrics.event("folded");
            continue;
        };
        if !bucket.try_take() {
            metrics.event("dropped");
            continue;
        }
        sequence += 1;
        let namespace = namespace_of(&report.regarding).to_owned();
        let event = event(&report, &reporter, repeats, wall_time(), sequence);
        match api.post(&namespace, event).await {
            Ok(()) => metrics.event("posted"),
            Err(error) => {
                metrics.event("failed");
                tracing::warn!(%error, reason = report.reason, "an Event was not posted");
            }
        }
    }
}

fn namespace_of(regarding: &Regarding) -> &str {
    match regarding.namespace.as_str() {
        // Where the apiserver wants Events of cluster-scoped objects.
        "" => "default",
        namespace => namespace,
    }
}

fn event(
    report: &Report,
    reporter: &Reporter,
    repeats: u64,
    now: WallTime,
    sequence: u64,
) -> Value {
    let regarding = &report.regarding;
    let mut note = one_line(&report.message).into_owned();
    if repeats > 0 {
        note = format!("{note} ({repeats} more since the last report)");
    }
    if note.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX)
            .rev()
            .find(|i| note.is_char_boundary(*i));
        note.truncate(end.unwrap_or(0));
    }
    let stem: String = regarding.name.chars().take(200).collect();
    let name = format!("{}.{:x}-{sequence:x}", stem.to_ascii_lowercase(), now.0);
    let mut about = json!({
        "apiVersion": regarding.api_version,
        "kind": regarding.kind,
        "name": regarding.name,
    });
    if !regarding.namespace.is_empty() {
        about["namespace"] = regarding.namespace.clone().into();
    }
    if !regarding.uid.is_empty() {
        about["uid"] = regarding.uid.clone().into();
    }
    let kind = if NORMAL.contains(&report.reason) {
        "Normal"
    } else {
        "Warning"
    };
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace_of(regarding)},
        "eventTime": now.rfc3339_micro(),
        "reportingController": reporter.controller,
        "reportingInstance": reporter.instance,
        "action": "ManageAddress",
        "reason": report.reason,
        "regarding": about,
        "note": note,
        "type": kind,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Recorder(Arc<Mutex<Vec<(String, Value)>>>);

    impl EventApi for Recorder {
        async fn post(&self, namespace: &str, event: Value) -> Result<(), ApiError> {
            let mut posted = self.0.lock().unwrap();
            posted.push((namespace.to_owned(), event));
            Ok(())
        }
    }

    fn report(pod: &str, message: &str) -> Report {
        Report {
            regarding: Regarding {
                api_version: "v1",
                kind: "Pod",
                namespace: "shop".into(),
                name: pod.into(),
                uid: "u-1".into(),
            },
            reason: "AddressFailed",
            message: message.into(),
        }
    }

    /// What is posted of these reports, and the metrics page after.
    async fn posted(reports: Vec<Report>) -> (Vec<(String, Value)>, String) {
        let all = Arc::new(Mutex::new(Vec::new()));
        let metrics = Arc::new(Metrics::for_agent());
        let (sender, receiver) = mpsc::channel(reports.len());
        for report in reports {
            sender.send(report).await.unwrap();
        }
        drop(sender);
        let reporter = Reporter {
            controller: "berth.dev/agent",
            instance: "n1".into(),
        };
        post_all(Recorder(all.clone()), reporter, receiver, metrics.clone()).await;
        let posted = all.lock().unwrap().clone();
        (posted, metrics.render(boot_time()))
    }

    #[tokio::test]
    async fn a_report_on_a_pod_lands_in_the_pods_namespace() {
        let (posted, _) = posted(vec![report("web-0", "no address")]).await;
        let (namespace, event) = &posted[0];
        assert_eq!(namespace, "shop");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(
            event["regarding"],
            json!({
                "apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0",
                "uid": "u-1",
            })
        );
        assert_eq!(event["note"], "no address");
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["reportingInstance"], "n1");
        let name = event["metadata"]["name"].as_str().unwrap();
        assert!(crate::core::names::is_object_name(name), "{name}");
    }

    #[tokio::test]
    async fn repeats_are_folded_and_a_storm_is_cut() {
        let mut reports = vec![report("a", "x"); 50];
        reports.extend((0..100).map(|i| report(&format!("p{i}"), "x")));
        let (posted, page) = posted(reports).await;
        assert_eq!(posted.len(), 25, "the burst");
        let line = |text: &str| page.lines().any(|line| line == text);
        assert!(line(r#"berth_events_total{result="posted"} 25"#), "{page}");
        assert!(line(r#"berth_events_total{result="folded"} 49"#), "{page}");
        assert!(line(r#"berth_events_total{result="dropped"} 76"#), "{page}");
    }

    #[test]
    fn a_folded_report_comes_again_with_its_count() {
        let mut folded = Folded::default();
        let at = |minutes| BootTime::new(Duration::from_mins(minutes));
        let of = report("a", "x");
        assert_eq!(folded.admit(&of, at(1)), Some(0));
        assert_eq!(folded.admit(&of, at(2)), None);
        assert_eq!(folded.admit(&of, at(10)), None);
        assert_eq!(folded.admit(&of, at(11)), Some(2));
        for i in 0..3 * FOLDED_MAX {
            folded.admit(&report(&format!("p{i}"), "x"), at(12));
        }
        assert!(folded.0.len() <= FOLDED_MAX);
    }

    #[tokio::test]
    async fn a_note_is_one_line_whatever_was_quoted_in_it() {
        let (posted, _) = posted(vec![report("a", "pool \"x\ny\u{1b}[2J\" is unknown")]).await;
        assert_eq!(posted[0].1["note"], r#"pool "x\ny\u{1b}[2J" is unknown"#);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let reporter = Reporter {
            controller: "c",
            instance: "i".into(),
        };
        let long = report("a", &"é".repeat(NOTE_BYTES_MAX));
        let event = event(&long, &reporter, 0, WallTime::default(), 1);
        assert_eq!(event["note"].as_str().unwrap().len(), NOTE_BYTES_MAX);
        let mut cluster_scoped = long;
        cluster_scoped.regarding.namespace.clear();
        let event = super::event(&cluster_scoped, &reporter, 0, WallTime::default(), 1);
        assert_eq!(event["metadata"]["namespace"], "default");
    }
}
