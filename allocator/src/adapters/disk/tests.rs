//! The store on a real file system: boots, sweeps, a take-over from host-local, damage.

use core::time::Duration;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::*;
use crate::cni::config::Config;
use crate::cni::disk::networks::Serves;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("ns")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn namespace(&self, name: &str) -> String {
        let path = self.path("ns").join(name);
        fs::write(&path, b"").unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn ask(&self, boot: &str, verb: DiskVerb) -> Result<Option<Answer>, Failure> {
        self.ask_of("net", boot, verb)
    }

    fn ask_of(&self, network: &str, boot: &str, verb: DiskVerb) -> Result<Option<Answer>, Failure> {
        let ask = DiskAsk {
            verb,
            version: crate::cni::version::SpecVersion::NEWEST,
            timeout: None,
            place: Some(DiskPlace {
                network: network.into(),
                data_directory: Some(self.path("")),
            }),
        };
        let rule = NodeRule {
            list: self.path("list"),
            serves: Serves::Anything,
        };
        let deadline = boot_time() + Duration::from_secs(20);
        serve(&ask, &rule, boot, deadline)
    }

    fn add(&self, boot: &str, who: &str, netns: &str) -> Result<String, Failure> {
        let document = json!({"name": "net", "ipam": {
            "ranges": [[{"subnet": "10.0.0.0/29"}]],
        }});
        let config = Config::decode(document.to_string().as_bytes()).unwrap();
        let add = DiskAdd {
            attachment: attachment(who),
            netns: netns.to_owned(),
            pod: String::new(),
            ips: Vec::new(),
            section: config.disk().unwrap(),
        };
        let answer = self.ask(boot, DiskVerb::Add(Box::new(add)))?.unwrap();
        Ok(answer.allocation.addresses[0].address.addr().to_string())
    }

    fn del(&self, boot: &str, who: &str) {
        let del = DelRequest {
            attachment: attachment(who),
            netns: String::new(),
        };
        assert_eq!(self.ask(boot, DiskVerb::Del(del)), Ok(None));
    }

    fn log(&self, boot: &str) -> PathBuf {
        self.path("net").join(format!("{PREFIX}{boot}{SUFFIX}"))
    }
}

fn attachment(container: &str) -> Attachment {
    Attachment {
        container: container.into(),
        interface: "eth0".into(),
    }
}

#[test]
fn another_boot_begins_anew_and_removes_what_the_last_one_left() {
    let place = Place::new();
    let ns = place.namespace("a");
    assert_eq!(place.add("b1", "a", &ns).unwrap(), "10.0.0.2");
    fs::write(place.log("b1"), b"torn by a power cut").unwrap();
    let aside = place.path("net/berth.b1.log.new");
    fs::write(&aside, b"of a writer that was killed").unwrap();
    assert_eq!(place.add("b2", "z", &ns).unwrap(), "10.0.0.2");
    assert!(!place.log("b1").exists() && !aside.exists());
    assert!(place.log("b2").exists());
}

#[test]
fn damage_within_a_boot_is_not_served() {
    let place = Place::new();
    let ns = place.namespace("a");
    place.add("b", "a", &ns).unwrap();
    let mut bytes = fs::read(place.log("b")).unwrap();
    bytes[100] ^= 1;
    fs::write(place.log("b"), &bytes).unwrap();
    let failure = place.add("b", "c", &ns).unwrap_err();
    assert_eq!(failure.code, Failure::IO);
    assert!(failure.message.contains("line 2"), "{failure:?}");
    let section = Box::default();
    let status = place.ask("b", DiskVerb::Status(section)).unwrap_err();
    assert_eq!(status.code, Failure::NOT_AVAILABLE);
    assert_eq!(fs::read(place.log("b")).unwrap(), bytes, "untouched");
}

#[test]
fn a_cut_line_is_cut_off_by_the_next_writer() {
    let place = Place::new();
    let ns = place.namespace("a");
    place.add("b", "a", &ns).unwrap();
    let whole = fs::read(place.log("b")).unwrap();
    place.add("b", "c", &ns).unwrap();
    let longer = fs::read(place.log("b")).unwrap();
    for cut in whole.len()..longer.len() {
        fs::write(place.log("b"), &longer[..cut]).unwrap();
        assert_eq!(place.add("b", "d", &ns).unwrap(), "10.0.0.3", "{cut}");
        let log = fs::read(place.log("b")).unwrap();
        assert_eq!(Ledger::replay("b", &log).map(|read| read.1), Ok(log.len()));
    }
}

