//! Each thing outside that the agent depends on is taken away and given back: it is said once, in
//! log, metric and `/readyz`, and comes back by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon::Daemon;
use crate::runtime::{FakeRuntime, Manner};

/// Takes a part away and gives it back; what was said of it meanwhile.
fn lose(
    daemon: &mut Daemon,
    part: &str,
    take: impl FnOnce(&mut Daemon),
    give: impl FnOnce(&mut Daemon),
) -> String {
    let before = daemon.said(part);
    take(daemon);
    daemon.await_ready(&[part]);
    let said = daemon.readyz(part);
    give(daemon);
    daemon.await_ready(&[]);
    assert_eq!(daemon.readyz(part), "");
    let after = daemon.said(part);
    assert_eq!(
        (after.0 - before.0, after.1 - before.1),
        (1, 1),
        "{part} is said once: {}",
        daemon.log()
    );
    said
}

#[test]
fn a_runtime_that_goes_refuses_fails_hangs_or_is_replaced_is_said_and_asked_again() {
    let Some(mut daemon) = Daemon::started() else {
        return;
    };
    let socket = daemon.path("runtime/cri.sock");
    let start = |daemon: &mut Daemon| daemon.runtime.start();
    let said = lose(&mut daemon, "runtime", |d| d.runtime.stop(), start);
    assert!(said.starts_with("degraded: "), "it is still ready: {said}");
    assert!(said.contains("cri.sock: Connection refused"), "{said}");
    let gone = |daemon: &mut Daemon| {
        daemon.runtime.stop();
        fs::remove_file(&socket).unwrap();
    };
    let said = lose(&mut daemon, "runtime", gone, start);
    assert!(said.contains("No such file"), "{said}");
    let lists = |daemon: &mut Daemon| daemon.runtime.set_manner(Manner::Lists);
    let fails = |daemon: &mut Daemon| daemon.runtime.set_manner(Manner::Fails);
    let said = lose(&mut daemon, "runtime", fails, lists);
    assert!(said.contains("Unavailable"), "{said}");
    // The one that hangs goes on to, with its connections; another takes its place.
    let hangs = |daemon: &mut Daemon| daemon.runtime.set_manner(Manner::Hangs);
    let mut old = None;
    let said = lose(&mut daemon, "runtime", hangs, |daemon| {
        let next = FakeRuntime::started(&socket);
        old = Some(std::mem::replace(&mut daemon.runtime, next));
    });
    assert!(said.contains("no answer in 10 s"), "{said}");
    // A file that is no socket, and a directory that is renamed away and back.
    let file = |daemon: &mut Daemon| {
        daemon.runtime.stop();
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, b"").unwrap();
    };
    lose(&mut daemon, "runtime", file, start);
    let (there, aside) = (daemon.path("runtime"), daemon.path("aside"));
    lose(
        &mut daemon,
        "runtime",
        |_| fs::rename(&there, &aside).unwrap(),
        |_| fs::rename(&aside, &there).unwrap(),
    );
    drop(old);
}

/// The agent's part of a container: what it was given of the host is mounted elsewhere.
#[test]
fn through_a_mounted_directory_a_restarted_runtime_is_seen_and_through_a_mounted_file_it_is_not() {
    for (script, socket, lost) in [
        (
            "mkdir seen; mount --bind runtime seen; exec \"$@\"",
            "seen/cri.sock",
            &[][..],
        ),
        (
            "touch seen; mount --bind runtime/cri.sock seen; exec \"$@\"",
            "seen",
            &["runtime"][..],
        ),
    ] {
        let Some(mut daemon) = Daemon::host() else {
            return;
        };
        let socket = daemon.path(socket);
        daemon.start(script, &socket);
        // The plugin, which nobody installed here, is put in its place at the first look.
        daemon.await_ready(&[]);
        daemon.runtime.stop();
        daemon.await_ready(&["runtime"]);
        daemon.runtime.start();
        let asked = daemon.runtime.asked_count();
        if lost.is_empty() {
            daemon.await_ready(&[]);
            assert!(daemon.runtime.asked_count() > asked);
        } else {
            // Ten looks later it is still lost.
            let count = |daemon: &Daemon| daemon.page("/metrics").unwrap().1.lines().count();
            for _ in 0..10 {
                assert!(count(&daemon) > 0);
                daemon.await_ready(lost);
            }
            assert_eq!(daemon.runtime.asked_count(), asked, "it cannot be reached");
        }
    }
}

