//! Namespaces, read one by one when a pool asks for their labels, and believed for a while. They
//! are not watched: every agent of a large cluster would be told of every change of every
//! Namespace, while an agent needs those of its own Pods, at most once in the time that they are
//! believed, and only while Pods come.

use super::Agent;
use super::errands::Purpose;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency};
use crate::core::choice::NamespaceFacts;
use crate::core::objects::{Kind, Object, ObjectKey};
use crate::core::time::BootTime;

/// What is known of a Namespace.
#[derive(Default)]
pub(super) struct NamespaceView {
    /// As it was read, and when that was asked for.
    read: Option<(NamespaceFacts, BootTime)>,
    /// When the request in flight was sent.
    asked: Option<BootTime>,
    /// Not asked again before this.
    not_before: BootTime,
    failure_count: u32,
}

impl Agent {
    /// What is known of a Namespace, if it was asked for lately enough to count.
    pub(super) fn namespace_facts(&self, name: &str) -> Option<&NamespaceFacts> {
        let (facts, sent) = self.namespaces.get(name)?.read.as_ref()?;
        (self.now.since(*sent) < self.config.policy.namespace_valid).then_some(facts)
    }

    /// Has the Namespace read, unless that is under way or failed just now.
    pub(super) fn need_namespace(&mut self, name: &str) {
        let now = self.now;
        let view = self.namespaces.entry(name.to_owned()).or_default();
        if view.asked.is_some() || view.not_before > now {
            return;
        }
        view.asked = Some(now);
        let key = ObjectKey::cluster(Kind::Namespace, name);
        self.call(
            Purpose::Namespace(name.to_owned()),
            ApiRequest::Get(key, Consistency::Quorum),
        );
    }

    pub(super) fn namespace_read(&mut self, name: &str, result: Result<ApiReply, ApiError>) {
        let entropy = self.draw();
        let now = self.now;
        let backoff = self.config.policy.api_retry;
        let view = self.namespaces.get_mut(name);
        let view = view.expect("a Namespace is not forgotten while it is read");
        let sent = view.asked.take().expect("what was answered was asked");
        if let Ok(ApiReply::Object(Object::Namespace(namespace))) = result {
            view.read = Some((NamespaceFacts::read(&namespace.metadata), sent));
            view.failure_count = 0;
        } else {
            // Gone, forbidden or unavailable: not known, and so admitted nowhere by its labels.
            view.not_before = now + backoff.pause(view.failure_count, entropy);
            view.failure_count = view.failure_count.saturating_add(1);
            let at = view.not_before;
            self.arm(Timer::Namespace(name.to_owned()), at);
            if let Err(ApiError::Invalid { message }) = result {
                let text = format!("Namespace {name} cannot be read: {message}");
                self.event("NamespaceUnreadable", text);
            }
        }
        self.touch_namespace(name);
        self.forget_namespaces();
    }

    /// Lets the Pods of a Namespace go on.
    pub(super) fn touch_namespace(&mut self, name: &str) {
        let of = self.pods.iter().filter(|(_, pod)| {
            let namespace = pod.name.split_once('/').map(|(namespace, _)| namespace);
            namespace == Some(name)
        });
        let uids: Vec<_> = of.map(|(uid, _)| uid.clone()).collect();
        self.touched_pods.extend(uids);
    }

    /// Namespaces that nobody of this node asks for anymore.
    fn forget_namespaces(&mut self) {
        let (now, valid) = (self.now, self.config.policy.namespace_valid);
        self.namespaces.retain(|_, view| {
            let counts = view
                .read
                .as_ref()
                .is_some_and(|(_, sent)| now.since(*sent) < valid);
            counts || view.asked.is_some() || view.not_before > now
        });
    }
}
