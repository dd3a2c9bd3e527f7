//! containerd 1.7.2's CRI server: its sandboxes, its calls in flight, its names. One container per
//! Pod; images are present. Each call is a script ([`call`]). When a client gives up, it gets its
//! error at once, its plugin is killed, and its call fails at the next step. Source:
//! `pkg/cri/server` at v1.7.2, cited per file.

mod call;
mod containers;
mod name_reservation;
mod restart;
mod run_pod_sandbox;
mod store;
mod teardown;

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cni::CniError;
use crate::context::Context;
use crate::event::NodeEvent;
use crate::ids::ContainerId;
use crate::parameters::NodeSideParameters;
use crate::process::{NewProcess, Processes};

use super::cri::{ContainerState, CriError, CriRequest, CriResult, CriVerb};
use super::desk::{Desk, Signal};
use super::plugins::Plugins;

use self::call::{Call, Work};
use self::name_reservation::Names;
use self::store::Store;

/// containerd on one machine, as the node runs it.
pub(crate) struct Runtime {
    life: u32,
    containerd: Rc<Containerd>,
}

/// What all calls of a containerd share.
struct Containerd {
    desk: Desk,
    parameters: Rc<NodeSideParameters>,
    plugins: Rc<Plugins>,
    store: RefCell<Store>,
    names: RefCell<Names>,
    /// How many of the next teardowns call no plugin.
    silent_teardowns: Cell<u32>,
    calls: RefCell<BTreeMap<u32, Rc<Call>>>,
}

impl Runtime {
    /// An empty, serving runtime.
    pub(crate) fn new(
        desk: &Desk,
        parameters: &Rc<NodeSideParameters>,
        plugins: &Rc<Plugins>,
    ) -> Self {
        Self {
            life: 0,
            containerd: Rc::new(Containerd {
                desk: desk.clone(),
                parameters: parameters.clone(),
                plugins: plugins.clone(),
                store: RefCell::new(Store::new()),
                names: RefCell::default(),
                silent_teardowns: Cell::new(0),
                calls: RefCell::default(),
            }),
        }
    }

    /// What the kubelet may look at.
    pub(crate) fn store(&self) -> Ref<'_, Store> {
        self.containerd.store.borrow()
    }

    /// The next teardown of a sandbox calls no plugin.
    pub(crate) fn skip_del(&self) {
        let silent = &self.containerd.silent_teardowns;
        silent.set(silent.get() + 1);
    }

    /// Makes a CRI call.
    pub(crate) fn ask(
        &self,
        request: &CriRequest,
        processes: &mut Processes,
        context: &mut Context<'_>,
    ) {
        let own = &self.containerd;
        let call = match own.accept(request, context) {
            Ok(call) => Rc::new(call),
            Err(result) => return own.desk.resume(request.caller, Signal::Cri(result)),
        };
        let id = own.desk.ticket();
        if let CriVerb::Run { .. } | CriVerb::Stop(_) | CriVerb::Remove(_) = call.verb {
            let gives_up = NodeEvent::CriDeadline { call: id };
            own.desk.at(call.deadline, gives_up, context);
        }
        let before = own.calls.borrow_mut().insert(id, call.clone());
        assert!(before.is_none(), "a call has a number of its own");
        let (containerd, at_work) = (own.clone(), call.clone());
        let script = processes.start(
            NewProcess {
                node: own.desk.index,
                call: None,
                client: None,
                script: Box::new(move |port| {
                    Box::pin(async move {
                        let work = Work {
                            containerd,
                            call: at_work,
                            port,
                        };
                        let result = work.run().await;
                        work.containerd.end(id, result);
                    })
                }),
            },
            context,
        );
        call.script.set(Some(script));
    }

    /// The client's deadline of a call passed.
    pub(crate) fn deadline_passed(
        &self,
        id: u32,
        processes: &mut Processes,
        context: &mut Context<'_>,
    ) {
        let call = self.containerd.calls.borrow().get(&id).cloned();
        if let Some(call) = call {
            let error = CriError("DeadlineExceeded");
            self.cancel(&call, error, processes, context);
        }
    }

    /// The kubelet died: all its calls are canceled.
    pub(crate) fn cancel_calls(&self, processes: &mut Processes, context: &mut Context<'_>) {
        let calls: Vec<Rc<Call>> = self.containerd.calls.borrow().values().cloned().collect();
        for call in calls {
            self.cancel(&call, CriError("Canceled"), processes, context);
        }
    }

    /// The client of a call is gone (deadline, or its process died): it gets its error at once,
    /// the plugin is killed, and the call fails at its next step.
    fn cancel(
        &self,
        call: &Call,
        error: CriError,
        processes: &mut Processes,
        context: &mut Context<'_>,
    ) {
        let own = &self.containerd;
        if call.canceled.replace(true) {
            return;
        }
        let caller = call.caller.take();
        if let Some(plugin) = call.plugin.get() {
            own.plugins.kill(plugin, context);
            processes.settle(context);
        }
        if let Some(caller) = caller {
            own.desk.resume(caller, Signal::Cri(Err(error)));
        }
    }

    /// The workload of a sandbox ended by itself.
    pub(crate) fn workload_ended(&self, container: ContainerId) {
        let completed = ContainerState::Exited { completed: true };
        self.containerd.workload_ended(container, completed);
    }

    /// A sandbox vanishes without a DEL; see [`super::Nodes::lose_sandbox`].
    pub(crate) fn sandbox_lost(&self, pick: u64, context: &mut Context<'_>) -> bool {
        self.containerd.sandbox_lost(pick, context)
    }
}

