//! When Pods ran, printed, and the same of the simulator.

use core::fmt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Ipam;
use crate::node::Rate;

/// When each Pod ran, after the first request that asked for Pods.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    times: Vec<Duration>,
    /// Processor time of everything on the node meanwhile; zero where it is not counted.
    spent: Duration,
}

impl Curve {
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            times,
            spent: Duration::ZERO,
        }
    }

    /// The same, with the processor time that was spent.
    pub(crate) fn with_spent(self, spent: Duration) -> Self {
        Self { spent, ..self }
    }

    /// Of each rank the median over these curves.
    pub(crate) fn medians(curves: &[Self]) -> Self {
        let lengths = curves.iter().map(|curve| curve.times.len());
        let at = |rank: usize| median(curves.iter().map(|curve| curve.times[rank]).collect());
        let times = (0..lengths.min().unwrap_or(0)).map(at).collect();
        Self::new(times).with_spent(median(curves.iter().map(|curve| curve.spent).collect()))
    }

    /// When this many ran.
    fn at(&self, count: usize) -> Duration {
        self.times[count.clamp(1, self.times.len()) - 1]
    }

    fn half(&self) -> Duration {
        self.at(self.times.len() / 2)
    }

    pub(crate) fn last(&self) -> Duration {
        self.at(self.times.len())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let middle = times.len() / 2;
    match times.len() % 2 {
        0 => (times[middle - 1] + times[middle]) / 2,
        _ => times[middle],
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, half, last] = [self.at(1), self.half(), self.last()].map(seconds);
        write!(f, "first Running {first}, half {half}, all {last}")?;
        match self.spent {
            Duration::ZERO => Ok(()),
            spent => write!(f, " ({} of processor time)", seconds(spent)),
        }
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

pub(crate) fn print_ratio(rate: Rate, berth: &Curve, host_local: &Curve) {
    let of = |name: &str, a: Duration, b: Duration| {
        format!("{name} {} / {} = {}", seconds(a), seconds(b), ratio(a, b))
    };
    println!(
        "{rate}: Berth / host-local (medians): {}, {}, {}",
        of("p50", berth.half(), host_local.half()),
        of("all Running", berth.last(), host_local.last()),
        of("processor time", berth.spent, host_local.spent),
    );
}

/// What the simulator says of the same workload on such a node.
pub(crate) struct Simulated(Option<Curve>);

impl Simulated {
    /// From the program that `DRYDOCK` names; nothing without it.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are configured by environment"
    )]
    pub(crate) fn of(allocator: &str, rate: Rate) -> Self {
        let Ok(program) = std::env::var("DRYDOCK") else {
            return Self(None);
        };
        let Rate { qps, burst } = rate;
        let output = Command::new(program)
            .args([
                "run",
                "--workload",
                "real-node",
                "--parameters",
                "real-node",
                "--nodes",
                "1",
            ])
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
pub(crate) fn compare(rate: Rate, rows: [(Ipam, &Curve, Simulated); 2]) {
    println!("{rate}: seconds until so many Pods run");
    let counts = [1, 10, 25, 50, 75, 90, 100];
    let line = |name: &str, cells: [String; 7]| {
        let cells: Vec<_> = cells.iter().map(|cell| format!("{cell:>9}")).collect();
        println!("  {name:<26}{}", cells.concat());
    };
    line("Pods", counts.map(|count| count.to_string()));
    for (ipam, real, simulated) in rows {
        line(
            &format!("{ipam:<10} real"),
            counts.map(|count| seconds(real.at(count))),
        );
        let Simulated(Some(simulated)) = simulated else {
            println!("  {ipam:<10} simulated: DRYDOCK does not name the simulator's program");
            continue;
        };
        line(
            &format!("{ipam:<10} simulated"),
            counts.map(|count| seconds(simulated.at(count))),
        );
        line(
            &format!("{ipam:<10} simulated/real"),
            counts.map(|count| ratio(simulated.at(count), real.at(count))),
        );
    }
}

#[test]
fn medians_are_per_rank() {
    let curve = |times: [u64; 2]| Curve::new(times.map(Duration::from_secs).to_vec());
    let medians = Curve::medians(&[curve([1, 10]), curve([3, 40]), curve([2, 20])]);
    assert_eq!(medians.times, [2, 20].map(Duration::from_secs));
    let even = Curve::medians(&[curve([1, 10]), curve([3, 40])]);
    assert_eq!(even.times, [2, 25].map(Duration::from_secs));
}

#[test]
fn ratios_have_three_decimals() {
    let ms = Duration::from_millis;
    assert_eq!(ratio(ms(1020), ms(1000)), "1.020");
    assert_eq!(ratio(ms(999), ms(1000)), "0.999");
}
