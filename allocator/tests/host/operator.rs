//! `kubectl berth` as an operator calls it, over a cluster that answers lists and takes writes.
//! What it says of a cluster is decided by `berth::survey` and tested there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth::adapters::apiserver::{api_version, plural};
use berth::core::objects::{ANNOTATION_BURY, ANNOTATION_RELEASE, Kind};
use berth::testing::{Faults, PodPlan, World};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-berth");

/// A cluster with one pool, one node and two Pods that run, and the address of the first.
struct Objects {
    by_plural: BTreeMap<&'static str, Vec<Value>>,
    address: String,
}

impl Objects {
    fn new() -> Self {
        let mut world = World::new(1, Faults::default());
        world.add_pool("p", &[&["10.7.0.0/29"]], Some(8));
        world.start_controller("c");
        world.add_node("n0");
        for name in ["a", "b"] {
            world.create_pod(PodPlan {
                node: "n0",
                name,
                sandbox_after: Duration::from_millis(300),
            });
        }
        world.run_for(Duration::from_secs(90));
        let by_plural = [
            Kind::AddressPool,
            Kind::AddressBlock,
            Kind::AddressReservation,
            Kind::BerthNode,
            Kind::DomainApproval,
            Kind::Node,
            Kind::Pod,
        ]
        .map(|kind| {
            let objects = world.with_store(|store| {
                let objects = store.of_kind(kind);
                objects
                    .map(|object| serde_json::to_value(object).unwrap())
                    .collect()
            });
            (plural(kind), objects)
        });
        let address = world.addresses_of("a")[0].to_string();
        Self {
            by_plural: by_plural.into(),
            address,
        }
    }
}

/// Stops the server, whatever happened.
struct Stops<'a>(&'a AtomicBool, SocketAddr);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.1));
    }
}

/// One request for each connection: its method, path and body, and an answer.
fn serve(stream: TcpStream, objects: &Objects, written: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap();
    let answer = if let Some(name) = path.strip_prefix("/api/v1/namespaces/") {
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "uid": "u", "resourceVersion": "1"}})
    } else if method == "GET" {
        let items = path
            .rsplit('/')
            .next()
            .and_then(|of| objects.by_plural.get(of));
        let items = items.unwrap_or_else(|| panic!("{target}"));
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "9"},
            "items": items})
    } else {
        assert_eq!(method, "PUT", "{target}");
        let value: Value = serde_json::from_slice(&body).unwrap();
        written.lock().unwrap().push(value.clone());
        value
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        answer.len()
    );
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
}

/// Exit code, stdout and stderr.
type Said = (i32, String, String);

fn run(arguments: &[&str]) -> Said {
    let output = Command::new(PROGRAM)
        .env_clear()
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

/// Lets `ask` call the program on these objects; what was written.
fn with_cluster(objects: &Objects, ask: impl FnOnce(&dyn Fn(&[&str]) -> Said)) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let (stopped, written) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let _stops = Stops(&stopped, address);
        scope.spawn(|| {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                serve(stream.unwrap(), objects, &written);
            }
        });
        ask(&|arguments| run(&[arguments, &[kubeconfig.as_str()]].concat()));
    });
    written.into_inner().unwrap()
}

