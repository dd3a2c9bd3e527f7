//! The loop of a controller.

use core::pin::pin;
use std::collections::{BTreeMap, VecDeque};

use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use futures::stream::FuturesUnordered;

use super::{carry, next_of, ready_events};
use crate::core::api::{ApiError, WatchEvent, WatchId};
use crate::core::controller::{Controller, Input, Output};
use crate::core::time::BootTime;
use crate::ports::{ApiServer, Clock, ControllerPorts, Entropy, Observer};

type WatchOf<P> = <<P as ControllerPorts>::Api as ApiServer>::Watch;

enum Done<W> {
    Nothing,
    Input(Input),
    Watch(WatchId, Vec<WatchEvent>, Option<W>),
}

struct Shell<'p, P: ControllerPorts> {
    ports: &'p P,
    running: FuturesUnordered<BoxFuture<'p, Done<WatchOf<P>>>>,
    watches: BTreeMap<WatchId, AbortHandle>,
    sleep: Option<(BootTime, BoxFuture<'p, ()>)>,
    inputs: VecDeque<Input>,
}

/// Runs a controller for ever. One future, without spawns: dropping it is a kill.
pub async fn run_controller<P: ControllerPorts>(mut controller: Controller, ports: &P) {
    let mut shell = Shell {
        ports,
        running: FuturesUnordered::new(),
        watches: BTreeMap::new(),
        sleep: None,
        inputs: VecDeque::from([Input::Start]),
    };
    loop {
        while let Some(input) = shell.inputs.pop_front() {
            let clock = ports.clock();
            let (now, wall) = (clock.now(), clock.wall());
            for output in controller.handle(now, wall, ports.entropy().draw(), input) {
                shell.execute(output);
            }
        }
        ports.observer().controller_state(|| controller.state());
        shell.next().await;
    }
}

impl<'p, P: ControllerPorts> Shell<'p, P> {
    async fn next(&mut self) {
        let done = match &mut self.sleep {
            Some((_, sleep)) => match select(sleep, pin!(next_of(&mut self.running))).await {
                Either::Left(((), _)) => {
                    self.sleep = None;
                    self.inputs.push_back(Input::Wake);
                    return;
                }
                Either::Right((done, _)) => done,
            },
            None => next_of(&mut self.running).await,
        };
        match done {
            Done::Nothing => {}
            Done::Input(input) => self.inputs.push_back(input),
            Done::Watch(id, events, watch) => {
                if self.watches.contains_key(&id) {
                    match watch {
                        Some(mut watch) => self.await_events(id, async move {
                            let (events, open) = ready_events(&mut watch).await;
                            Done::Watch(id, events, open.then_some(watch))
                        }),
                        None => drop(self.watches.remove(&id)),
                    }
                    self.inputs.push_back(Input::Watch { watch: id, events });
                }
            }
        }
    }

    fn await_events(
        &mut self,
        id: WatchId,
        events: impl Future<Output = Done<WatchOf<P>>> + Send + 'p,
    ) {
        let (handle, registration) = AbortHandle::new_pair();
        self.watches.insert(id, handle);
        let events = Abortable::new(events, registration);
        self.running.push(Box::pin(
            async move { events.await.unwrap_or(Done::Nothing) },
        ));
    }

    fn execute(&mut self, output: Output) {
        let ports = self.ports;
        match output {
            Output::Call { call, request } => self.running.push(Box::pin(async move {
                let result = carry(ports.api(), request).await;
                Done::Input(Input::Api { call, result })
            })),
            Output::Watch { watch: id, query } => self.await_events(id, async move {
                match ports.api().watch(&query).await {
                    Ok(mut watch) => {
                        let (events, open) = ready_events(&mut watch).await;
                        Done::Watch(id, events, open.then_some(watch))
                    }
                    Err(ApiError::Gone) => Done::Watch(id, vec![WatchEvent::Expired], None),
                    Err(_) => Done::Watch(id, vec![WatchEvent::Closed], None),
                }
            }),
            Output::Unwatch(id) => {
                if let Some(handle) = self.watches.remove(&id) {
                    handle.abort();
                }
            }
            Output::Wake(at) => {
                if self.sleep.as_ref().is_none_or(|(until, _)| at < *until) {
                    let sleep = async move { ports.clock().sleep_until(at).await };
                    self.sleep = Some((at, Box::pin(sleep)));
                }
            }
            Output::Metric(metric) => ports.observer().metric(metric),
            Output::Event { reason, message } => ports.observer().event(reason, message),
        }
    }
}