#[test]
fn a_mount_of_what_the_host_removed_makes_the_container_unhealthy_so_that_it_is_mounted_anew() {
    let Some(mut daemon) = Daemon::host() else {
        return;
    };
    fs::create_dir(daemon.path("host-netns")).unwrap();
    let socket = daemon.path("runtime/cri.sock");
    let script = "mount --bind host-netns netns; exec \"$@\"";
    daemon.start(script, &socket);
    daemon.await_ready(&[]);
    assert_eq!(daemon.page("/healthz").unwrap().0, 200);
    fs::remove_dir_all(daemon.path("host-netns")).unwrap();
    fs::create_dir(daemon.path("host-netns")).unwrap();
    daemon.await_ready(&["namespaces"]);
    let (code, body) = daemon.page("/healthz").unwrap();
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("removed on the host"), "{body}");
    // What a kubelet does then.
    daemon.kill();
    daemon.start(script, &socket);
    daemon.await_ready(&[]);
    assert_eq!(daemon.page("/healthz").unwrap().0, 200);
}

#[test]
fn directories_that_are_removed_or_replaced_are_said_and_used_again() {
    let Some(mut daemon) = Daemon::started() else {
        return;
    };
    let netns = daemon.path("netns");
    let make = |path: &Path| fs::create_dir(path).unwrap();
    let said = lose(
        &mut daemon,
        "namespaces",
        |_| fs::remove_dir_all(&netns).unwrap(),
        |_| make(&netns),
    );
    assert!(said.starts_with("degraded: namespaces: "), "{said}");
    let file = |_: &mut Daemon| {
        fs::remove_dir_all(&netns).unwrap();
        fs::write(&netns, b"").unwrap();
    };
    let directory = |_: &mut Daemon| {
        fs::remove_file(&netns).unwrap();
        make(&netns);
    };
    let said = lose(&mut daemon, "namespaces", file, directory);
    assert!(said.contains("it is no directory"), "{said}");
    // A spool that is missing is made; a file in its place is not touched.
    let spool = daemon.path("state/spool");
    fs::remove_dir_all(&spool).unwrap();
    let file = |_: &mut Daemon| {
        let _ = fs::remove_dir_all(&spool);
        fs::write(&spool, b"").unwrap();
    };
    let said = lose(&mut daemon, "spool", file, |_| {
        fs::remove_file(&spool).unwrap()
    });
    assert!(said.starts_with("degraded: spool: "), "{said}");
    assert!(spool.is_dir());
}

#[test]
fn what_only_the_agent_makes_it_makes_anew() {
    let Some(daemon) = Daemon::started() else {
        return;
    };
    let back = |part: &str, count: usize| {
        let limit = berth::adapters::clock::boot_time() + std::time::Duration::from_secs(60);
        while daemon.said(part) != (count, count) {
            let now = berth::adapters::clock::boot_time();
            assert!(now < limit, "{part}: {}", daemon.log());
            std::thread::yield_now();
        }
    };
    fs::remove_file(daemon.path("run/s")).unwrap();
    back("socket", 1);
    fs::remove_dir_all(daemon.path("run")).unwrap();
    back("socket", 2);
    assert!(std::os::unix::net::UnixStream::connect(daemon.path("run/s")).is_ok());
    fs::remove_file(daemon.path("bin/berth")).unwrap();
    back("plugin", 1);
    assert_eq!(fs::read(daemon.path("bin/berth")).unwrap(), b"a plugin");
    fs::remove_file(daemon.path("state/journal")).unwrap();
    back("journal", 1);
    assert!(daemon.path("state/journal").is_file());
    fs::remove_dir_all(daemon.path("state")).unwrap();
    back("journal", 2);
    assert!(daemon.path("state/journal.lock").is_file());
    daemon.await_ready(&[]);
}

#[test]
fn another_s_plugin_in_the_place_of_ours_is_said_and_left_alone() {
    let Some(mut daemon) = Daemon::started() else {
        return;
    };
    let plugin = daemon.path("bin/berth");
    let foreign = |_: &mut Daemon| fs::write(&plugin, "theirs").unwrap();
    let said = lose(&mut daemon, "plugin", foreign, |_| {
        assert_eq!(fs::read(&plugin).unwrap(), b"theirs");
        fs::remove_file(&plugin).unwrap();
    });
    assert!(
        said.starts_with("plugin: ") && said.contains("not what berthd put there"),
        "no Pod can start here: it is not ready: {said}"
    );
}

#[test]
fn a_journals_disk_that_is_full_or_read_only_is_said_and_written_to_again() {
    let Some(mut daemon) = Daemon::host() else {
        return;
    };
    let socket = daemon.path("runtime/cri.sock");
    let state = daemon.path("state");
    fs::create_dir(&state).unwrap();
    let mount = |arguments: &[&str]| {
        let mut mount = Command::new("mount");
        let output = mount.args(arguments).arg(&state).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    mount(&["-t", "tmpfs", "-o", "size=256k", "none"]);
    let _unmounted = Unmounted(&state);
    daemon.start("exec \"$@\"", &socket);
    daemon.await_ready(&[]);
    let filler = state.join("filler");
    let fill = |_: &mut Daemon| {
        let full = fs::write(&filler, vec![0; 512 << 10]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    };
    lose(&mut daemon, "journal", fill, |_| {
        fs::remove_file(&filler).unwrap()
    });
}

/// Unmounts what a test mounted, however it ends.
struct Unmounted<'p>(&'p Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}
