//! The loop of an agent.

use core::pin::pin;
use std::collections::{BTreeMap, VecDeque};

use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use futures::stream::FuturesUnordered;

use super::{carry, next_of, ready_events};
use crate::core::agent::{Agent, Finding, Input, Output};
use crate::core::api::{ApiError, ApiRequest, Applied, WatchEvent, WatchId};
use crate::core::exchange::{Failure, InboxEvent, PluginRequest, Response, Verb};
use crate::core::time::BootTime;
use crate::ports::{
    AgentPorts, ApiServer, Clock, Entropy, Inbox, Journal, Namespaces, Observer, Sandboxes, Spool,
};

type WatchOf<P> = <<P as AgentPorts>::Api as ApiServer>::Watch;

/// What a port call in flight ends with.
enum Done<W> {
    Nothing,
    Input(Input),
    Inbox(Option<InboxEvent>),
    NamespacesChanged,
    SpoolChanged,
    Parts(Vec<Finding>),
    Watch(WatchId, Vec<WatchEvent>, Option<W>),
}

struct Shell<'p, P: AgentPorts> {
    ports: &'p P,
    running: FuturesUnordered<BoxFuture<'p, Done<WatchOf<P>>>>,
    watches: BTreeMap<WatchId, AbortHandle>,
    sleep: Option<(BootTime, BoxFuture<'p, ()>)>,
    inputs: VecDeque<Input>,
}

/// Runs an agent until its inbox ends. One future, without spawns: dropping it is a kill.
pub async fn run_agent<P: AgentPorts>(mut agent: Agent, ports: &P) {
    let mut shell = Shell {
        ports,
        running: FuturesUnordered::new(),
        watches: BTreeMap::new(),
        sleep: None,
        inputs: VecDeque::from([Input::Start]),
    };
    shell.await_inbox();
    shell.await_namespaces();
    shell.await_spool();
    shell.await_parts();
    loop {
        while let Some(input) = shell.inputs.pop_front() {
            agent.wall_is(ports.clock().wall());
            let outputs = agent.handle(ports.clock().now(), ports.entropy().draw(), input);
            shell.execute(outputs).await;
        }
        ports.observer().agent_state(|| agent.state());
        if !shell.next().await {
            return;
        }
    }
}

impl<'p, P: AgentPorts> Shell<'p, P> {
    /// Waits for one completion and turns it into inputs; false at the end of the inbox.
    async fn next(&mut self) -> bool {
        let done = match &mut self.sleep {
            // The timer comes first: `select` polls in this order.
            Some((_, sleep)) => match select(sleep, pin!(next_of(&mut self.running))).await {
                Either::Left(((), _)) => {
                    self.sleep = None;
                    self.inputs.push_back(Input::Wake);
                    return true;
                }
                Either::Right((done, _)) => done,
            },
            None => next_of(&mut self.running).await,
        };
        match done {
            Done::Nothing => {}
            Done::Input(input) => self.inputs.push_back(input),
            Done::Inbox(None) => return false,
            Done::Inbox(Some(event)) => {
                self.await_inbox();
                match event {
                    InboxEvent::Closed(id) => self.inputs.push_back(Input::Closed(id)),
                    InboxEvent::Request(request) => self.look_first(request),
                }
            }
            Done::NamespacesChanged => {
                self.await_namespaces();
                self.inputs.push_back(Input::NamespacesChanged);
            }
            Done::SpoolChanged => {
                self.await_spool();
                self.inputs.push_back(Input::SpoolChanged);
            }
            Done::Parts(findings) => {
                self.await_parts();
                self.inputs.push_back(Input::Parts(findings));
            }
            Done::Watch(id, events, watch) => {
                if self.watches.contains_key(&id) {
                    match watch {
                        Some(watch) => self.await_watch(id, watch),
                        None => drop(self.watches.remove(&id)),
                    }
                    self.inputs.push_back(Input::Watch { watch: id, events });
                }
            }
        }
        true
    }

    /// ADD and DEL come with a look at their namespace's path.
    fn look_first(&mut self, request: Box<PluginRequest>) {
        let path = match &request.verb {
            Verb::Add(add) => add.netns.clone(),
            Verb::Del(del) => del.netns.clone(),
            Verb::Check(_) | Verb::Gc(_) | Verb::Status => String::new(),
        };
        if path.is_empty() {
            self.inputs.push_back(Input::Request {
                request,
                probe: None,
            });
            return;
        }
        let ports = self.ports;
        self.run(async move {
            let probe = ports.namespaces().probe(&path).await;
            Done::Input(Input::Request {
                request,
                probe: Some(probe),
            })
        });
    }

    fn run(&mut self, call: impl Future<Output = Done<WatchOf<P>>> + Send + 'p) {
        self.running.push(Box::pin(call));
    }

    fn await_inbox(&mut self) {
        let ports = self.ports;
        self.run(async move { Done::Inbox(ports.inbox().next().await) });
    }

    fn await_namespaces(&mut self) {
        let ports = self.ports;
        self.run(async move {
            ports.namespaces().changed().await;
            Done::NamespacesChanged
        });
    }

