//! Links between hosts, and the fate of a call over them. It has no latency of its own and no
//! timer: the owner schedules each leg of a call as an event and asks here when the leg is due.
//!
//! A call passes four points: the request departs, it arrives, the response departs, it arrives.
//! Each is checked against the links of that moment. A request that is lost was not applied; a
//! response that is lost leaves the outcome unknown to the client.

use std::collections::BTreeMap;

use serde::Serialize;

/// A host of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

/// How a broken link shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Fault {
    /// Packets vanish: the client learns of it by its own timeout only.
    Drop,
    /// The client gets a connection error.
    Reset,
}

#[derive(Clone, Copy, Debug, Default)]
struct Host {
    down: bool,
    isolated: Option<Fault>,
    /// Counts up when the host goes down: what was in flight then does not survive it.
    boots: u32,
}

/// The directed links between all hosts. Links exist unless they are cut; loopback is never cut.
#[derive(Clone, Debug, Default)]
pub struct Links {
    hosts: Vec<Host>,
    cut: BTreeMap<(HostId, HostId), Fault>,
}

impl Links {
    /// No host yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a host that is up and linked to all others.
    pub fn add_host(&mut self) -> HostId {
        self.hosts.push(Host::default());
        HostId(self.hosts.len() as u32 - 1)
    }

    /// Whether a packet that leaves now arrives.
    pub fn is_up(&self, from: HostId, to: HostId) -> bool {
        self.fault(from, to).is_none()
    }

    /// What stops a packet from one host to another now; the silent fault wins over the loud one.
    pub fn fault(&self, from: HostId, to: HostId) -> Option<Fault> {
        let (source, target) = (self.host(from), self.host(to));
        if source.down || target.down {
            return Some(Fault::Drop);
        }
        if from == to {
            return None;
        }
        let cut = self.cut.get(&(from, to)).copied();
        [source.isolated, target.isolated, cut]
            .into_iter()
            .flatten()
            .min()
    }

    /// Cuts one direction silently.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.cut_with(from, to, Fault::Drop);
    }

    /// Cuts one direction in that manner.
    pub fn cut_with(&mut self, from: HostId, to: HostId, fault: Fault) {
        assert!(from != to, "the loopback of host {} cannot be cut", from.0);
        self.cut.insert((from, to), fault);
    }

    /// Heals one direction.
    pub fn heal(&mut self, from: HostId, to: HostId) {
        self.cut.remove(&(from, to));
    }

    /// Cuts a host off from all others, silently and in both directions; its processes live on.
    pub fn isolate(&mut self, host: HostId) {
        self.isolate_with(host, Fault::Drop);
    }

    /// [`Links::isolate`] in that manner.
    pub fn isolate_with(&mut self, host: HostId, fault: Fault) {
        self.host_mut(host).isolated = Some(fault);
    }

    /// Ends an isolation. Links that were cut one by one stay cut.
    pub fn rejoin(&mut self, host: HostId) {
        self.host_mut(host).isolated = None;
    }

    /// Switches a host off: what it has in flight is lost, its loopback included.
    pub fn power_off(&mut self, host: HostId) {
        let host = self.host_mut(host);
        if !host.down {
            host.down = true;
            host.boots += 1;
        }
    }

    /// Switches a host on again.
    pub fn power_on(&mut self, host: HostId) {
        self.host_mut(host).down = false;
    }

    /// Whether a host is switched on.
    pub fn is_powered(&self, host: HostId) -> bool {
        !self.host(host).down
    }

    /// Heals every link and ends every isolation; hosts that are off stay off.
    pub fn heal_all(&mut self) {
        self.cut.clear();
        for host in &mut self.hosts {
            host.isolated = None;
        }
    }

    fn host(&self, host: HostId) -> &Host {
        &self.hosts[host.0 as usize]
    }

    fn host_mut(&mut self, host: HostId) -> &mut Host {
        &mut self.hosts[host.0 as usize]
    }
}

/// The next point that a call has to pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Point {
    /// The client sends the request.
    RequestDeparts,
    /// The server gets the request; once passed, the server applies it.
    RequestArrives,
    /// The server sends the response.
    ResponseDeparts,
    /// The client gets the response; once passed, the call is over.
    ResponseArrives,
}

/// Why a call ended without its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// How the client learns of it.
    pub fault: Fault,
    /// The point that the call did not pass.
    pub at: Point,
    /// The client is gone: nobody learns of anything.
    pub client_lost: bool,
}

impl Broken {
    /// Whether the server got the request. Truth of the world, for oracles: no client knows it.
    pub fn reached_server(&self) -> bool {
        matches!(self.at, Point::ResponseDeparts | Point::ResponseArrives)
    }

    /// Whether the client can tell that the request was not applied: only if it never left.
    pub fn surely_not_applied(&self) -> bool {
        self.fault == Fault::Reset && self.at == Point::RequestDeparts
    }
}

/// One call in flight.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    client: HostId,
    server: HostId,
    client_boots: u32,
    server_boots: u32,
    next: Point,
}

impl Call {
    /// A call that is about to depart.
    pub fn new(links: &Links, client: HostId, server: HostId) -> Self {
        Self {
            client,
            server,
            client_boots: links.host(client).boots,
            server_boots: links.host(server).boots,
            next: Point::RequestDeparts,
        }
    }

    /// The point that is next.
    pub fn next(&self) -> Point {
        self.next
    }

    /// Passes the next point, at the moment when the call gets there; returns which one it was.
    ///
    /// # Errors
    ///
    /// [`Broken`] when the link, or the host at one end, did not hold that long. A host that was
    /// off in between broke the call even if it is on again: by a reset, since its kernel answers
    /// a connection that it does not know.
    pub fn pass(&mut self, links: &Links) -> Result<Point, Broken> {
        let (from, to) = match self.next {
            Point::RequestDeparts | Point::RequestArrives => (self.client, self.server),
            Point::ResponseDeparts | Point::ResponseArrives => (self.server, self.client),
        };
        let client_lost = links.host(self.client).boots != self.client_boots;
        let rebooted = client_lost || links.host(self.server).boots != self.server_boots;
        let fault = links
            .fault(from, to)
            .or_else(|| rebooted.then_some(Fault::Reset));
        if let Some(fault) = fault {
            return Err(Broken {
                fault,
                at: self.next,
                client_lost,
            });
        }
        let passed = self.next;
        self.next = match passed {
            Point::RequestDeparts => Point::RequestArrives,
            Point::RequestArrives => Point::ResponseDeparts,
            Point::ResponseDeparts | Point::ResponseArrives => Point::ResponseArrives,
        };
        Ok(passed)
    }
}

#[cfg(test)]
mod tests;
