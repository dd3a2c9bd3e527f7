//! The machine that the simulator itself runs on: wall clock, memory, cores, and the stamp of the
//! binary. Nothing here may reach a simulation; records keep it apart.

#![allow(
    clippy::disallowed_types,
    reason = "wall time of the host, kept apart in records"
)]

use std::time::Duration;

use drydock_traces::run_record::{Certificate, Digest};

/// A stopwatch on the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "wall time of the host, kept apart in records"
    )]
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    /// Wall time since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Largest resident memory of this process so far, where the system tells. Units: bytes.
pub fn memory_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Cores that this process may use.
#[expect(
    clippy::disallowed_methods,
    reason = "decides how many worlds run at a time, no more"
)]
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// The stamp of this binary, with what the run's log says.
pub fn certificate(
    event_log_hash: Digest,
    event_count: u64,
    checkpoints: Vec<drydock_traces::run_record::Checkpoint>,
) -> Certificate {
    let lock = u128::from_str_radix(env!("DRYDOCK_LOCK_HASH"), 16)
        .expect("the build script writes 32 hexadecimal digits");
    Certificate {
        commit: env!("DRYDOCK_COMMIT").to_owned(),
        toolchain: env!("DRYDOCK_TOOLCHAIN").to_owned(),
        lock_file_hash: Digest(lock),
        event_log_hash,
        event_count,
        checkpoints,
    }
}
