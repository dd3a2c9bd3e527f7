//! The election of one execution: a goroutine that asks for the Lease and renews it while the work
//! goes on, until the process stops it. What is asked, and when, is the elector's affair
//! ([`leader_election`](crate::client_go::leader_election)); here it is done, and counted.
//!
//! Source: v0.6.2 pkg/storage/kubernetes/ipam.go:349-449.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::client_go::leader_election::{Elector, Left, News, Reaction, Won};
use crate::cni::IpamStage;
use crate::ids::ClientId;
use crate::process::{NewProcess, Port, ProcessId};
use crate::request::{ApiError, Request, Response};

use super::Env;
use super::execution::Execution;

/// The election, as the process holds it: dropped before its end, the process was killed.
pub(super) struct Election {
    candidate: Rc<Candidate>,
    goroutine: Cell<Option<ProcessId>>,
    port: Port,
    ended: bool,
}

/// What the process and its goroutine know.
struct Candidate {
    execution: Rc<Execution>,
    elector: RefCell<Elector>,
    won: Cell<Option<Won>>,
    process: ProcessId,
}

impl Election {
    /// It has not begun.
    pub(super) fn new(execution: &Rc<Execution>, elector: Elector, port: &Port) -> Election {
        assert!(!elector.leads(), "nobody leads before it has asked");
        Election {
            candidate: Rc::new(Candidate {
                execution: execution.clone(),
                elector: RefCell::new(elector),
                won: Cell::default(),
                process: port.id,
            }),
            goroutine: Cell::default(),
            port: port.clone(),
            ended: false,
        }
    }

    /// Begins it, and waits until it is won.
    pub(super) async fn win(&self) -> Won {
        assert!(self.goroutine.get().is_none(), "an election begins once");
        let (candidate, call) = (&self.candidate, &self.candidate.execution.call);
        let goroutine = candidate.clone();
        let id = self.port.spawn(NewProcess {
            node: call.node,
            call: Some(call.clone()),
            client: None,
            script: Box::new(move |port| Box::pin(async move { goroutine.run(&port).await })),
        });
        self.goroutine.set(Some(id));
        loop {
            if let Some(how) = candidate.won.get() {
                return how;
            }
            self.port.park().await;
        }
    }

    /// Ends it, because the work is over or nobody waits anymore: the Lease is given back, or that
    /// is tried. What is in flight is canceled, but for a release.
    pub(super) async fn stop(mut self) {
        let candidate = self.candidate.clone();
        if candidate.elector.borrow().is_releasing() {
            while candidate.elector.borrow().is_releasing() {
                self.port.park().await;
            }
        } else {
            if let Some(goroutine) = self.goroutine.take() {
                self.port.kill(goroutine);
            }
            let reaction = candidate.elector.borrow_mut().stop(self.port.now());
            candidate.leave(&self.port, reaction).await;
        }
        self.ended = true;
    }
}

impl Drop for Election {
    fn drop(&mut self) {
        if !self.ended && self.candidate.elector.borrow().leads() {
            self.candidate.execution.env.count(|counters| {
                counters.leases_stalled += 1;
                counters.holders_killed += 1;
            });
        }
        if let Some(goroutine) = self.goroutine.take() {
            self.port.kill(goroutine);
        }
    }
}

impl Candidate {
    /// The goroutine.
    async fn run(&self, port: &Port) {
        let won = self.acquire(port).await;
        let deposed = self.renew(port, won).await;
        // The work goes on: nobody looks at the context of the election.
        self.leave(port, deposed).await;
        port.wake(self.process);
    }

    /// Polls until it leads; the first round of renewal.
    async fn acquire(&self, port: &Port) -> Reaction {
        let mut reaction = self.elector.borrow_mut().start(port.now());
        loop {
            if let Some(news) = reaction.news {
                let News::Won(how) = news else {
                    unreachable!("a candidate wins or asks, and has {news:?}")
                };
                self.won.set(Some(how));
                port.wake(self.process);
                return reaction;
            }
            reaction = if let Some(request) = reaction.call.take() {
                self.try_to_win(port, request).await
            } else {
                self.execution.stage(port, IpamStage::Lease);
                self.pause(port, &reaction).await
            };
        }
    }

    async fn try_to_win(&self, port: &Port, request: Request) -> Reaction {
        let writes = self.elector.borrow().is_writing();
        let env = &self.execution.env;
        let zombie = writes.then(|| Zombie { env, port });
        let response = self.ask(port, request).await;
        drop(zombie);
        let taken = matches!(response, Err(ApiError::Conflict | ApiError::AlreadyExists));
        env.count(|counters| counters.lease_races_lost += u64::from(writes && taken));
        self.elector.borrow_mut().answered(response, port.now())
    }

    /// Renews, round after round, until a round misses its deadline; what to do then.
    async fn renew(&self, port: &Port, mut reaction: Reaction) -> Reaction {
        loop {
            let limit = reaction.limit.expect("a round has a deadline");
            let round = self.elector.borrow().round();
            let renewed = port.within(port.now() + limit, self.renew_once(port, reaction));
            let Some(pause) = renewed.await else {
                let env = &self.execution.env;
                env.count(|counters| counters.leaders_deposed += 1);
                return self.elector.borrow_mut().limit_passed(round, port.now());
            };
            assert!(pause.news.is_none(), "who renewed has nothing new to say");
            reaction = self.pause(port, &pause).await;
        }
    }

    /// One round: tries until one succeeds.
    async fn renew_once(&self, port: &Port, mut reaction: Reaction) -> Reaction {
        while self.elector.borrow().is_renewing() {
            reaction = self.follow(port, reaction).await;
        }
        reaction
    }

    /// Follows the elector until it is over.
    async fn leave(&self, port: &Port, mut reaction: Reaction) {
        let how = loop {
            if let Some(News::Left(how)) = reaction.news {
                break how;
            }
            reaction = self.follow(port, reaction).await;
        };
        self.execution.env.count(|counters| {
            let stalled = match how {
                Left::Released | Left::NotHeld => return,
                Left::EmptyLease => &mut counters.releases_of_an_empty_lease,
                Left::Outdated => &mut counters.releases_refused,
                Left::Failed => &mut counters.releases_failed,
            };
            *stalled += 1;
            counters.leases_stalled += 1;
        });
    }

    /// Does what the elector asks for.
    async fn follow(&self, port: &Port, mut reaction: Reaction) -> Reaction {
        match reaction.call.take() {
            Some(request) => {
                let response = self.ask(port, request).await;
                self.elector.borrow_mut().answered(response, port.now())
            }
            None => self.pause(port, &reaction).await,
        }
    }

    async fn pause(&self, port: &Port, reaction: &Reaction) -> Reaction {
        let pause = reaction.pause.expect("an elector that asks nothing pauses");
        port.sleep_until(port.now() + pause).await;
        self.elector.borrow_mut().woken(port.now())
    }

    async fn ask(&self, port: &Port, request: Request) -> Response {
        let client: ClientId = self.execution.lease_client;
        port.send(client, request).await.answer().await
    }
}

/// A candidate's write for the Lease that is under way: if etcd has it as the candidate ends, the
/// Lease is held by nobody.
struct Zombie<'a> {
    env: &'a Env,
    port: &'a Port,
}

impl Drop for Zombie<'_> {
    fn drop(&mut self) {
        if self.port.is_committing() {
            self.env.count(|counters| {
                counters.zombie_holders += 1;
                counters.leases_stalled += 1;
            });
        }
    }
}
