//! The processes that the node executes: the IPAM plugin and the coordinator. Neither talks to the
//! API; both ask the agent of their machine over its Unix socket, and the IPAM gives up at a
//! deadline.
//! Source: spiderpool v0.8.0 `cmd/spiderpool/cmd/command_{add,delete}.go`,
//! `cmd/coordinator/cmd/command_add.go`, `pkg/openapi/unix_socket.go`.

use std::cell::RefCell;
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, IpamStage, Verb};
use crate::ids::IpamCallId;
use crate::process::{NewProcess, Port, Script};

use super::agent::{Agent, Exchange};
use super::env::Env;
use super::job::Outcome;
use super::process::{Child, Life};

/// CNI code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;

/// How a request on the socket ended.
enum Reply {
    /// Nobody listens.
    Refused,
    /// The agent died before it answered.
    Closed,
    /// The plugin waited long enough.
    TimedOut,
    Answer(Outcome),
}

/// Who listens on the socket of a machine, once it serves.
pub(super) type Socket = Rc<RefCell<Option<Agent>>>;

/// One process.
pub(super) struct Execution {
    pub(super) env: Rc<Env>,
    pub(super) socket: Socket,
    pub(super) call: Rc<IpamCall>,
}

impl Execution {
    /// The IPAM plugin of a call.
    pub(super) fn ipam(self) -> NewProcess {
        self.process(|port, execution| Box::pin(execution.run_ipam(port)))
    }

    /// The coordinator of a call.
    pub(super) fn coordinator(self) -> NewProcess {
        self.process(|port, execution| Box::pin(execution.run_coordinator(port)))
    }

    fn process(self, run: fn(Port, Self) -> Script) -> NewProcess {
        NewProcess {
            node: self.call.node,
            call: Some(self.call.clone()),
            client: None,
            script: Box::new(move |port| run(port, self)),
        }
    }

    async fn run_ipam(self, port: Port) {
        port.stage(IpamStage::Cpu);
        port.cpu(self.env.parameters.plugin_cpu).await;
        let exchange = Exchange::new(&self.call, port.id);
        let reply = self.ask(&port, &exchange, Agent::serve).await;
        if matches!(reply, Reply::TimedOut) {
            self.env.count(|totals| totals.deadlines += 1);
        }
        let requested = exchange.read_at.get().is_some();
        let answer = match (self.call.verb, reply) {
            (_, Reply::Answer(Ok(positions))) => {
                let catalog = &self.env.catalog;
                let address = |(pool, position)| catalog.spec(pool).addresses[position as usize];
                let addresses = positions.into_iter().map(address).collect();
                Ok(Assigned { addresses })
            }
            (_, Reply::Refused) => refused(),
            (Verb::Del, Reply::Closed) if !requested => closed(),
            // A release that failed is the garbage collector's task.
            (Verb::Del, _) => {
                self.env.count(|totals| totals.dels_swallowed += 1);
                Ok(no_addresses())
            }
            (Verb::Add, Reply::Closed) => closed(),
            (Verb::Add, Reply::TimedOut) => refuse("context deadline exceeded"),
            (Verb::Add, Reply::Answer(Err(text))) => refuse(&format!(
                "spiderpool IP allocation error: [POST /ipam/ip][500] {text}"
            )),
        };
        port.exit(self.call.id, answer);
    }

    /// The coordinator's answer comes from the agent's caches, and then it has links to change:
    /// that CPU is part of its price. Detection of the gateway and of conflicts is off.
    async fn run_coordinator(self, port: Port) {
        port.cpu(self.env.exec_cpu).await;
        let exchange = Exchange::new(&self.call, port.id);
        let answer = match self.ask(&port, &exchange, Agent::coordinate).await {
            Reply::Refused => refused(),
            Reply::Closed => closed(),
            Reply::TimedOut => panic!("the coordinator waits as long as it takes"),
            Reply::Answer(Ok(_)) => Ok(no_addresses()),
            Reply::Answer(Err(text)) => refuse(&text),
        };
        port.exit(self.call.id, answer);
    }

    /// Makes a request on the socket. The deadline of a request runs from when it is read.
    async fn ask(
        &self,
        port: &Port,
        exchange: &Rc<Exchange>,
        handler: fn(&Agent, &Rc<Exchange>) -> NewProcess,
    ) -> Reply {
        let agent = self.socket.borrow().clone();
        let Some(agent) = agent.filter(|agent| agent.life.is_serving()) else {
            return Reply::Refused;
        };
        let handler = handler(&agent, exchange);
        let _connection = Connection::open(&agent.life, port, self.call.id, handler);
        let limit = match self.call.verb {
            Verb::Add => self.env.parameters.add_timeout,
            Verb::Del => self.env.parameters.del_timeout,
        };
        loop {
            let read_at = exchange.read_at.get();
            let deadline = read_at.map_or(SimInstant::MAX, |at| at + limit);
            if let Some(outcome) = exchange.take_answer() {
                return Reply::Answer(outcome);
            }
            if agent.life.has_ended() {
                return Reply::Closed;
            }
            if deadline == SimInstant::MAX {
                port.park().await;
            } else if !port.park_until(deadline).await {
                return Reply::TimedOut;
            }
        }
    }
}

/// A plugin's connection to the socket of an agent. When it closes, so does the request's context.
struct Connection {
    life: Rc<Life>,
    call: IpamCallId,
    _handler: Child,
}

impl Connection {
    /// Connects, and has the agent handle the request.
    fn open(life: &Rc<Life>, port: &Port, call: IpamCallId, handler: NewProcess) -> Self {
        let before = life.connections.borrow_mut().insert(call, port.id);
        assert!(before.is_none(), "a plugin has one connection at a time");
        Self {
            life: life.clone(),
            call,
            _handler: Child::start(port, handler),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let open = self.life.connections.borrow_mut().remove(&self.call);
        debug_assert!(open.is_some(), "what closes was open");
    }
}

fn no_addresses() -> Assigned {
    let addresses = Vec::new();
    Assigned { addresses }
}

fn refuse(text: &str) -> IpamAnswer {
    Err(CniError {
        code: PLUGIN_ERROR,
        message: text.to_owned(),
    })
}

fn refused() -> IpamAnswer {
    refuse("dial unix /var/run/spidernet/spiderpool.sock: connection refused")
}

fn closed() -> IpamAnswer {
    refuse("EOF")
}