    fn await_spool(&mut self) {
        let ports = self.ports;
        self.run(async move {
            ports.spool().changed().await;
            Done::SpoolChanged
        });
    }

    fn await_parts(&mut self) {
        let ports = self.ports;
        self.run(async move { Done::Parts(ports.parts().await) });
    }

    fn await_watch(&mut self, id: WatchId, mut watch: WatchOf<P>) {
        let (handle, registration) = AbortHandle::new_pair();
        self.watches.insert(id, handle);
        let next = Abortable::new(
            async move {
                let (events, open) = ready_events(&mut watch).await;
                Done::Watch(id, events, open.then_some(watch))
            },
            registration,
        );
        self.run(async move { next.await.unwrap_or(Done::Nothing) });
    }

    fn open_watch(&mut self, id: WatchId, query: crate::core::api::WatchQuery) {
        let ports = self.ports;
        let (handle, registration) = AbortHandle::new_pair();
        self.watches.insert(id, handle);
        let first = Abortable::new(
            async move {
                match ports.api().watch(&query).await {
                    Ok(mut watch) => {
                        let (events, open) = ready_events(&mut watch).await;
                        Done::Watch(id, events, open.then_some(watch))
                    }
                    Err(ApiError::Gone) => Done::Watch(id, vec![WatchEvent::Expired], None),
                    Err(_) => Done::Watch(id, vec![WatchEvent::Closed], None),
                }
            },
            registration,
        );
        self.run(async move { first.await.unwrap_or(Done::Nothing) });
    }

    /// Begins the outputs in their order. After an append that failed, what rests on it is not
    /// done: see [`Output`].
    async fn execute(&mut self, outputs: Vec<Output>) {
        let ports = self.ports;
        let mut append_failed = false;
        let mut refused = Vec::new();
        for output in outputs {
            match output {
                Output::OpenJournal => self.run(async move {
                    Done::Input(Input::JournalOpened(ports.journal().open().await))
                }),
                Output::Append(bytes) => {
                    append_failed |= ports.journal().append(bytes).await.is_err();
                }
                Output::Compact(bytes) => {
                    append_failed |= ports.journal().compact(bytes).await.is_err();
                }
                Output::Call {
                    call,
                    request: ApiRequest::Create(_) | ApiRequest::Replace(..),
                } if append_failed => {
                    let result = Err(ApiError::Unavailable(Applied::Not));
                    self.inputs.push_back(Input::Api { call, result });
                }
                Output::Call { call, request } => self.run(async move {
                    let result = carry(ports.api(), request).await;
                    Done::Input(Input::Api { call, result })
                }),
                Output::Watch { watch, query } => self.open_watch(watch, query),
                Output::Unwatch(watch) => {
                    if let Some(handle) = self.watches.remove(&watch) {
                        handle.abort();
                    }
                }
                Output::Wake(at) => self.wake_at(at),
                Output::Probe { probe, path } => self.run(async move {
                    let result = ports.namespaces().probe(&path).await;
                    Done::Input(Input::Probed { probe, result })
                }),
                Output::ListSpool => {
                    self.run(async move { Done::Input(Input::Spool(ports.spool().list().await)) });
                }
                Output::RemoveSpool(id) => self.run(async move {
                    if let Err(error) = ports.spool().remove(&id).await {
                        tracing::warn!(%error, "a spool entry stays and will be applied again");
                    }
                    Done::Nothing
                }),
                Output::SetSpoolAside(id) => self.run(async move {
                    if let Err(error) = ports.spool().set_aside(&id).await {
                        tracing::warn!(%error, "an unreadable spool entry stays");
                    }
                    Done::Nothing
                }),
                Output::ListSandboxes => self.run(async move {
                    Done::Input(Input::Sandboxes(ports.sandboxes().list().await))
                }),
                Output::Reply { request, response } => {
                    let response = if append_failed && matches!(response, Response::Added(_)) {
                        refused.push(request);
                        let text = "the journal could not be written";
                        Response::Failed(Failure::new(Failure::IO, text))
                    } else {
                        response
                    };
                    self.run(async move {
                        ports.inbox().reply(request, response).await;
                        Done::Nothing
                    });
                }
                Output::SetJournalAside => {
                    if let Err(error) = ports.journal().set_aside().await {
                        tracing::warn!(%error, "the damaged journal could not be kept");
                    }
                }
                Output::Metric(metric) => ports.observer().metric(metric),
                Output::Event {
                    subject,
                    reason,
                    message,
                } => ports.observer().event_about(subject, reason, message),
            }
        }
        if append_failed {
            self.inputs.push_front(Input::AppendFailed { refused });
        }
    }

    /// A sleep that ends earlier than wanted is kept: an early wake is answered by the next time.
    fn wake_at(&mut self, at: BootTime) {
        if self.sleep.as_ref().is_none_or(|(until, _)| at < *until) {
            let ports = self.ports;
            let sleep = async move { ports.clock().sleep_until(at).await };
            self.sleep = Some((at, Box::pin(sleep)));
        }
    }
}