impl Containerd {
    fn is_up(&self) -> bool {
        self.store.borrow().up
    }

    /// Checks a request.
    /// Errors: its result, when there is nothing to do.
    fn accept(&self, request: &CriRequest, context: &Context<'_>) -> Result<Call, CriResult> {
        let (container, pod, attempt) = match request.verb {
            CriVerb::Run { ref pod, attempt } => (self.desk.next_container(), pod.clone(), attempt),
            CriVerb::Create(container)
            | CriVerb::Start(container)
            | CriVerb::StopContainer { container, .. }
            | CriVerb::Stop(container)
            | CriVerb::Remove(container) => {
                let store = self.store.borrow();
                // Stop and Remove of a missing sandbox succeed.
                let sandbox = store.sandboxes.get(&container).ok_or(Ok(container))?;
                (container, sandbox.pod.clone(), sandbox.attempt)
            }
        };
        if !self.is_up() {
            return Err(Err(CriError("runtime unavailable")));
        }
        if let CriVerb::Run { .. } = request.verb {
            let mut names = self.names.borrow_mut();
            let reserved = names.reserve(pod.uid, attempt, container);
            reserved.map_err(|_| Err(CriError("name is reserved")))?;
        }
        Ok(Call {
            verb: request.verb.clone(),
            container,
            pod,
            attempt,
            deadline: context.now() + request.timeout,
            caller: Cell::new(Some(request.caller)),
            canceled: Cell::new(false),
            plugin: Cell::new(None),
            netns: Cell::new(None),
            recorded: Cell::new(false),
            script: Cell::new(None),
        })
    }

    /// Ends a call and tells its client, if there still is one.
    fn end(&self, id: u32, result: CriResult) {
        let call = self.calls.borrow_mut().remove(&id);
        let call = call.expect("a call ends once");
        if let Some(caller) = call.caller.take() {
            self.desk.resume(caller, Signal::Cri(result));
        }
    }

    /// The name of a call's sandbox is free again.
    fn release_name(&self, call: &Call) {
        let mut names = self.names.borrow_mut();
        names.release(call.pod.uid, call.attempt, call.container);
    }
}

/// go-cni treats some DEL errors as success, by their wording.
/// Source: containerd/go-cni v1.1.9 cni.go:242-257.
fn swallow_not_found(result: Result<(), CniError>, netns_empty: bool) -> Result<(), CniError> {
    result.or_else(|error| {
        let missing = error.message.contains("not found")
            || netns_empty && error.message.contains("no such file or directory");
        if missing { Ok(()) } else { Err(error) }
    })
}

#[cfg(test)]
mod tests {
    use super::swallow_not_found;
    use crate::cni::CniError;

    #[test]
    fn errors_worded_not_found_count_as_success() {
        let error = |text: &str| {
            Err(CniError {
                code: 11,
                message: text.to_owned(),
            })
        };
        assert!(swallow_not_found(error("pool not found"), false).is_ok());
        assert!(swallow_not_found(error("no such file or directory"), true).is_ok());
        assert!(swallow_not_found(error("no such file or directory"), false).is_err());
        assert!(swallow_not_found(error("store unavailable"), true).is_err());
    }
}
