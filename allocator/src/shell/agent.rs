//! The loop of an agent.

use std::collections::VecDeque;

use super::carry;
use super::errands::{Errands, Next};
use crate::core::agent::{Agent, Finding, Input, Output};
use crate::core::api::{ApiError, ApiRequest, Applied};
use crate::core::exchange::{
    Failure, InboxEvent, PluginRequest, RequestId, Response, SpoolId, Verb,
};
use crate::ports::{
    AgentPorts, Clock, Entropy, Inbox, Journal, Namespaces, Observer, Sandboxes, Spool,
};

/// What a port call in flight ends with.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are inputs, and none is kept"
)]
enum Told {
    Input(Input),
    Inbox(Option<InboxEvent>),
    NamespacesChanged,
    SpoolChanged,
    Parts(Vec<Finding>),
}

struct Shell<'p, P: AgentPorts> {
    ports: &'p P,
    errands: Errands<'p, Told, P::Api>,
    inputs: VecDeque<Input>,
}

/// Runs an agent until its inbox ends. One future, without spawns: dropping it is a kill.
pub async fn run_agent<P: AgentPorts>(mut agent: Agent, ports: &P) {
    let mut shell = Shell {
        ports,
        errands: Errands::new(ports.api()),
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

async fn remove_spool<P: AgentPorts>(ports: &P, id: SpoolId) {
    if let Err(error) = ports.spool().remove(&id).await {
        tracing::warn!(%error, "a spool entry stays and will be applied again");
    }
}

async fn set_spool_aside<P: AgentPorts>(ports: &P, id: SpoolId) {
    if let Err(error) = ports.spool().set_aside(&id).await {
        tracing::warn!(%error, "an unreadable spool entry stays");
    }
}

impl<P: AgentPorts> Shell<'_, P> {
    /// Waits for one completion and turns it into inputs; false at the end of the inbox.
    async fn next(&mut self) -> bool {
        let told = match self.errands.next().await {
            Next::Nothing => return true,
            Next::Wake => {
                self.inputs.push_back(Input::Wake);
                return true;
            }
            Next::Watch(watch, events) => {
                self.inputs.push_back(Input::Watch { watch, events });
                return true;
            }
            Next::Told(told) => told,
        };
        match told {
            Told::Input(input) => self.inputs.push_back(input),
            Told::Inbox(None) => return false,
            Told::Inbox(Some(event)) => {
                self.await_inbox();
                match event {
                    InboxEvent::Closed(id) => self.inputs.push_back(Input::Closed(id)),
                    InboxEvent::Request(request) => self.look_first(request),
                }
            }
            Told::NamespacesChanged => {
                self.await_namespaces();
                self.inputs.push_back(Input::NamespacesChanged);
            }
            Told::SpoolChanged => {
                self.await_spool();
                self.inputs.push_back(Input::SpoolChanged);
            }
            Told::Parts(findings) => {
                self.await_parts();
                self.inputs.push_back(Input::Parts(findings));
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
        self.errands.run(async move {
            let probe = ports.namespaces().probe(&path).await;
            Told::Input(Input::Request {
                request,
                probe: Some(probe),
            })
        });
    }

    fn await_inbox(&mut self) {
        let ports = self.ports;
        self.errands
            .run(async move { Told::Inbox(ports.inbox().next().await) });
    }

    fn await_namespaces(&mut self) {
        let ports = self.ports;
        self.errands.run(async move {
            ports.namespaces().changed().await;
            Told::NamespacesChanged
        });
    }

    fn await_spool(&mut self) {
        let ports = self.ports;
        self.errands.run(async move {
            ports.spool().changed().await;
            Told::SpoolChanged
        });
    }

    fn await_parts(&mut self) {
        let ports = self.ports;
        self.errands
            .run(async move { Told::Parts(ports.parts().await) });
    }

    /// Begins the outputs in their order. After an append that failed, what rests on it is not
    /// done: see [`Output`].
    async fn execute(&mut self, outputs: Vec<Output>) {
        let ports = self.ports;
        let mut append_failed = false;
        let mut refused = Vec::new();
        for output in outputs {
            match output {
                Output::OpenJournal => self.errands.run(async move {
                    Told::Input(Input::JournalOpened(ports.journal().open().await))
                }),
                Output::Append(bytes, seal) => {
                    append_failed |= ports.journal().append(bytes, seal).await.is_err();
                }
                Output::Compact(bytes, seal) => {
                    append_failed |= ports.journal().compact(bytes, seal).await.is_err();
                }
                Output::Call {
                    call,
                    request: ApiRequest::Create(_) | ApiRequest::Replace(..),
                } if append_failed => {
                    let result = Err(ApiError::Unavailable(Applied::Not));
                    self.inputs.push_back(Input::Api { call, result });
                }
                Output::Call { call, request } => self.errands.run(async move {
                    let result = carry(ports.api(), request).await;
                    Told::Input(Input::Api { call, result })
                }),
                Output::Watch { watch, query } => self.errands.open_watch(watch, query),
                Output::Unwatch(watch) => self.errands.close_watch(watch),
                Output::Wake(at) => self.errands.wake_at(ports.clock(), at),
                Output::Probe { probe, path } => self.errands.run(async move {
                    let result = ports.namespaces().probe(&path).await;
                    Told::Input(Input::Probed { probe, result })
                }),
                Output::ListSpool => {
                    self.errands
                        .run(async move { Told::Input(Input::Spool(ports.spool().list().await)) });
                }
                Output::RemoveSpool(id) => self.errands.begin(remove_spool(ports, id)),
                Output::SetSpoolAside(id) => self.errands.begin(set_spool_aside(ports, id)),
                Output::ListSandboxes => self.errands.run(async move {
                    Told::Input(Input::Sandboxes(ports.sandboxes().list().await))
                }),
                Output::Reply { request, response } => {
                    let is_told = matches!(response, Response::Added(_));
                    if append_failed && is_told {
                        refused.push(request);
                    }
                    self.reply(request, response, append_failed && is_told);
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

    /// Answers a plugin; an address that no journal knows of is not told.
    fn reply(&mut self, request: RequestId, mut response: Response, is_refused: bool) {
        if is_refused {
            let text = "the journal could not be written";
            response = Response::Failed(Failure::new(Failure::IO, text));
        }
        let ports = self.ports;
        self.errands
            .begin(async move { ports.inbox().reply(request, response).await });
    }
}
