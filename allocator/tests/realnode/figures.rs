//! When Pods ran, printed, and the same of the simulator.

use core::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Ipam;
use crate::node::Rate;

/// When each Pod ran, after the first request that asked for Pods.
#[derive(Clone, Debug)]
pub struct Curve(Vec<Duration>);

impl Curve {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Of each rank the median over these curves.
    pub fn medians(curves: Vec<Self>) -> Self {
        let length = curves.iter().map(|curve| curve.0.len()).min().unwrap_or(0);
        let median = |rank: usize| {
            let mut times: Vec<_> = curves.iter().map(|curve| curve.0[rank]).collect();
            times.sort_unstable();
            let middle = times.len() / 2;
            match times.len() % 2 {
                0 => (times[middle - 1] + times[middle]) / 2,
                _ => times[middle],
            }
        };
        Self((0..length).map(median).collect())
    }

    /// When this many ran.
    fn at(&self, count: usize) -> Duration {
        self.0[count.clamp(1, self.0.len()) - 1]
    }

    pub fn last(&self) -> Duration {
        self.at(self.0.len())
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "{}", seconds(*only));
        }
        let [first, half, last] =
            [1, self.0.len() / 2, self.0.len()].map(|count| seconds(self.at(count)));
        write!(f, "first Running {first}, half {half}, all {last}")
    }
}

fn seconds(time: Duration) -> String {
    format!("{}.{:02} s", time.as_secs(), time.subsec_millis() / 10)
}

/// a/b with three decimals.
fn ratio(a: Duration, b: Duration) -> String {
    let per_mille = a.as_micros() * 1000 / b.as_micros().max(1);
    format!("{}.{:03}", per_mille / 1000, per_mille % 1000)
}

pub fn print_ratio(rate: Rate, berth: &Curve, host_local: &Curve) {
    let half = berth.0.len() / 2;
    println!(
        "{rate}: Berth / host-local (medians): p50 {} / {} = {}, all Running {} / {} = {}",
        seconds(berth.at(half)),
        seconds(host_local.at(half)),
        ratio(berth.at(half), host_local.at(half)),
        seconds(berth.last()),
        seconds(host_local.last()),
        ratio(berth.last(), host_local.last()),
    );
}

/// What the simulator says of the same workload on such a node.
pub struct Simulated(Option<Curve>);

impl Simulated {
    /// From the program that `DRYDOCK` names; nothing without it.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are configured by environment"
    )]
    pub fn of(allocator: &str, rate: Rate) -> Self {
        let Ok(program) = std::env::var("DRYDOCK") else {
            return Self(None);
        };
        let (qps, burst) = rate.numbers();
        let output = Command::new(program)
            .args(["run", "--workload", "real-node", "--parameters", "real-node", "--nodes", "1"])
            .args(["--stack", "ipv4", "--allocator", allocator, "--json", "-"])
            .args(["--set", &format!("kubelet.qps={qps}")])
            .args(["--set", &format!("kubelet.burst={burst}")])
            .args(["--set", &format!("kubelet.event_qps={qps}")])
            .args(["--set", &format!("kubelet.event_burst={burst}")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let record: Value = serde_json::from_slice(&output.stdout).unwrap();
        let curve = record["running_curve_ns"].as_array().unwrap();
        let times = curve.iter().map(|time| time.as_u64().unwrap());
        Self(Some(Curve::new(times.map(Duration::from_nanos).collect())))
    }
}

/// One table: when so many Pods ran, here and in the simulator.
pub fn compare(rate: Rate, rows: [(Ipam, &Curve, Simulated); 2]) {
    println!("{rate}: seconds until so many Pods run");
    let counts = [1, 10, 25, 50, 75, 90, 100];
    let line = |name: &str, cells: [String; 7]| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>9}")).collect();
        println!("  {name:<24}{}", cells.concat());
    };
    line("Pods", counts.map(|count| count.to_string()));
    for (ipam, real, simulated) in rows {
        line(
            &format!("{ipam:<11} real"),
            counts.map(|count| seconds(real.at(count))),
        );
        let Simulated(Some(simulated)) = simulated else {
            println!("  {ipam:<11} simulated: DRYDOCK does not name the simulator's program");
            continue;
        };
        line(
            &format!("{ipam:<11} simulated"),
            counts.map(|count| seconds(simulated.at(count))),
        );
        line(
            &format!("{ipam:<11} simulated/real"),
            counts.map(|count| ratio(simulated.at(count), real.at(count))),
        );
    }
}

#[test]
fn medians_are_per_rank() {
    let curve = |times: [u64; 2]| Curve::new(times.map(Duration::from_secs).to_vec());
    let medians = Curve::medians(vec![curve([1, 10]), curve([3, 40]), curve([2, 20])]);
    assert_eq!(medians.0, [2, 20].map(Duration::from_secs));
    let even = Curve::medians(vec![curve([1, 10]), curve([3, 40])]);
    assert_eq!(even.0, [2, 25].map(Duration::from_secs));
}

#[test]
fn ratios_have_three_decimals() {
    let ms = Duration::from_millis;
    assert_eq!(ratio(ms(1020), ms(1000)), "1.020");
    assert_eq!(ratio(ms(999), ms(1000)), "0.999");
}
