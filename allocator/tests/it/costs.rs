//! What an address costs in requests.

use core::time::Duration;

use berth::testing::{Faults, PodPlan, World};

fn world(nodes: usize, pool: &str) -> World {
    let mut world = World::new(1, Faults::default());
    world.add_pool("p", &[&[pool]], None);
    for node in 0..nodes {
        world.add_node(&format!("n{node}"));
    }
    world.run_for(Duration::from_secs(2));
    world.take_costs();
    world
}

/// Milli-requests per Pod, one Pod every `gap` in the cluster.
fn one_by_one(pods: usize, nodes: usize, pool: &str, gap: Duration) -> (u64, World) {
    let mut world = world(nodes, pool);
    for pod in 0..pods {
        let (node, name) = (format!("n{}", pod % nodes), format!("p{pod}"));
        let sandbox_after = Duration::from_millis(300);
        world.create_pod(PodPlan {
            node: &node,
            name: &name,
            sandbox_after,
        });
        world.run_for(gap);
    }
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.running_count(), pods, "all run");
    assert!(world.violations().is_empty());
    let costs = world.take_costs();
    println!("{pool}: {costs:?}");
    (costs.requests() * 1000 / pods as u64, world)
}

#[test]
fn pods_that_come_one_by_one_cost_little() {
    let (equal, _) = one_by_one(1024, 10, "10.0.0.0/22", Duration::from_millis(60));
    let (ample, _) = one_by_one(1024, 10, "10.0.0.0/21", Duration::from_millis(60));
    println!("milli-requests per Pod: equal {equal}, ample {ample}");
    assert!(equal <= 1400, "{equal}");
    assert!(ample <= 1200, "{ample}");
}

#[test]
fn a_burst_of_a_hundred_pods_on_each_node_costs_a_fraction() {
    for (pool, bound) in [("10.0.0.0/22", 150), ("10.0.0.0/21", 150)] {
        let mut world = world(10, pool);
        for pod in 0..1000 {
            let (node, name) = (format!("n{}", pod % 10), format!("p{pod}"));
            // The kubelet makes 2.5 sandboxes per second.
            let sandbox_after = Duration::from_millis(300 + 400 * (pod / 10));
            world.create_pod(PodPlan {
                node: &node,
                name: &name,
                sandbox_after,
            });
        }
        world.run_for(Duration::from_secs(45));
        assert_eq!(world.running_count(), 1000);
        assert!(world.violations().is_empty());
        let costs = world.take_costs();
        println!("{pool}: {costs:?}");
        assert!(costs.requests() <= bound, "{costs:?}");
    }
}
