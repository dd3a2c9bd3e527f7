//! The loop of a controller.

use std::collections::VecDeque;

use super::carry;
use super::errands::{Errands, Next};
use crate::core::controller::{Controller, Input, Output};
use crate::ports::{Clock, ControllerPorts, Entropy, Observer};

struct Shell<'p, P: ControllerPorts> {
    ports: &'p P,
    errands: Errands<'p, Input, P::Api>,
    inputs: VecDeque<Input>,
}

/// Runs a controller forever. One future, without spawns: dropping it is a kill.
pub async fn run_controller<P: ControllerPorts>(mut controller: Controller, ports: &P) {
    let mut shell = Shell {
        ports,
        errands: Errands::new(ports.api()),
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

impl<P: ControllerPorts> Shell<'_, P> {
    async fn next(&mut self) {
        match self.errands.next().await {
            Next::Nothing => {}
            Next::Wake => self.inputs.push_back(Input::Wake),
            Next::Told(input) => self.inputs.push_back(input),
            Next::Watch(watch, events) => self.inputs.push_back(Input::Watch { watch, events }),
        }
    }

    fn execute(&mut self, output: Output) {
        let ports = self.ports;
        match output {
            Output::Call { call, request } => self.errands.run(async move {
                let result = carry(ports.api(), request).await;
                Input::Api { call, result }
            }),
            Output::Watch { watch, query } => self.errands.open_watch(watch, query),
            Output::Unwatch(watch) => self.errands.close_watch(watch),
            Output::Wake(at) => self.errands.wake_at(ports.clock(), at),
            Output::Metric(metric) => ports.observer().metric(metric),
            Output::Event { reason, message } => ports.observer().event(reason, message),
        }
    }
}