#[test]
fn a_log_that_grows_is_written_anew_and_says_the_same() {
    let place = Place::new();
    let ns = place.namespace("a");
    let kept = place.add("b", "kept", &ns).unwrap();
    let mut longest = 0;
    for round in 0..400 {
        let who = format!("c{round}");
        place.add("b", &who, &ns).unwrap();
        place.del("b", &who);
        longest = longest.max(fs::metadata(place.log("b")).unwrap().len());
    }
    assert!(longest > 60_000, "{longest}");
    assert!(fs::metadata(place.log("b")).unwrap().len() < longest);
    assert_eq!(place.add("b", "kept", &ns).unwrap(), kept);
}

/// A process in a network namespace of its own; ends with the value.
struct Inhabitant(Child);

impl Inhabitant {
    fn new() -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["-n", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        // What it echoes shows that it is there.
        child.stdin.as_mut()?.write_all(b"x").ok()?;
        let mut echo = [0; 1];
        child.stdout.as_mut()?.read_exact(&mut echo).ok()?;
        Some(Self(child))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_exhausted_range_is_swept_of_namespaces_that_ended_and_of_no_others() {
    let place = Place::new();
    let here = place.namespace("a");
    for who in ["a", "b", "c"] {
        place.add("b", who, &here).unwrap();
    }
    let gone = place.namespace("gone");
    let freed = place.add("b", "d", &gone).unwrap();
    let Some(inhabitant) = Inhabitant::new() else {
        eprintln!("skipped: no namespace can be made here");
        return;
    };
    // A path that is wiped while its namespace is lived in.
    let wiped = place.path("ns").join("wiped");
    std::os::unix::fs::symlink(inhabitant.path(), &wiped).unwrap();
    place.add("b", "e", wiped.to_str().unwrap()).unwrap();
    fs::remove_file(&wiped).unwrap();

    let full = place.add("b", "f", &here).unwrap_err();
    assert_eq!(full.code, Failure::TRY_AGAIN);
    fs::remove_file(&gone).unwrap();
    assert_eq!(place.add("b", "f", &here).unwrap(), freed);
    assert!(place.add("b", "g", &here).is_err());
    drop(inhabitant);
    assert!(place.add("b", "g", &here).is_ok());
}

#[test]
fn an_add_into_a_namespace_that_is_gone_is_refused_and_takes_nothing() {
    let place = Place::new();
    let failure = place.add("b", "a", "/nowhere/ns").unwrap_err();
    assert_eq!(failure.code, Failure::INVALID_ENVIRONMENT);
    assert!(!place.log("b").exists());
}

#[test]
fn what_host_local_handed_out_stays_held_and_is_released_by_del() {
    let place = Place::new();
    let ns = place.namespace("a");
    let net = place.path("net");
    fs::create_dir(&net).unwrap();
    fs::write(net.join("10.0.0.2"), b"old\r\neth0").unwrap();
    fs::write(net.join("10.0.0.3"), b"older").unwrap();
    fs::write(net.join("last_reserved_ip.0"), b"10.0.0.3").unwrap();
    assert_eq!(place.add("b", "a", &ns).unwrap(), "10.0.0.4");
    assert_eq!(place.add("b", "old", &ns).unwrap(), "10.0.0.2", "its own");
    let second = place.add("b", "older", &ns).unwrap();
    assert_eq!(
        second, "10.0.0.5",
        "host-local wrote no interface: perhaps another one"
    );
    for old in ["old", "older", "older"] {
        place.del("b", old);
    }
    let left: Vec<_> = ["10.0.0.2", "10.0.0.3"]
        .into_iter()
        .filter(|name| net.join(name).exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let next: Vec<_> = ["c", "d", "e", "f"]
        .map(|who| place.add("b", who, &ns).unwrap())
        .into();
    assert_eq!(next, ["10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.5"]);
}

#[test]
fn gc_releases_what_is_not_named_unless_it_lives_and_refuses_no_list() {
    let place = Place::new();
    let (here, gone) = (place.namespace("a"), place.namespace("gone"));
    place.add("b", "named", &gone).unwrap();
    place.add("b", "lives", &here).unwrap();
    let freed = place.add("b", "ended", &gone).unwrap();
    fs::remove_file(&gone).unwrap();
    let gc = |valid| place.ask("b", DiskVerb::Gc(GcRequest { valid }));
    assert_eq!(gc(None).unwrap_err().code, Failure::INVALID_CONFIGURATION);
    assert_eq!(gc(Some(vec![attachment("named")])), Ok(None));
    let log = fs::read(place.log("b")).unwrap();
    let (ledger, _) = Ledger::replay("b", &log).unwrap();
    let holders: Vec<_> = ledger
        .bindings()
        .map(|(a, _)| a.container.clone())
        .collect();
    assert_eq!(holders, ["lives", "named"], "{freed} is free");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_and_a_link_is_not_followed() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let ns = place.namespace("a");
    fs::create_dir(place.path("net")).unwrap();
    fs::set_permissions(place.path("net"), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(place.add("b", "a", &ns).unwrap_err().code, Failure::IO);
    fs::set_permissions(place.path("net"), fs::Permissions::from_mode(0o755)).unwrap();
    let victim = place.path("victim");
    fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, place.log("b")).unwrap();
    assert_eq!(place.add("b", "a", &ns).unwrap_err().code, Failure::IO);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_lock_that_another_holds_is_waited_for_until_the_deadline() {
    let place = Place::new();
    fs::create_dir(place.path("net")).unwrap();
    let path = place.path("net").join(LOCK);
    let soon = |ms| boot_time() + Duration::from_millis(ms);
    let held = lock(&path, soon(1000)).unwrap();
    let refused = lock(&path, soon(30)).unwrap_err();
    assert_eq!(refused.code, Failure::TRY_AGAIN);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| lock(&path, soon(20_000)));
        drop(held);
        assert!(waiting.join().unwrap().is_ok());
    });
}

#[test]
fn the_store_looks_at_names_again_whoever_asks() {
    let place = Place::new();
    let del = |container: &str, interface: &str| {
        DiskVerb::Del(DelRequest {
            attachment: Attachment {
                container: container.into(),
                interface: interface.into(),
            },
            netns: String::new(),
        })
    };
    for (network, container, interface) in [
        ("..", "c", "eth0"),
        ("a/b", "c", "eth0"),
        ("", "c", "eth0"),
        ("net", "../c", "eth0"),
        ("net", "c\n", "eth0"),
        ("net", "c", "../eth0"),
        ("net", "c", ""),
    ] {
        let refused = place.ask_of(network, "b", del(container, interface));
        assert_eq!(refused.unwrap_err().code, Failure::INVALID_ENVIRONMENT);
    }
    assert_eq!(place.ask_of("net", "b", del("c", "eth0")), Ok(None));
}

/// What lies under a name of the store and is no file of its own.
fn impostors() -> [&'static str; 4] {
    ["link", "fifo", "directory", "device"]
}

fn put(kind: &str, at: &Path, victim: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let mode = Mode::RUSR | Mode::WUSR;
    match kind {
        "link" => std::os::unix::fs::symlink(victim, at).unwrap(),
        "fifo" => mknodat(CWD, at, FileType::Fifo, mode, 0).unwrap(),
        "directory" => fs::create_dir(at).unwrap(),
        // What a container with a device may be refused; then it is one more FIFO.
        _ => mknodat(
            CWD,
            at,
            FileType::CharacterDevice,
            mode,
            rustix::fs::makedev(1, 5),
        )
        .or_else(|_| mknodat(CWD, at, FileType::Fifo, mode, 0))
        .unwrap(),
    }
}

#[test]
fn no_link_fifo_or_device_in_place_of_lock_or_log_is_followed_or_waited_for() {
    for kind in impostors() {
        for name in [LOCK, "berth.b.log"] {
            let place = Place::new();
            let ns = place.namespace("a");
            fs::create_dir(place.path("net")).unwrap();
            let victim = place.path("victim");
            fs::write(&victim, b"precious").unwrap();
            put(kind, &place.path("net").join(name), &victim);
            let failure = place.add("b", "a", &ns).unwrap_err();
            assert_eq!(failure.code, Failure::IO, "{kind} {name}: {failure:?}");
            assert_eq!(fs::read(&victim).unwrap(), b"precious");
        }
    }
    for kind in ["link", "fifo", "device"] {
        let place = Place::new();
        let ns = place.namespace("a");
        fs::create_dir(place.path("net")).unwrap();
        let victim = place.path("victim");
        fs::write(&victim, b"precious").unwrap();
        put(kind, &place.path("net/berth.b.log.new"), &victim);
        assert!(place.add("b", "a", &ns).is_ok(), "{kind}: it is put aside");
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert!(fs::symlink_metadata(place.log("b")).unwrap().is_file());
    }
}

#[test]
fn what_bears_an_address_in_host_locals_directory_is_held_and_never_read() {
    let place = Place::new();
    let ns = place.namespace("a");
    let net = place.path("net");
    fs::create_dir(&net).unwrap();
    let victim = place.path("victim");
    fs::write(&victim, b"a\neth0").unwrap();
    for (name, kind) in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
        .into_iter()
        .zip(impostors())
    {
        put(kind, &net.join(name), &victim);
    }
    put("fifo", &net.join("last_reserved_ip.0"), &victim);
    fs::write(net.join("fd00::1"), b"\xff\xfe").unwrap();
    put("link", &net.join("fd00:0::1"), &victim);
    // `a` is the container that the link would have named.
    assert_eq!(place.add("b", "a", &ns).unwrap(), "10.0.0.6");
    place.del("b", "a");
    assert!(net.join("10.0.0.2").is_symlink() && victim.exists());
}
