//! Many small hostile worlds: two or three agents, as many addresses as Pods, lost replies, late
//! commits, kills, reboots. The ledger must see no address on two live interfaces, and after
//! quiet every Pod has one and nothing is left behind.

use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::core::journal::{Entry, decode, encode};
use berth::testing::{Ailments, Faults, Looks, PodPlan, World};

pub(crate) const HOSTILE: Faults = Faults {
    lost_reply_ppm: 120_000,
    lost_request_ppm: 40_000,
    throttled_ppm: 30_000,
};

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        berth::core::hash::mix(0x5eed, self.0) % bound
    }
}

type Configure = fn(&mut AgentConfig);

/// What a node's own disk, directories and runtime do: for a while, or to a dead agent's journal.
fn ailment(world: &mut World, draw: &mut Draw, node: &str, copies: &mut Copies) {
    let pause = Duration::from_millis(100 + draw.below(6000));
    let looks = [Looks::Unknown, Looks::NoCanary, Looks::OtherMount][draw.below(3) as usize];
    let none = Ailments::default();
    let ailments = match draw.below(9) {
        0 => Ailments {
            journal_full: true,
            ..none
        },
        1 => Ailments {
            journal_unreadable: true,
            ..none
        },
        2 => Ailments {
            journal_pause: pause,
            ..none
        },
        3 => Ailments {
            spool_unreadable: true,
            ..none
        },
        4 => Ailments {
            spool_pause: pause,
            ..none
        },
        5 | 6 => Ailments {
            looks,
            looks_every: 1 + draw.below(5),
            ..none
        },
        7 => Ailments {
            runtime_silent: true,
            looks: [Looks::True, looks][draw.below(2) as usize],
            ..none
        },
        _ => none,
    };
    world.set_ailments(node, ailments);
    if draw.below(3) == 0 {
        copies.insert(
            node.to_owned(),
            (world.boot(node), world.journal_bytes(node)),
        );
    }
}

/// Journals as they were, with the boot.
type Copies = std::collections::BTreeMap<String, (u64, Vec<u8>)>;

/// Something happens to the journal or the spool while no agent runs.
fn harm(world: &mut World, draw: &mut Draw, node: &str, copies: &Copies) {
    let length = world.journal_bytes(node).len() as u64;
    if length == 0 {
        return;
    }
    let here = draw.below(length) as usize;
    let some = 1 + draw.below(300) as usize;
    match draw.below(8) {
        0 => world.lose_journal(node),
        1 => world.harm_journal(node, |bytes| bytes[here] ^= 0x20),
        2 => world.harm_journal(node, |bytes| {
            let end = (here + some).min(bytes.len());
            bytes[here..end].fill(0);
        }),
        3 => world.harm_journal(node, |bytes| bytes.truncate(here)),
        // Killed while it appended.
        4 => world.harm_journal(node, |bytes| {
            if let Ok(replay) = decode(bytes) {
                let frame = encode(replay.entries.len(), &Entry::Lost);
                bytes.extend(&frame[..some % frame.len()]);
            }
        }),
        5 => world.spoil_spool(node),
        _ => {
            if let Some((boot, copy)) = copies.get(node)
                && *boot == world.boot(node)
            {
                world.harm_journal(node, |bytes| copy.clone_into(bytes));
            }
        }
    }
}

/// What a storm is made of, besides Pods and kills.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    pub faults: Faults,
    pub reboots: bool,
    /// Disks, directories and runtimes of nodes fail.
    pub ailments: bool,
}

/// Runs one storm and says what is wrong with it, if something is.
pub(crate) fn storm(seed: u64, weather: Weather, configure: Configure) -> Result<(), String> {
    let Weather {
        faults,
        reboots,
        ailments,
    } = weather;
    let mut draw = Draw(seed.wrapping_mul(0x1_0000_0001));
    // A stream of its own: the rest of a storm stays as it is without.
    let mut ill = Draw(seed.wrapping_mul(0x1_0000_0001) ^ 0x00a1_1e7e);
    let mut copies = Copies::new();
    let mut world = World::new(seed, faults);
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/29"], &["fd00::/125"]], Some(4));
    world.start_controller("c");
    let nodes = 2 + draw.below(2);
    for node in 0..nodes {
        world.add_node(&format!("n{node}"));
    }
    world.run_for(Duration::from_secs(3));
    let mut alive: Vec<String> = Vec::new();
    let mut next = 0;
    for _ in 0..60 {
        match draw.below(10) {
            0..=4 if alive.len() < 8 => {
                let (node, name) = (format!("n{}", draw.below(nodes)), format!("p{next}"));
                next += 1;
                let sandbox_after = Duration::from_millis(draw.below(600));
                world.create_pod(PodPlan {
                    node: &node,
                    name: &name,
                    sandbox_after,
                });
                alive.push(name);
            }
            5 | 6 if !alive.is_empty() => {
                let name = alive.remove(draw.below(alive.len() as u64) as usize);
                let force = draw.below(3) == 0;
                let grace = if force {
                    1000 + draw.below(9000)
                } else {
                    draw.below(1000)
                };
                world.delete_pod(&name, Duration::from_millis(grace), force);
            }
            7 => {
                let node = format!("n{}", draw.below(nodes));
                world.kill_agent(&node);
                if ailments && ill.below(2) == 0 {
                    harm(&mut world, &mut ill, &node, &copies);
                }
                world.start_agent_after(&node, Duration::from_millis(draw.below(4000)));
            }
            8 if draw.below(4) == 0 && reboots => {
                let node = format!("n{}", draw.below(nodes));
                world.reboot(&node);
                world.start_agent_after(&node, Duration::from_millis(draw.below(4000)));
            }
            _ => {}
        }
        if ailments && ill.below(4) == 0 {
            let node = format!("n{}", ill.below(nodes));
            ailment(&mut world, &mut ill, &node, &mut copies);
        }
        world.run_for(Duration::from_millis(draw.below(1500)));
    }
    world.set_faults(Faults::default());
    for node in 0..nodes {
        world.set_ailments(&format!("n{node}"), Ailments::default());
    }
    world.run_for(Duration::from_secs(if reboots { 1000 } else { 180 }));
    if let Some(violation) = world.violations().first() {
        return Err(format!("seed {seed}: {violation:?}"));
    }
    if ailments {
        return nothing_outlives_its_pod(seed, world, &alive);
    }
    if world.running_count() != alive.len() {
        let held = world.held_by();
        return Err(format!(
            "seed {seed}: {} of {} Pods run; alive {alive:?}; held {held:?}",
            world.running_count(),
            alive.len()
        ));
    }
    let mut expected: Vec<String> = alive.iter().map(|name| format!("pod-{name}")).collect();
    expected.sort();
    let held = world.held_by();
    if held != expected {
        return Err(format!("seed {seed}: records {held:?}, Pods {expected:?}"));
    }
    Ok(())
}

