//! The daemon's CNI server: what it does for an ADD and for a DEL.
//!
//! ADD: 20 looks at the Pod's annotations, one second apart (`allocated`, then `routed`); the `IP`
//! object is read, and written when its node differs; then the interface is wired
//! ([`super::wiring`]). DEL unwires it if the Pod is still known and annotated.
//! Source: pkg/daemon/handler.go:96-449.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use crate::cni::{IpamCall, IpamStage, Verb};
use crate::process::{NewProcess, Port, ProcessId};
use crate::request::{Answer, Consistency, Part, Request};

use super::daemon::{Daemon, Host, Poller};
use super::env::Env;
use super::objects;

/// What a request is answered: addresses of an ADD, or why not.
pub(super) type ServerAnswer = Result<Vec<IpAddr>, &'static str>;

/// The plugin's end of a connection.
pub(super) struct Caller {
    open: Rc<Cell<bool>>,
    answer: Rc<RefCell<Option<ServerAnswer>>>,
}

impl Caller {
    /// The answer, once.
    pub(super) async fn answer(&self, port: &Port) -> ServerAnswer {
        assert!(self.open.get(), "who reads has not hung up");
        loop {
            let answer = self.answer.borrow_mut().take();
            match answer {
                Some(answer) => return answer,
                None => port.park().await,
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.open.set(false);
    }
}

/// The daemon's end: it breaks when the daemon dies.
struct Connection {
    caller: ProcessId,
    open: Rc<Cell<bool>>,
    answer: Rc<RefCell<Option<ServerAnswer>>>,
    answered: bool,
    port: Port,
}

impl Connection {
    fn reply(&mut self, answer: ServerAnswer) {
        assert!(!self.answered, "a request is answered once");
        self.answered = true;
        *self.answer.borrow_mut() = Some(answer);
        self.port.wake(self.caller);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.answered {
            self.reply(Err("connection to the daemon broke"));
        }
    }
}

/// A request of a plugin: the end of the connection that the plugin reads, and the process in the
/// daemon that serves it.
pub(super) fn request(
    host: &Rc<Host>,
    daemon: Rc<Daemon>,
    (call, name): (&Rc<IpamCall>, u32),
    caller: ProcessId,
) -> (Caller, NewProcess) {
    let open = Rc::new(Cell::new(true));
    let answer: Rc<RefCell<Option<ServerAnswer>>> = Rc::default();
    let end = Caller {
        open: open.clone(),
        answer: answer.clone(),
    };
    let service = Service {
        host: host.clone(),
        daemon,
        call: call.clone(),
        name,
    };
    let process = NewProcess {
        node: call.node,
        call: Some(call.clone()),
        client: None,
        script: Box::new(move |port| {
            let connection = Connection {
                caller,
                open,
                answer,
                answered: false,
                port: port.clone(),
            };
            Box::pin(service.run(port, connection))
        }),
    };
    (end, process)
}

/// A request in the daemon.
pub(super) struct Service {
    pub(super) host: Rc<Host>,
    pub(super) daemon: Rc<Daemon>,
    pub(super) call: Rc<IpamCall>,
    /// Number of the Pod's name.
    pub(super) name: u32,
}

impl Service {
    pub(super) fn env(&self) -> &Env {
        &self.host.env
    }

    async fn run(self, port: Port, mut connection: Connection) {
        let _member = self.daemon.group.join(&port, Some(self.call.id));
        let demand = self.env().parameters.daemon_cpu;
        self.daemon.core.run(&port, demand).await;
        let answer = match self.call.verb {
            Verb::Add => self.add(&port, &connection).await,
            Verb::Del => self.del(&port, &connection).await.map(|()| Vec::new()),
        };
        connection.reply(answer);
    }

    async fn add(&self, port: &Port, connection: &Connection) -> ServerAnswer {
        self.env().count("adds_accepted");
        port.stage(IpamStage::Controller);
        let routed = self.await_route(port).await?;
        self.settle_ip(port).await;
        let pod = self.daemon.pod(self.name).filter(|_| routed);
        let addresses = pod.map(|pod| objects::addresses(&pod));
        let addresses = addresses.ok_or("route is not ready")?;
        port.stage(IpamStage::DataPlane);
        self.wire(port).await?;
        self.wired(connection);
        Ok(addresses)
    }

    async fn del(&self, port: &Port, connection: &Connection) -> Result<(), &'static str> {
        let pod = self.daemon.pod(self.name);
        if pod.is_some_and(|pod| objects::is_annotated(&pod)) {
            self.env().count("dels_wired");
            self.unwire(port).await?;
            self.wired(connection);
        } else {
            self.env().count("dels_empty");
        }
        Ok(())
    }

    fn wired(&self, connection: &Connection) {
        if !connection.open.get() {
            self.env().count("adds_for_nobody");
        }
    }

    /// Looks at the annotations until they name an address and a route. False: the last look found
    /// an address alone, and the request will fail later.
    async fn await_route(&self, port: &Port) -> Result<bool, &'static str> {
        let parameters = &self.env().parameters;
        let mut allocated = false;
        for _ in 0..parameters.poll_count {
            let Some(pod) = self.daemon.pod(self.name) else {
                self.env().count("pod_not_seen");
                return Err("get pod failed");
            };
            allocated = objects::is_allocated(&pod);
            if allocated && objects::is_routed(&pod) {
                return Ok(true);
            }
            port.stage(IpamStage::Controller);
            self.pause(port).await;
        }
        // What counts is what the last look saw.
        if allocated {
            self.env().count("route_not_ready");
            return Ok(false);
        }
        self.env().count("no_address_in_time");
        Err("no address allocated")
    }

    /// Until the next look.
    async fn pause(&self, port: &Port) {
        let poller = Poller {
            call: self.call.clone(),
            name: self.name,
            seen: false,
        };
        let before = (self.daemon.pollers.borrow_mut()).insert(self.call.id, poller);
        assert!(before.is_none(), "a request pauses once at a time");
        port.sleep(self.env().parameters.poll).await;
        let after = self.daemon.pollers.borrow_mut().remove(&self.call.id);
        assert!(after.is_some(), "nobody else ends the pause");
    }

    /// Makes the `IP` object name this node; goes on without when it cannot be read, and does not
    /// notice a write that failed.
    async fn settle_ip(&self, port: &Port) {
        let client = self.daemon.client;
        let Some(ip) = self.read_ip(port).await else {
            return;
        };
        if objects::node_of(&ip) == &*self.host.name {
            return;
        }
        self.env().count("ip_moved_by_daemon");
        let write = Request::Replace {
            object: Rc::new(objects::moved(&ip, &self.host.name)),
            part: Part::Main,
        };
        port.stage(IpamStage::Api);
        let _ = port.call_as(client, write).await;
    }

    async fn read_ip(&self, port: &Port) -> Option<Rc<crate::request::Custom>> {
        let parameters = &self.env().parameters;
        let mut tries = 0;
        loop {
            let read = Request::Get {
                kind: objects::IPS,
                name: objects::ip_name(&self.env().full(self.name)),
                consistency: Consistency::Quorum,
            };
            port.stage(IpamStage::Api);
            if let Ok(Answer::Custom(ip)) = port.call_as(self.daemon.client, read).await {
                return Some(ip);
            }
            tries += 1;
            if tries >= parameters.poll_count {
                return None;
            }
            port.stage(IpamStage::Backoff);
            port.sleep(parameters.poll).await;
        }
    }
}
