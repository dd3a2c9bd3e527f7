//! The daemon's data plane: interfaces, `ovs-vsctl` processes, the gateway check.
//! ADD executes 12 `ovs-vsctl`, two of which wait for ovs-vswitchd, DEL five; each takes one of the
//! node's slots. The gateway is pinged once a second, up to 200 times, and no answer is as good as
//! one (`ping_error` for the later behavior).
//! Source: pkg/daemon/ovs_linux.go:64-386, handler.go:304-449, pkg/ovs/ovs-vsctl{,_linux}.go,
//! pkg/daemon/ovs.go:15-49.

use std::rc::Rc;

use crate::parameters::Span;
use crate::process::Port;

use super::daemon::Daemon;
use super::server::Service;

/// What an `ovs-vsctl` process does in the local database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Read,
    /// `add-port` with the name of the port.
    AddPort,
    /// `del-port`.
    DeletePort,
    /// `set interface`: ingress policing.
    Police,
}

/// One of the node's slots for `ovs-vsctl`.
struct Slot(Rc<Daemon>);

impl Drop for Slot {
    fn drop(&mut self) {
        let taken = self.0.slots.get();
        assert!(taken > 0, "a slot that is given back was taken");
        self.0.slots.set(taken - 1);
    }
}

impl Service {
    /// Makes the interface of a Pod, and waits for its gateway.
    /// Errors: what the plugin is told.
    pub(super) async fn wire(&self, port: &Port) -> Result<(), &'static str> {
        let parameters = &self.env().parameters;
        self.kernel(port, parameters.link).await;
        self.vsctl(port, Command::Read).await?;
        self.vsctl(port, Command::AddPort).await?;
        self.reads(port, 3).await?;
        self.vsctl(port, Command::Police).await?;
        self.reads(port, 3).await?;
        self.kernel(port, parameters.netns_setup).await;
        if parameters.underlay {
            // Conflict detection.
            let time = self.draw(parameters.arp_detect);
            port.sleep(time).await;
        }
        self.ping_gateway(port).await?;
        self.reads(port, 3).await
    }

    /// Deletes the interface of a Pod.
    /// Errors: what the plugin is told.
    pub(super) async fn unwire(&self, port: &Port) -> Result<(), &'static str> {
        self.vsctl(port, Command::DeletePort).await?;
        self.reads(port, 4).await?;
        self.kernel(port, self.env().parameters.link).await;
        Ok(())
    }

    fn draw(&self, span: Span) -> std::time::Duration {
        let mut draws = self.host.draws.borrow_mut();
        draws.duration(span.min..=span.max)
    }

    /// Work under the kernel's lock around namespaces and links.
    async fn kernel(&self, port: &Port, span: Span) {
        let time = self.draw(span);
        port.network_lock(time).await;
    }

    async fn reads(&self, port: &Port, count: u32) -> Result<(), &'static str> {
        for _ in 0..count {
            self.vsctl(port, Command::Read).await?;
        }
        Ok(())
    }

    /// An `ovs-vsctl` process: a read ends with the local database's answer, a write waits for
    /// ovs-vswitchd.
    async fn vsctl(&self, port: &Port, command: Command) -> Result<(), &'static str> {
        let slot = self.slot(port).await?;
        let demand = self.env().parameters.vsctl_cpu;
        self.daemon.core.run(port, demand).await;
        let switch = self.host.switch();
        switch.query(port).await;
        let container = self.call.container;
        match command {
            Command::Read => {}
            Command::AddPort => switch.add_interface(port, self.name, container).await,
            Command::DeletePort => switch.remove_interface(port, self.name, container).await,
            Command::Police => {}
        }
        if command != Command::Read {
            switch.reconfigure(port).await;
        }
        self.env().count("vsctl_processes");
        drop(slot);
        Ok(())
    }

    /// At most this many `ovs-vsctl` run; one that finds no slot in time fails the request.
    async fn slot(&self, port: &Port) -> Result<Slot, &'static str> {
        let parameters = &self.env().parameters;
        let since = port.now();
        let slots = &self.daemon.slots;
        while slots.get() >= parameters.vsctl_slots {
            if port.now().saturating_since(since) >= parameters.vsctl_slot_wait {
                self.env().count("vsctl_no_slot");
                return Err("no ovs-vsctl slot");
            }
            port.sleep(parameters.vsctl_slot_poll).await;
        }
        slots.set(slots.get() + 1);
        assert!(slots.get() <= parameters.vsctl_slots);
        Ok(Slot(self.daemon.clone()))
    }

    /// Probes the gateway: a probe is answered at once if the flows exist.
    async fn ping_gateway(&self, port: &Port) -> Result<(), &'static str> {
        let parameters = &self.env().parameters;
        for _ in 0..parameters.ping_count {
            self.env().count("gateway_probes");
            if self.host.switch().is_ready(self.name) {
                self.env().count("gateway_answers");
                return Ok(());
            }
            port.sleep(parameters.ping_interval).await;
        }
        // The answer to the last probe may still come.
        if self.host.switch().is_ready(self.name) {
            self.env().count("gateway_answers");
            return Ok(());
        }
        self.env().count("gateway_timeouts");
        if parameters.ping_error {
            return Err("gateway is not reachable");
        }
        Ok(())
    }
}
