//! The benchmark under the model of Whereabouts: what its mechanism must do, whatever the figures
//! come to.

use drydock_traces::run_record::{EndReason, RunRecord};

use crate::program::{line, median, record};

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

/// The benchmark under the inputs of the derived event model: reads of `read` ms give or take 30 %,
/// writes that take `write` ms, 30 us an entry of the pool in a read and 120 us in a write.
fn derived(read: u32, write: u32, more: &[&str]) -> RunRecord {
    let span = |tenths: u32| f64::from(read * tenths) / 10.0;
    let call = format!("--set=api.fixed_call={}..{}", span(7), span(13));
    let above = format!("--set=api.fixed_write={}", write - read);
    let fixed = [
        "--allocator=whereabouts",
        "--stack=ipv4",
        "--set=api.fixed_latency=true",
        "--set=whereabouts.cpu_read_entry=30",
        "--set=whereabouts.cpu_patch_entry=120",
        &call,
        &above,
    ];
    let record = record(&[&fixed[..], more].concat());
    assert!(record.violations.is_empty(), "{:?}", record.violations);
    record
}

fn running_at(record: &RunRecord, seconds: u64) -> u64 {
    let curve = &record.running_curve_ns;
    curve.partition_point(|at| *at <= seconds * 1_000_000_000) as u64
}

/// Medians of three seeds: Running after 120, 300 and 1080 s, and the seconds until all run.
fn three_seeds(read: u32, write: u32) -> [u64; 4] {
    let runs: Vec<RunRecord> = ["--seed=1", "--seed=2", "--seed=3"]
        .map(|seed| derived(read, write, &["--addresses=ample", seed]))
        .into();
    let column = |of: &dyn Fn(&RunRecord) -> u64| median(runs.iter().map(of));
    let end = |run: &RunRecord| run.outcome.all_running_s.expect("all run").ns / 1_000_000_000;
    let medians = [
        column(&|run| running_at(run, 120)),
        column(&|run| running_at(run, 300)),
        column(&|run| running_at(run, 1080)),
        column(&end),
    ];
    println!("{read}/{write} ms: {medians:?}");
    medians
}

/// The table gives the least and the most of three seeds. Ours, too, are three; its Pods arrive at
/// a steady rate where here kubelets start them (some seconds of the first 120), and the end of
/// either varies by about a tenth between seeds: its ends, widened by a tenth.
fn row(read: u32, write: u32, row: [(u64, u64); 4]) {
    let medians = three_seeds(read, write);
    for (ours, (least, most)) in medians.into_iter().zip(row) {
        let within = least * 9 / 10..=most * 11 / 10;
        assert!(
            within.contains(&ours),
            "{read}/{write}: {medians:?} {row:?}"
        );
    }
}

const ALL: (u64, u64) = (1000, 1000);

#[test]
fn the_derived_table_comes_out_where_the_first_wave_fits_into_its_time() {
    row(3, 12, [(849, 849), ALL, ALL, (171, 171)]);
    row(5, 30, [(626, 626), ALL, ALL, (277, 286)]);
    row(10, 60, [(406, 406), (485, 499), ALL, (803, 875)]);
}

#[test]
fn the_derived_table_comes_out_where_deletions_take_the_lease() {
    row(20, 100, [(259, 259), (327, 332), (775, 807), (1604, 1681)]);
    row(30, 130, [(201, 201), (247, 261), (654, 669), (2069, 2199)]);
}

#[test]
fn reads_of_27_and_writes_of_122_ms_give_the_curve_of_the_report() {
    // "r=25-30/w=115-130 ms: 245-295 Running at 300 s, 630-770 at 1080 s, sufficient 1800-2530 s".
    let [_, early, late, end] = three_seeds(27, 122);
    assert!((245..=295).contains(&early), "{early}");
    assert!((630..=770).contains(&late), "{late}");
    assert!((1800..=2530).contains(&end), "{end} s");
}

#[test]
fn a_fast_api_starts_all_pods_within_200_s_and_hardly_an_add_runs_out_of_time() {
    let record = derived(3, 12, &["--addresses=ample"]);
    let end = record.outcome.all_running_s.unwrap().ns / 1_000_000_000;
    assert!(end < 200, "{end} s");
    // "A handful": the sketch needs a second sandbox for 20 of 1000.
    assert!(
        probe(&record, "adds_timed_out") <= 20,
        "{:?}",
        record.probes
    );
    assert_eq!(probe(&record, "leases_stalled"), 0, "{:?}", record.probes);
}

#[test]
fn with_155_addresses_stranded_the_equal_case_stops_at_845() {
    let stranded = "--set=whereabouts.stranded_addresses=155";
    let record = derived(25, 115, &["--addresses=equal", "--until=3000", stranded]);
    assert_ne!(record.outcome.reason, EndReason::AllRunning);
    println!("{} of 845 at 2280 s", running_at(&record, 2280));
    assert!((843..=845).contains(&running_at(&record, 2280)));
    assert!((843..=845).contains(&record.outcome.pods_running));
}
