//! Each thing outside that the agent depends on is taken away and given back: it is said once, in
//! log, metric and `/readyz`, and comes back by itself.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::adapters::spool::SpoolDirectory;
use berth::core::exchange::{Attachment, DelRequest};

use crate::cluster::Host;
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
        fs::remove_file(&spool).unwrap();
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
        await_that(part, || daemon.said(part) == (count, count));
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
fn a_journals_disk_that_is_full_is_said_and_written_to_again() {
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
        fs::remove_file(&filler).unwrap();
    });
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let limit = boot_time() + Duration::from_mins(1);
    while !is_so() {
        assert!(boot_time() < limit, "{what}");
        std::thread::yield_now();
    }
}

/// A host whose agent does in a second what takes ten and twenty on a node.
fn hasty_host() -> Host {
    let mut host = Host::new();
    let second = Duration::from_secs(1);
    host.look_pause = second / 10;
    host.policy.sweep = second;
    host.policy.epoch_refresh = second;
    host.policy.release_after_del = second;
    host.policy.release_extra = Duration::ZERO;
    host.start_agent();
    host
}

#[test]
fn what_ended_without_a_del_while_the_runtime_was_away_is_free_once_it_is_back() {
    let mut host = hasty_host();
    let uids = ["stays", "goes"].map(|name| {
        let uid = host.api.add_pod(name);
        host.begin(name);
        host.runtime.begin(name, &uid);
        assert_eq!(host.verb("ADD", name, (name, &uid)).code, 0);
        uid
    });
    host.runtime.stop();
    await_that("it is stated", || host.api.part_lost() == "RuntimeLost");
    host.end("goes");
    host.runtime.end("goes");
    host.api.remove_pod("goes");
    let late = host.api.add_pod("late");
    host.begin("late");
    let run = host.verb("ADD", "late", ("late", &late));
    assert_eq!(run.code, 0, "an ADD needs no runtime: {}", run.stdout);
    host.runtime.start();
    host.await_release(&uids[1]);
    await_that("nothing is lost", || host.api.part_lost().is_empty());
    assert!(host.api.records().contains(&uids[0]));
    assert!(host.api.records().contains(&late));
    host.stop_agent();
}

#[test]
fn a_runtime_that_fails_or_hangs_is_not_taken_for_one_without_sandboxes() {
    let mut host = hasty_host();
    let uid = host.api.add_pod("p");
    host.begin("p");
    host.runtime.begin("p", &uid);
    assert_eq!(host.verb("ADD", "p", ("p", &uid)).code, 0);
    host.runtime.set_manner(Manner::Fails);
    await_that("it is stated", || host.api.part_lost() == "RuntimeLost");
    // The Pod's object is gone, its namespace is there, and its DEL came without a link deletion:
    // the address is due a second later, unless the runtime has the sandbox.
    host.api.remove_pod("p");
    assert_eq!(host.verb("DEL", "p", ("p", &uid)).code, 0);
    for manner in [Manner::Fails, Manner::Hangs] {
        host.runtime.set_manner(manner);
        let due = boot_time() + Duration::from_secs(3);
        let before = host.runtime.asked_count();
        await_that("it is asked when the address is due", || {
            boot_time() > due && host.runtime.asked_count() > before
        });
        assert!(host.api.records().contains(&uid), "its interface may be up");
    }
    host.runtime.set_manner(Manner::Lists);
    host.runtime.end("p");
    host.end("p");
    host.await_release(&uid);
    host.stop_agent();
}

#[test]
fn a_del_that_is_left_in_a_spool_made_anew_is_applied() {
    let mut host = hasty_host();
    let uid = host.api.add_pod("p");
    host.begin("p");
    assert_eq!(host.verb("ADD", "p", ("p", &uid)).code, 0);
    fs::rename(host.path("spool"), host.path("aside")).unwrap();
    let del = DelRequest {
        attachment: Attachment {
            container: "p".into(),
            interface: "eth0".into(),
        },
        netns: host.path("netns/p").display().to_string(),
    };
    let spool = SpoolDirectory::new(host.path("spool"));
    spool.leave(&del).unwrap();
    host.end("p");
    host.api.remove_pod("p");
    host.await_release(&uid);
    await_that("it is taken in", || spool.entry_count() == 0);
    host.stop_agent();
}

/// Unmounts what a test mounted, however it ends.
struct Unmounted<'p>(&'p Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}
