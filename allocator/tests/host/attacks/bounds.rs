//! What is huge, deep or loud; the socket, and what an installation leaves.

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use berth::adapters::clock::boot_time;
use berth::adapters::daemon::{LogFormat, log_to};
use berth::adapters::frame;
use berth::adapters::listener::SocketInbox;
use berth::core::objects::{ANNOTATION_POOL, FamilySpec};
use serde_json::{Value, json};

use super::{BERTH, Site, code, config, tree};
use crate::cluster::Host;

#[test]
fn huge_and_deep_input_is_refused_within_its_bounds() {
    let site = Site::new();
    let uid = site.host.api.add_pod("big");
    let args = format!("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=big;K8S_POD_UID={uid}");
    let mut config = config();
    let sized = |key: &str, value: Value| {
        let mut config = config.clone();
        config["ipam"][key] = value;
        config.to_string().into_bytes()
    };
    let ranges: Vec<Value> = (0..20_000)
        .map(|i| json!([{"subnet": format!("10.{}.{}.{}/30", i >> 14, i >> 6 & 255, i % 64 * 4)}]))
        .collect();
    let mut inputs = vec![
        (6, vec![b' '; 3 << 20]),
        (6, [b"{\"name\":".as_slice(), &vec![b'['; 900_000]].concat()),
        (6, "{\"a\":".repeat(150_000).into_bytes()),
        (7, sized("pools", json!(vec!["pool"; 65]))),
        (7, sized("ranges", json!(ranges))),
        (7, sized("ranges", json!(vec![json!([]); 100_000]))),
        (7, sized("timeoutMilliseconds", json!(u64::MAX))),
    ];
    let ips: Vec<String> = (0..30_000).map(|i| format!("fd09::{i:x}")).collect();
    config["runtimeConfig"] = json!({"ips": ips});
    inputs.push((7, config.to_string().into_bytes()));
    for (expected, stdin) in inputs {
        let mut command = Command::new("prlimit");
        // Units: bytes and seconds. Ten times what is needed: more would be the attack's success.
        command.args(["--as=268435456", "--cpu=10", BERTH]);
        command.env("CNI_NETNS", site.host.path("netns/victim"));
        let run = site.host.execute(command, "ADD", "big", &args, &stdin);
        let shown = String::from_utf8_lossy(&stdin[..stdin.len().min(60)]).into_owned();
        assert_eq!(code(&run), expected, "{shown}: {}", run.stdout);
        assert!(run.stdout.len() < 2048, "{}", run.stdout.len());
    }
    // A frame that claims four gigabytes, and a peer that says nothing more.
    let mut stream = UnixStream::connect(site.host.path("run/agent.sock")).unwrap();
    stream.write_all(&[0xff; frame::HEAD_BYTES]).unwrap();
    let status = site.call("STATUS", ("victim", &site.victim), &super::config(), "");
    assert_eq!(status.code, 0, "{}", status.stdout);
    site.end();
}

#[test]
fn a_huge_pool_with_many_excludes_costs_an_add_nothing() {
    let site = Site::new();
    // 2^24 pairs of which nearly all are excluded, address by address and by halves of the rest.
    let v4: Vec<String> = (0..64)
        .map(|i| format!("10.0.{}.{}", i / 8, i % 8 * 2))
        .chain((1..128).map(|i| format!("10.{i}.0.0/16")))
        .collect();
    let v6: Vec<String> = (1..200_u32)
        .map(|i| format!("fd0a::{i:x}:0:0-fd0a::{i:x}:ffff:ffff"))
        .collect();
    let family = |range: &str, exclude: Vec<String>| FamilySpec {
        ranges: vec![range.to_owned()],
        exclude,
        ..FamilySpec::default()
    };
    site.host.api.add_pool(
        "huge",
        vec![family("10.0.0.0/8", v4), family("fd0a::/64", v6)],
    );
    let uid = site.host.api.add_pod("big");
    let mut config = config();
    config["ipam"]["pools"] = json!(["huge"]);
    config["ipam"]["timeoutMilliseconds"] = json!(10_000);
    let added = site.call("ADD", ("big", &uid), &config, "");
    assert_eq!(added.code, 0, "{}", added.stdout);
    assert!(added.addresses()[0].starts_with("10."), "{}", added.stdout);
    site.end();
}

