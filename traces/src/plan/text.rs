//! A plan as people read it: one line about the world, then a numbered list of faults.

use std::fmt;

use super::{CniVerb, DurationRule, Edge, Fault, Plan, Target, Trigger};

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            allocator,
            world,
            ..
        } = self;
        write!(
            formatter,
            "seed {seed}, {allocator}: {} nodes, {} Pods, {} addresses, {}",
            world.nodes, world.pods, world.addresses, world.stack
        )?;
        if let Some(churn) = &world.churn {
            write!(
                formatter,
                ", {} rounds of {} deleted Pods, one every {}",
                churn.rounds,
                churn.pods_per_round,
                Span(churn.every_ns)
            )?;
        }
        for (name, value) in &self.set {
            write!(formatter, "\n   {name} = {value}")?;
        }
        if self.faults.is_empty() {
            write!(formatter, "\n   no faults")?;
        }
        for (index, fault) in self.faults.iter().enumerate() {
            write!(formatter, "\n{:>2}. {fault}", index + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: {} {}",
            self.at,
            self.kind.as_str(),
            self.target
        )?;
        if let (DurationRule::Required(what), Some(duration_ns)) =
            (self.kind.shape().duration, self.duration_ns)
        {
            write!(formatter, ", {} {what}", Span(duration_ns))?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name(), self.index())
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TimeNs(time_ns) => write!(formatter, "at {}", Span(time_ns)),
            Self::PortCall { agent, call, edge } => {
                write!(formatter, "{edge} port call {call} of agent {agent}")
            }
            Self::Write { agent, write } => write!(formatter, "at write {write} of agent {agent}"),
            Self::Cni {
                node,
                verb,
                call,
                edge,
            } => {
                let verb = match verb {
                    CniVerb::Add => "ADD",
                    CniVerb::Del => "DEL",
                };
                write!(formatter, "{edge} CNI {verb} {call} on node {node}")
            }
        }
    }
}

impl fmt::Display for Edge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Before => "before",
            Self::After => "after",
        })
    }
}

/// A time in ns, printed in the largest unit that keeps it exact.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ns) = *self;
        if ns.is_multiple_of(1_000_000_000) {
            write!(formatter, "{} s", ns / 1_000_000_000)
        } else if ns.is_multiple_of(1_000_000) {
            let ms = ns / 1_000_000;
            if ms > 1000 {
                write!(formatter, "{}.{:03} s", ms / 1000, ms % 1000)
            } else {
                write!(formatter, "{ms} ms")
            }
        } else {
            write!(formatter, "{ns} ns")
        }
    }
}
