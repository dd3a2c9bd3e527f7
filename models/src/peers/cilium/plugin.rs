//! The `cilium-cni` process: it talks to the agent's socket alone, waits at most 90 s for a
//! request, tries nothing twice, and undoes what it did when a step fails.
//! Source: cilium plugins/cilium-cni/cmd/cmd.go (Add, Del), pkg/api (ClientTimeout).

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::cni::{Assigned, CniError, IpamCall, IpamStage, Verb};
use crate::process::{NewProcess, Port, ProcessId};

use super::agent::Agent;

/// CNI error code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;
/// Pause between tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// A request to the agent that ends when nobody waits for it anymore.
struct InFlight {
    handler: ProcessId,
    agent: Rc<Agent>,
    call: Rc<IpamCall>,
    port: Port,
    over: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.over {
            self.port.kill(self.handler);
            self.agent.abandon(self.call.container, self.handler);
        }
    }
}

/// The process of a call.
pub(super) fn cilium_cni(agent: &Rc<Agent>, exec_cpu: Duration, call: IpamCall) -> NewProcess {
    let (agent, call) = (agent.clone(), Rc::new(call));
    NewProcess {
        node: call.node,
        call: Some(call.clone()),
        client: None,
        script: Box::new(move |port| Box::pin(run(port, agent, call, exec_cpu))),
    }
}

async fn run(port: Port, agent: Rc<Agent>, call: Rc<IpamCall>, exec_cpu: Duration) {
    port.stage(IpamStage::Cpu);
    port.cpu(exec_cpu).await;
    let answer = match call.verb {
        Verb::Add => add(&port, &agent, &call).await,
        Verb::Del => del(&port, &agent, &call).await,
    };
    let answer = answer
        .map(|addresses| Assigned { addresses })
        .map_err(|message| CniError {
            code: PLUGIN_ERROR,
            message,
        });
    port.exit(call.id, answer);
}

/// Connects to the socket.
async fn connect(port: &Port, agent: &Rc<Agent>) -> Result<(), String> {
    let limit = port.now() + agent.parameters.connect_timeout;
    while !agent.serving.get() {
        if port.now() >= limit {
            return Err("unable to connect to Cilium daemon".to_owned());
        }
        port.stage(IpamStage::Backoff);
        port.sleep(CONNECT_PAUSE).await;
    }
    Ok(())
}

async fn add(port: &Port, agent: &Rc<Agent>, call: &Rc<IpamCall>) -> Result<Vec<IpAddr>, String> {
    let parameters = agent.parameters.clone();
    connect(port, agent).await?;
    port.stage(IpamStage::Cpu);
    port.cpu(parameters.cpu_request).await;
    let Some(addresses) = agent.allocate(call.container, port) else {
        agent.count(|counters| counters.full += 1);
        return Err("range is full".to_owned());
    };
    port.cpu(parameters.cpu_request).await;
    port.stage(IpamStage::DataPlane);
    port.cpu(parameters.cpu_netlink).await;
    let created = put_endpoint(port, agent, call).await;
    if let Err(error) = created {
        agent.free(call.container, port);
        return Err(error);
    }
    Ok(addresses)
}

/// `PUT /endpoint/{id}`, for as long as the client waits.
async fn put_endpoint(port: &Port, agent: &Rc<Agent>, call: &Rc<IpamCall>) -> Result<(), String> {
    let result: Rc<RefCell<Option<Result<(), String>>>> = Rc::default();
    let (handled, serving, served) = (result.clone(), agent.clone(), call.clone());
    let client = port.id;
    let limit = port.now() + agent.parameters.client_timeout;
    let handler = port.spawn(NewProcess {
        node: call.node,
        call: Some(call.clone()),
        client: None,
        script: Box::new(move |port| {
            Box::pin(async move {
                let outcome = serving.create(&port, &served).await;
                *handled.borrow_mut() = Some(outcome);
                port.wake(client);
            })
        }),
    });
    let mut in_flight = InFlight {
        handler,
        agent: agent.clone(),
        call: call.clone(),
        port: port.clone(),
        over: false,
    };
    loop {
        if let Some(outcome) = result.borrow_mut().take() {
            in_flight.over = true;
            return outcome;
        }
        if !port.park_until(limit).await && result.borrow().is_none() {
            agent.count(|counters| counters.timeouts += 1);
            return Err("unable to create endpoint: context deadline exceeded".to_owned());
        }
    }
}

/// Whatever goes wrong is logged and ignored, so that the kubelet does not loop.
async fn del(port: &Port, agent: &Rc<Agent>, call: &Rc<IpamCall>) -> Result<Vec<IpAddr>, String> {
    // Without an agent the request goes into a queue on disk; here the agent's start forgets what
    // was before it.
    if agent.serving.get() {
        let done = Rc::new(std::cell::Cell::new(false));
        let (over, serving, served, client) = (done.clone(), agent.clone(), call.clone(), port.id);
        port.cpu(agent.parameters.cpu_request).await;
        port.spawn(NewProcess {
            node: call.node,
            call: Some(call.clone()),
            client: None,
            script: Box::new(move |port| {
                Box::pin(async move {
                    serving.delete(&port, &served).await;
                    over.set(true);
                    port.wake(client);
                })
            }),
        });
        let limit = port.now() + agent.parameters.client_timeout;
        while !done.get() && port.park_until(limit).await {}
    }
    port.cpu(agent.parameters.cpu_netlink).await;
    if let Some(netns) = call.netns {
        port.link_down(netns);
    }
    Ok(Vec::new())
}