#[test]
fn socket_and_directory_are_roots_and_no_link_or_file_takes_their_place() {
    let site = Site::new();
    let path = site.host.path("run/agent.sock");
    let own = rustix::process::geteuid().as_raw();
    for (path, mode) in [(path.clone(), 0o600), (site.host.path("run"), 0o700)] {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (mode, own));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _within = runtime.enter();
    assert!(SocketInbox::listen(&path, own).is_err(), "a second agent");
    assert!(
        std::fs::symlink_metadata(&path)
            .unwrap()
            .file_type()
            .is_socket()
    );

    // Somebody made a link where the directory will be: neither followed nor closed to others.
    std::fs::create_dir(site.host.path("theirs")).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.host.path("theirs"), open).unwrap();
    std::os::unix::fs::symlink(site.host.path("theirs"), site.host.path("linked")).unwrap();
    let through = SocketInbox::listen(&site.host.path("linked/agent.sock"), own);
    assert!(through.is_err());
    assert_eq!(
        std::fs::read_dir(site.host.path("theirs")).unwrap().count(),
        0
    );
    let mode = std::fs::metadata(site.host.path("theirs")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o755);

    // What lies at the socket's own name is replaced, and what a link there names is not.
    let victim = site.host.path("precious");
    std::fs::write(&victim, b"precious").unwrap();
    for (name, is_link) in [("stale", false), ("link", true)] {
        let at = site.host.path(name).join("agent.sock");
        std::fs::create_dir(site.host.path(name)).unwrap();
        if is_link {
            std::os::unix::fs::symlink(&victim, &at).unwrap();
        } else {
            drop(std::os::unix::net::UnixListener::bind(&at).unwrap());
        }
        let inbox = SocketInbox::listen(&at, own).unwrap();
        assert!(
            std::fs::symlink_metadata(&at)
                .unwrap()
                .file_type()
                .is_socket()
        );
        drop(inbox);
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    site.end();
}

#[test]
fn installing_leaves_nothing_of_the_cluster_on_the_host() {
    let host = Host::new();
    let bin = host.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthd"));
    command.args(["install", "--plugin", BERTH, "--plugin-directory"]);
    let done = command.arg(&bin).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let files: Vec<PathBuf> = tree(&bin).into_iter().collect();
    let names = [".berth.berth-agent", ".berth.berth-receipt", "berth"];
    assert_eq!(files, names.map(|name| bin.join(name)));
    for file in &files[..2] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() < 1024 && !text.contains("token"), "{text}");
    }
    // And the container that does it sees no more of the host.
    let base = include_str!("../../../deploy/kustomize/berth.yaml");
    let (_, init) = base.split_once("initContainers:").unwrap();
    let (init, _) = init.split_once("      containers:").unwrap();
    assert_eq!(init.matches("mountPath:").count(), 1, "{init}");
    assert!(init.contains("mountPath: /host/cni-bin"), "{init}");
}

#[test]
fn no_text_of_a_tenant_becomes_a_label_or_a_second_line() {
    let mut host = Host::new();
    let (metrics, posted) = host.start_watched_agent();
    let uid = host.api.add_pod("loud");
    let hostile = "x\"} 1\nberth_fake_total{pod=\"x\"} 7\n# EOF\n\u{1b}[2J";
    host.api.annotate_pod("loud", ANNOTATION_POOL, hostile);
    host.api.annotate_pod("loud", "note", hostile);
    let site = Site {
        host,
        victim: uid.clone(),
        held: String::new(),
    };
    let mut config = config();
    config["ipam"]["timeoutMilliseconds"] = json!(1500);
    let texts = [
        format!(";FAKE={hostile}"),
        format!(";K8S_POD_NAME={hostile}"),
        format!(";K8S_POD_UID={hostile}"),
        format!(";IP={hostile}"),
        String::new(),
    ];
    for args in &texts {
        let run = site.call("ADD", ("loud", &uid), &config, args);
        // Whatever it is answered, that is one document on one line.
        assert_eq!(run.stdout.trim_end().lines().count(), 1, "{:?}", run.stdout);
        assert!(!run.stdout.contains('\u{1b}'), "{:?}", run.stdout);
        assert!(run.document().is_object());
    }
    config["name"] = json!(hostile);
    assert_eq!(code(&site.call("ADD", ("loud", &uid), &config, "")), 7);
    let page = metrics.render(boot_time());
    assert!(page.contains("berth_answers_total{verb=\"ADD\""), "{page}");
    for part in ["fake", "loud", "\u{1b}", uid.as_str()] {
        assert!(!page.contains(part), "{part:?} in\n{page}");
    }
    let bad = |c: char| c.is_control();
    for event in posted.0.lock().unwrap().iter() {
        assert!(!event["note"].as_str().unwrap().contains(bad), "{event}");
    }
    let mut host = site.host;
    host.stop_agent();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_event_of_the_log_is_one_line() {
    let hostile = "x\n2026-01-01T00:00:00Z  INFO berthd: all is well\r\u{1b}[2J\u{2028}";
    for format in [LogFormat::Text, LogFormat::Json] {
        let log = Log::default();
        let writer = log.clone();
        let dispatch = log_to(format, "info".parse().unwrap(), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(reason = hostile, shown = %hostile, asked = ?hostile, "pool {hostile}");
        });
        let bytes = log.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(
            !text.trim_end().contains(|c: char| c.is_control()),
            "{text:?}"
        );
        assert_eq!(
            text.matches("all is well").count(),
            4,
            "nothing is lost: {text:?}"
        );
    }
}
