//! The binaries of a CNI verb: `kube-ovn`, which asks the daemon, and `portmap`. A plugin that is
//! killed leaves the daemon at work; a daemon that dies breaks the connection.
//! Every error becomes "try again later" (cmd/cni/cni.go:64-66).

use std::rc::Rc;

use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, IpamStage, Verb};
use crate::process::{NewProcess, Port};

use super::daemon::Host;
use super::server::{ServerAnswer, request};

/// CNI error code "try again later".
const TRY_AGAIN: u32 = 11;

/// The plugin of a call.
pub(super) fn plugin(host: &Rc<Host>, call: IpamCall) -> NewProcess {
    assert_eq!(host.node, call.node, "a call is executed on its machine");
    let host = host.clone();
    let name = (host.env.names()).number(&call.pod_namespace, &call.pod_name);
    let call = Rc::new(call);
    NewProcess {
        node: call.node,
        call: Some(call.clone()),
        client: None,
        script: Box::new(move |port| Box::pin(run(host, call, name, port))),
    }
}

async fn run(host: Rc<Host>, call: Rc<IpamCall>, name: u32, port: Port) {
    let exec = host.env.exec_cpu;
    port.stage(IpamStage::Cpu);
    // DEL runs the chain backwards: portmap first.
    let before = if call.verb == Verb::Del {
        exec * 2
    } else {
        exec
    };
    port.cpu(before).await;
    let answer = ask_daemon(&host, (&call, name), &port).await;
    if answer.is_ok() && call.verb == Verb::Add {
        port.stage(IpamStage::Cpu);
        port.cpu(exec).await;
    }
    let answer: IpamAnswer = match answer {
        Ok(addresses) => Ok(Assigned { addresses }),
        Err(message) => Err(CniError {
            code: TRY_AGAIN,
            message: message.to_owned(),
        }),
    };
    port.exit(call.id, answer);
}

async fn ask_daemon(host: &Rc<Host>, call: (&Rc<IpamCall>, u32), port: &Port) -> ServerAnswer {
    let Some(daemon) = host.daemon() else {
        return Err("the daemon does not listen");
    };
    let (caller, service) = request(host, daemon, call, port.id);
    port.spawn(service);
    caller.answer(port).await
}
