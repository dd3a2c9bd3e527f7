//! One execution of the plugin: start-up, election, work, release, exit.
//!
//! Source: v0.6.2 cmd/whereabouts.go:62-123, pkg/storage/kubernetes/ipam.go:349-449.

use std::net::IpAddr;
use std::rc::Rc;

use drydock_engine::time::SimInstant;

use crate::client_go::leader_election::{Elector, Won};
use crate::cni::{Assigned, CniError, IpamAnswer, IpamStage, Verb};
use crate::process::{NewProcess, Port};
use crate::request::ApiError;

use super::election::Election;
use super::execution::Execution;
use super::work::{Failure, Work, slices_request};

/// CNI code of every error of the plugin.
const PLUGIN_ERROR: u32 = 999;

/// Reasons of a failed DEL all end here: the plugin logs them and reports success.
pub(super) const TIME_LIMIT: &str =
    "error at storage engine: time limit exceeded while waiting to become leader";

/// The process of a call.
pub(super) fn whereabouts(execution: Execution, elector: Elector) -> NewProcess {
    let execution = Rc::new(execution);
    NewProcess {
        node: execution.call.node,
        call: Some(execution.call.clone()),
        // It has two, which were made before.
        client: None,
        script: Box::new(move |port| Box::pin(execution.run(elector, port))),
    }
}

impl Execution {
    async fn run(self: Rc<Self>, elector: Elector, port: Port) {
        let _clients = [self.lease_client, self.client].map(|client| port.own(client));
        let parameters = &self.env.parameters;
        self.compute(&port, parameters.cpu_verb).await;
        // Configuration and clients are there: the time limit counts from now.
        let limit = port.now()
            + match self.call.verb {
                Verb::Add => parameters.add_limit,
                Verb::Del => parameters.del_limit,
            };
        self.stage(&port, IpamStage::Api);
        let election = Election::new(&self, elector, &port);
        let work = Work::new(&self, &port);
        let result = match port.within(limit, self.lead(&port, &election)).await {
            None => Err(Failure::TimeLimit),
            Some(how) => self.work(&port, &work, how, limit).await,
        };
        self.stage(&port, IpamStage::Api);
        election.stop().await;
        let answer = match self.call.verb {
            Verb::Add => self.add_ended(result, work.patched()),
            Verb::Del => Ok(self.del_ended(&result)),
        };
        port.exit(self.call.id, answer);
    }

    /// Waits until it leads, with slices behind a look at these.
    async fn lead(&self, port: &Port, election: &Election) -> Won {
        if self.env.parameters.slice_addresses > 0 {
            // Whatever the answer is.
            let _ = self.ask(port, slices_request()).await;
        }
        election.win().await
    }

    /// The work under the Lease, within its own time and that of the verb: what is in flight then
    /// is canceled, and so would be every further request.
    async fn work(
        &self,
        port: &Port,
        work: &Work<'_>,
        how: Won,
        limit: SimInstant,
    ) -> Result<Vec<IpAddr>, Failure> {
        self.env.count(|counters| {
            match self.call.verb {
                Verb::Add => counters.leases_won_by_adds += 1,
                Verb::Del => counters.leases_won_by_dels += 1,
            }
            match how {
                Won::Expired => counters.leases_expired += 1,
                Won::Own => counters.leases_reentered += 1,
                Won::Created | Won::Released => {}
            }
        });
        let end = (port.now() + self.env.parameters.request_limit).min(limit);
        let result = port.within(end, work.run()).await;
        result.unwrap_or_else(|| {
            work.cut();
            Err(Failure::Api(ApiError::Unavailable { unknown: true }))
        })
    }

    fn add_ended(&self, result: Result<Vec<IpAddr>, Failure>, patched: bool) -> IpamAnswer {
        let failure = match result {
            Ok(addresses) => {
                let wanted = self.ranges.len();
                assert!(addresses.len() == wanted, "an ADD has one address a range");
                return Ok(Assigned { addresses });
            }
            Err(failure) => failure,
        };
        let mut message = "error at storage engine";
        self.env.count(|counters| {
            counters.adds_failed_after_patch += u64::from(patched);
            match failure {
                Failure::TimeLimit => {
                    counters.adds_timed_out += 1;
                    message = TIME_LIMIT;
                }
                Failure::Exhausted => {
                    counters.adds_exhausted += 1;
                    message = "error at storage engine: Could not allocate IP in range";
                }
                Failure::NoAllocation | Failure::Api(_) => {
                    counters.adds_failed += u64::from(!patched);
                }
            }
        });
        Err(CniError {
            code: PLUGIN_ERROR,
            message: message.to_owned(),
        })
    }

    /// Whatever happened is logged, and success is reported (cmd/whereabouts.go:117-122).
    fn del_ended(&self, result: &Result<Vec<IpAddr>, Failure>) -> Assigned {
        let unknown = !matches!(result, Ok(_) | Err(Failure::NoAllocation));
        let forgotten = unknown && self.env.is_allocated(self.call.container);
        self.env.count(|counters| {
            match result {
                Ok(_) => {}
                Err(Failure::NoAllocation) => counters.dels_without_allocation += 1,
                Err(Failure::TimeLimit) => counters.dels_timed_out += 1,
                Err(Failure::Exhausted | Failure::Api(_)) => counters.dels_failed += 1,
            }
            counters.dels_swallowed += u64::from(forgotten);
        });
        Assigned {
            addresses: Vec::new(),
        }
    }
}
