//! ovn-controller of one node: a port has its flows after a loop that knew both the port from SB
//! and the local interface; then it is claimed in SB.
//!
//! Not modeled: the write of the claim as a condition for flows (it is not one).

use std::rc::Rc;

use crate::process::Port;

use super::central::Central;
use super::switch::Switch;

/// ovn-controller, forever.
pub(super) async fn run(switch: Rc<Switch>, central: Rc<Central>, port: Port) {
    assert!(switch.controller.get().is_none(), "a switch has one");
    switch.controller.set(Some(port.id));
    loop {
        if !switch.asked.take() {
            port.park().await;
            continue;
        }
        let (waiting, demand) = switch.to_compute();
        switch.core.run(&port, demand).await;
        if switch.computed(waiting) {
            central.claim(&port);
            port.give_way().await;
        }
    }
}
