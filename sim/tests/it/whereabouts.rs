//! The benchmark under the model of Whereabouts: what its mechanism must do, whatever the figures
//! come to.

use drydock_traces::run_record::RunRecord;

use crate::program::{line, record};

fn probe(record: &RunRecord, name: &str) -> u64 {
    let value = record.probes.get(name);
    *value.unwrap_or_else(|| panic!("no probe {name} among {:?}", record.probes))
}

#[test]
fn whereabouts_starts_a_thousand_pods_one_lease_at_a_time() {
    let arguments = [
        "--allocator=whereabouts",
        "--addresses=ample",
        "--stack=ipv4",
        "--seed=1",
    ];
    let record = record(&arguments);
    let told = format!("{:#?}\n{}", record.probes, line(&arguments));
    assert_eq!(record.running_curve_ns.len(), 1000, "{told}");
    let get = |name| probe(&record, name);
    // No two live Pods share an address: the oracle would have ended the run.
    assert!(record.violations.is_empty(), "{told}");
    assert_eq!(
        get("addresses_allocated") - get("addresses_leaked"),
        1000,
        "{told}"
    );
    assert!(get("leases_won_by_adds") >= 1000, "{told}");
    let stalls = [
        "releases_of_an_empty_lease",
        "releases_refused",
        "releases_failed",
        "holders_killed",
        "zombie_holders",
    ];
    let stalled: u64 = stalls.map(get).iter().sum();
    assert_eq!(get("leases_stalled"), stalled, "{told}");
    // A DEL may take the lease of its own dead predecessor, so not every stall is waited for.
    assert!(get("leases_expired") <= stalled, "{told}");
    assert_eq!(get("pool_conflicts"), 0, "one holder at a time: {told}");
}