/// Where a journal was lost or a DEL could not be read, a Pod may keep an address too many for as
/// long as it lives; nobody else lacks one for another reason, and nothing outlives its Pod.
pub(crate) fn nothing_outlives_its_pod(
    seed: u64,
    mut world: World,
    alive: &[String],
) -> Result<(), String> {
    let held = world.held_by();
    let mut pods = held.clone();
    pods.dedup();
    let (extra, running) = (held.len() - pods.len(), world.running_count());
    if running + extra < alive.len() {
        return Err(format!(
            "seed {seed}: {running} of {} Pods run; alive {alive:?}; held {held:?}",
            alive.len()
        ));
    }
    if let Some(gone) = pods
        .iter()
        .find(|uid| !alive.contains(&uid[4..].to_owned()))
    {
        return Err(format!("seed {seed}: {gone} is gone, and held: {held:?}"));
    }
    for name in alive {
        world.delete_pod(name, Duration::ZERO, false);
    }
    world.run_for(Duration::from_secs(120));
    let held = world.held_by();
    if !held.is_empty() || !world.violations().is_empty() {
        return Err(format!(
            "seed {seed}: in the end {held:?}, {:?}",
            world.violations()
        ));
    }
    Ok(())
}

fn failures(seeds: core::ops::Range<u64>, weather: Weather) -> Vec<String> {
    seeds
        .filter_map(|seed| storm(seed, weather, |_| {}).err())
        .collect()
}

fn weather(reboots: bool, ailments: bool) -> Weather {
    Weather {
        faults: HOSTILE,
        reboots,
        ailments,
    }
}

#[test]
fn storms_leave_neither_duplicates_nor_leaks() {
    let failures = failures(0..300, weather(false, false));
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn storms_with_reboots_leave_neither_duplicates_nor_leaks_after_the_quarantine() {
    let failures = failures(1000..1150, weather(true, false));
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Units: seeds. `BERTH_STORMS` takes more.
#[expect(clippy::disallowed_methods, reason = "how long, never what")]
fn storm_count(standard: u64) -> u64 {
    let text = std::env::var("BERTH_STORMS").ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(standard)
}

#[test]
fn storms_with_failing_disks_looks_and_runtimes_leave_neither_duplicates_nor_leaks() {
    let failures = failures(0..storm_count(200), weather(false, true));
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn storms_with_failing_disks_and_reboots_leave_neither_duplicates_nor_leaks() {
    let failures = failures(1000..1000 + storm_count(100), weather(true, true));
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Those of the disk fall here, too; see `journal` for sequences, and `looks` for the one that
/// takes what cannot be told for an end: it needs a look that fails in the seconds after a DEL.
#[cfg(feature = "mutants")]
#[test]
fn mutants_of_the_journal_fall_in_storms() {
    use berth::core::Mutant;
    let survivors: Vec<_> = [
        (
            Mutant::HeaderBeforeLost,
            (|c| c.mutant = Some(Mutant::HeaderBeforeLost)) as Configure,
        ),
        (Mutant::DamageBelieved, |c| {
            c.mutant = Some(Mutant::DamageBelieved);
        }),
    ]
    .into_iter()
    .filter(|(_, configure)| {
        !(0..400).any(|seed| {
            storm(seed, weather(false, true), *configure)
                .is_err_and(|text| text.contains("Violation"))
        })
    })
    .map(|(mutant, _)| mutant.to_string())
    .collect();
    assert_eq!(survivors, Vec::<String>::new());
}

/// The two others need a certain sequence: see `sequences`.
#[cfg(feature = "mutants")]
#[test]
fn mutants_fall_in_storms() {
    use berth::core::Mutant;
    let survivors: Vec<_> = [
        (
            Mutant::NoResourceVersion,
            (|c| c.mutant = Some(Mutant::NoResourceVersion)) as Configure,
        ),
        (Mutant::ReleaseOnPodAbsent, |c| {
            c.mutant = Some(Mutant::ReleaseOnPodAbsent);
        }),
        (Mutant::FreeAtDel, |c| c.mutant = Some(Mutant::FreeAtDel)),
    ]
    .into_iter()
    .filter(|(_, configure)| {
        !(0..400).any(|seed| {
            storm(seed, weather(false, false), *configure)
                .is_err_and(|text| text.contains("Violation"))
        })
    })
    .map(|(mutant, _)| mutant.to_string())
    .collect();
    assert_eq!(survivors, Vec::<String>::new());
}