#[test]
fn every_command_answers_from_a_cluster_and_check_exits_with_3() {
    let mut objects = Objects::new();
    let address = objects.address.clone();
    let written = with_cluster(&objects, |ask| {
        let (code, said, error) = ask(&["pools"]);
        assert_eq!(code, 0, "{error}");
        assert!(said.lines().any(|line| line.starts_with("p ")), "{said}");
        for words in [&["who"][..], &["who", address.as_str()], &["who", "ns/a"]] {
            let (code, said, error) = ask(words);
            assert_eq!(code, 0, "{words:?}: {error}");
            assert!(said.contains(&address) && said.contains("ns/a"), "{said}");
        }
        let (code, _, error) = ask(&["who", "10.7.9.9"]);
        assert!(
            code == 1 && error.contains("nobody holds"),
            "{code} {error}"
        );
        let (code, said, error) = ask(&["explain", "a", "-n", "ns"]);
        assert_eq!(code, 0, "{error}");
        assert!(said.contains(&address) && said.contains('p'), "{said}");
        let (code, said, error) = ask(&["check"]);
        assert_eq!(code, 0, "a healthy cluster: {said}{error}");
        for command in [
            &["pools"][..],
            &["who"],
            &["check"],
            &["explain", "a", "-n", "ns"],
        ] {
            let shown = |output: &str| {
                let (code, said, error) = ask(&[command, &["-o", output]].concat());
                assert_eq!(code, 0, "{command:?} {output}: {error}");
                said
            };
            let value: Value = serde_json::from_str(&shown("json")).unwrap();
            assert!(value.is_array() || value.is_object(), "{value}");
            let same: Value = serde_saphyr::from_str(&shown("yaml")).unwrap();
            assert_eq!(same, value, "{command:?}");
            let longest = |text: String| text.lines().map(str::len).max();
            assert!(longest(shown("wide")) >= longest(shown("table")));
        }
    });
    assert_eq!(written, [] as [Value; 0]);

    objects.by_plural.get_mut("pods").unwrap().clear();
    with_cluster(&objects, |ask| {
        let (code, said, _) = ask(&["check"]);
        assert!(code == 3 && said.contains(&address), "{code} {said}");
    });
    // One that cannot be read is left out of the others' answers, and found.
    let pools = objects.by_plural.get_mut("addresspools").unwrap();
    pools.push(
        json!({"apiVersion": api_version(Kind::AddressPool), "kind": "AddressPool",
        "metadata": {"name": "bad", "uid": "u"}, "spec": {"families": 7}}),
    );
    with_cluster(&objects, |ask| {
        for words in [
            &["pools"][..],
            &["who"],
            &["release", address.as_str(), "--dry-run"],
        ] {
            let (code, _, error) = ask(words);
            assert!(
                code == 0 && error.contains("cannot be read"),
                "{words:?}: {error}"
            );
        }
        let (code, said, _) = ask(&["check"]);
        assert!(code == 3 && said.contains("spec.families"), "{code} {said}");
    });
}

#[test]
fn an_order_writes_once_and_a_dry_run_nothing() {
    let objects = Objects::new();
    let release = ["release", objects.address.as_str()];
    let written = with_cluster(&objects, |ask| {
        let (code, said, error) = ask(&[&release[..], &["--dry-run"]].concat());
        assert!(code == 0 && said.contains("dry run"), "{said}{error}");
        let (code, said, error) = ask(&["bury", "n0", "--dry-run"]);
        assert!(code == 0 && said.contains("dry run"), "{said}{error}");
        let (code, _, error) = ask(&["bury", "n0"]);
        assert!(code == 1 && error.contains("--machine-is-off"), "{error}");
        // A machine answers for it.
        let (code, _, error) = ask(&[&release[..], &["--force"]].concat());
        assert!(code == 1 && error.contains("is not released"), "{error}");
    });
    assert_eq!(written, [] as [Value; 0]);
    for (order, annotation) in [
        (&release[..], ANNOTATION_RELEASE),
        (&["bury", "n0", "--machine-is-off"][..], ANNOTATION_BURY),
    ] {
        let written = with_cluster(&objects, |ask| {
            let (code, _, error) = ask(order);
            assert_eq!(code, 0, "{order:?}: {error}");
        });
        let [machine] = written.as_slice() else {
            panic!("{order:?}: {written:?}")
        };
        assert_eq!(machine["kind"], "BerthNode");
        let version = &objects.by_plural["berthnodes"][0]["metadata"]["resourceVersion"];
        assert_eq!(machine["metadata"]["resourceVersion"], *version, "guarded");
        assert!(
            machine["metadata"]["annotations"][annotation].is_string(),
            "{machine}"
        );
    }
}

#[test]
fn completions_are_printed_and_no_unknown_output_is_taken() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, error) = run(&["completions", shell]);
        assert_eq!(code, 0, "{error}");
        for command in ["pools", "who", "check", "explain", "release", "bury"] {
            assert!(script.contains(command), "{shell} {command}");
        }
    }
    for command in [
        &["pools"][..],
        &["who"],
        &["check"],
        &["explain", "a"],
        &["release", "a"],
    ] {
        let (code, _, error) = run(&[command, &["-o", "xml"]].concat());
        let allowed = ["table", "wide", "json", "yaml"];
        assert!(
            code == 1 && allowed.iter().all(|o| error.contains(o)),
            "{error}"
        );
    }
}
