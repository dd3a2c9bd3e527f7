//! Network namespaces that a test makes and that end with it, whatever happens; and whether this
//! host can make them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use berth::adapters::clock::boot_time;

/// Whether the programs are there and this is root.
///
/// Panics: they are required and are not.
pub(crate) fn has(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs
        .iter()
        .filter(|name| {
            !["/usr/lib/cni", "/usr/bin", "/usr/sbin", "/bin", "/sbin"]
                .iter()
                .any(|directory| Path::new(directory).join(name).exists())
        })
        .collect();
    let root = rustix::process::geteuid().is_root();
    if missing.is_empty() && root {
        return true;
    }
    let why = format!("root: {root}, missing: {missing:?}");
    assert!(std::env::var_os("REQUIRE_CNI").is_none(), "required: {why}");
    eprintln!("skipped: {why}");
    false
}

/// Namespaces that end with the value: one that plays the host, and two containers.
pub(crate) struct Namespaces {
    names: Vec<String>,
}

impl Namespaces {
    pub(crate) fn new(kind: &str) -> Self {
        let process = std::process::id();
        let names = ["host", "one", "two"].map(|role| format!("berth-{kind}-{process}-{role}"));
        let namespaces = Self {
            names: names.into(),
        };
        for name in &namespaces.names {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        namespaces
    }

    pub(crate) fn host(&self) -> &str {
        &self.names[0]
    }

    pub(crate) fn containers(&self) -> [&str; 2] {
        [&self.names[1], &self.names[2]]
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a ping is answered within some seconds: an IPv6 address is usable only when the kernel
/// has looked for others who use it.
pub(crate) fn reaches(from: &str, ip_text: &str) -> bool {
    // A ping ends at once while its own address is still being checked for duplicates, and when a
    // neighbor did not answer in time; on a loaded machine both take longer than they should.
    let bound = boot_time() + Duration::from_secs(40);
    while boot_time() < bound {
        let ping = Command::new("ip")
            .args(["netns", "exec", from])
            .args(["ping", "-n", "-c", "1", "-w", "20", "-i", "0.2", ip_text])
            .output()
            .unwrap();
        if ping.status.success() {
            return true;
        }
    }
    false
}
