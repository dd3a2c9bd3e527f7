//! Death, full disks, crowds.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use berth::core::disk::{Change, Ledger, encode};
use berth::core::exchange::Attachment;
use serde_json::{Value, json};

use crate::namespaces::has;
use crate::rig::{BERTH, Rig, Run, execute};

fn small() -> Value {
    json!([[{"subnet": "10.7.0.0/29"}], [{"subnet": "fd07::/64"}]])
}

/// The system calls of one execution from where it reads its configuration, each with how often the
/// same one came before. What comes earlier is the start of any process.
fn system_calls(rig: &Rig, verb: &str, container: &str, config: &Value) -> Vec<(String, usize)> {
    let mut command = rig.command("strace", verb, container);
    command
        .args(["-f", "-qqq", "-o"])
        .arg(rig.path("calls"))
        .arg(BERTH);
    let run = execute(command, &config.to_string());
    assert_eq!(run.code, Some(0), "{run:?}");
    let trace = std::fs::read_to_string(rig.path("calls")).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut calls, mut begun) = (Vec::new(), false);
    for line in trace.lines() {
        let call = line.split_whitespace().nth(1).unwrap_or("");
        let Some((name, _)) = call.split_once('(') else {
            continue;
        };
        let count = counts.entry(name).or_default();
        *count += 1;
        begun |= call.starts_with("read(0");
        if begun {
            calls.push((name.to_owned(), *count));
        }
    }
    assert!(calls.len() > 20, "{calls:?}");
    calls
}

/// Executes the plugin and kills it as it enters that system call.
fn killed_at(
    rig: &Rig,
    verb: &str,
    container: &str,
    config: &Value,
    (name, nth): &(String, usize),
) -> Run {
    let mut command = rig.command("strace", verb, container);
    command
        .args(["-f", "-qqq", "-o", "/dev/null", "-e"])
        .arg(format!("inject={name}:signal=SIGKILL:when={nth}"))
        .arg(BERTH);
    execute(command, &config.to_string())
}

/// What the store says, by container.
fn holders(rig: &Rig) -> BTreeMap<String, Vec<String>> {
    let mut holders = BTreeMap::new();
    for name in &rig.files() {
        let boot = name
            .strip_prefix("berth.")
            .and_then(|n| n.strip_suffix(".log"));
        let Some(boot) = boot else {
            continue;
        };
        let log = std::fs::read(rig.path("data/net").join(name)).unwrap();
        let (ledger, _) = Ledger::replay(boot, &log).unwrap();
        for (attachment, binding) in ledger.bindings() {
            let ips = binding.addresses.iter().map(ToString::to_string).collect();
            holders.insert(attachment.container.clone(), ips);
        }
    }
    holders
}

#[test]
fn a_plugin_killed_at_any_system_call_loses_nothing_and_doubles_nothing() {
    if !has(&["strace"]) {
        return;
    }
    let (mut deaths, mut survivors) = (0, 0);
    // Into an empty store, into one with a holder, and into one whose log is to be rewritten.
    for store in [Before::Nothing, Before::Holder, Before::LongLog] {
        for verb in ["ADD", "DEL"] {
            let rig = Rig::new();
            let config = rig.config("1.0.0", &small());
            let kept = store.prepare(&rig, verb, &config);
            let calls = system_calls(&rig, verb, "dies", &config);
            let renames = calls.iter().any(|(name, _)| name.starts_with("rename"));
            let syncs = calls.iter().any(|(name, _)| name.contains("sync"));
            assert!(!syncs, "as host-local: {calls:?}");
            let begins = store == Before::Nothing && verb == "ADD";
            assert_eq!(renames, begins || store == Before::LongLog, "{calls:?}");
            assert_eq!(rig.berth("DEL", "dies", &config).code, Some(0));
            for call in &calls {
                assert_eq!(store.prepare(&rig, verb, &config), kept);
                let run = killed_at(&rig, verb, "dies", &config, call);
                match run.code {
                    None => deaths += 1,
                    Some(_) => survivors += 1,
                }
                nothing_is_lost_or_doubled(&rig, verb, kept.as_ref(), &run);
            }
        }
    }
    println!("{deaths} deaths, each at another system call; {survivors} calls did not come again");
    assert!(
        deaths > 150 && survivors * 10 < deaths,
        "{deaths} and {survivors}"
    );
}

/// What a plugin that dies finds.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    Holder,
    LongLog,
}

impl Before {
    /// What the holder has, where there is one.
    fn prepare(self, rig: &Rig, verb: &str, config: &Value) -> Option<Vec<String>> {
        if self == Self::Nothing {
            let _ = std::fs::remove_dir_all(rig.path("data"));
        }
        let kept = (self != Self::Nothing).then(|| rig.berth("ADD", "kept", config).ips());
        if verb == "DEL" {
            assert_eq!(rig.berth("ADD", "dies", config).code, Some(0));
        }
        if self == Self::LongLog {
            lengthen(rig);
        }
        kept
    }
}

fn nothing_is_lost_or_doubled(rig: &Rig, verb: &str, kept: Option<&Vec<String>>, run: &Run) {
    let config = rig.config("1.0.0", &small());
    let after = holders(rig);
    assert_eq!(after.get("kept"), kept);
    match (verb, after.get("dies")) {
        ("ADD", Some(ips)) => assert_eq!(&rig.berth("ADD", "dies", &config).ips(), ips),
        ("ADD", None) => assert!(run.stdout.is_empty(), "answered and lost: {run:?}"),
        (_, held) => assert!(held.is_none() || run.code.is_none(), "released and held"),
    }
    let other = rig.berth("ADD", "other", &config).ips();
    let all = holders(rig);
    assert_eq!(all["other"], other);
    let mut ips: Vec<&String> = all.values().flatten().collect();
    let count = ips.len();
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), count, "doubled in {all:?}");
    for gone in ["dies", "other"] {
        assert_eq!(rig.berth("DEL", gone, &config).code, Some(0));
    }
    assert_eq!(holders(rig).len(), usize::from(kept.is_some()));
}

/// Makes the log as long as some hundred ADDs and DELs would.
fn lengthen(rig: &Rig) {
    let names = rig.files();
    let name = names
        .iter()
        .find(|name| name.starts_with("berth."))
        .unwrap();
    let path = rig.path("data/net").join(name);
    let mut log = std::fs::read(&path).unwrap();
    let gone = Attachment {
        container: "c".repeat(100),
        interface: "eth0".into(),
    };
    let line = encode(&Change::Release(vec![gone]));
    while log.len() < 66_000 {
        log.extend(&line);
    }
    std::fs::write(path, log).unwrap();
}

/// A small file system in a mount namespace of its own, in which a script runs. `$B` is the plugin,
/// `$D` the directory of the store.
fn in_small_file_system(rig: &Rig, script: &str, config: &Value) -> String {
    std::fs::write(rig.path("config"), config.to_string()).unwrap();
    std::fs::create_dir_all(rig.path("data")).unwrap();
    let prelude = "set -eu; mount -t tmpfs -o size=32k,mode=0755 none \"$D\"\n\
                   berth() { set +e; CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_IFNAME=eth0 \
                   CNI_NETNS=$N \"$B\" < \"$C\"; echo \" $1 $?\"; set -e; }\n";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", &format!("{prelude}{script}")])
        .env("D", rig.path("data"))
        .env("N", rig.path("ns/alive"))
        .env("C", rig.path("config"))
        .env("B", BERTH);
    let run = execute(command, "");
    assert_eq!(run.code, Some(0), "{run:?}");
    run.stdout
}

#[test]
fn a_full_disk_stops_adds_with_a_clear_error_and_stops_no_del() {
    if !has(&["unshare", "mount"]) {
        return;
    }
    let rig = Rig::new();
    let config = rig.config("1.0.0", &json!([[{"subnet": "10.7.0.0/16"}]]));
    let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); berth ADD c$i > \"$D/../out\"; \
                  tail -n 1 \"$D/../out\" | grep -q 'ADD 0' || break; done\n\
                  cat \"$D/../out\"; echo; echo \"holders $((i-1))\"\n\
                  head -c 70000 /dev/zero > \"$D/filler\" 2>/dev/null || true\n\
                  j=0; while [ $j -lt $((i-1)) ]; do j=$((j+1)); berth DEL c$j; done\n\
                  rm \"$D/filler\"; berth ADD again";
    let output = in_small_file_system(&rig, script, &config);
    let number = |line: &str| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    let holders = output
        .lines()
        .find(|l| l.starts_with("holders "))
        .map(number);
    let refused: Value = serde_json::from_str(output.split(" ADD 1").next().unwrap()).unwrap();
    assert_eq!(refused["code"], 5, "{output}");
    assert!(
        refused["msg"].as_str().unwrap().contains("space"),
        "{refused}"
    );
    assert!(holders > Some(20), "{output}");
    assert_eq!(
        output.matches(" DEL 0").count(),
        holders.unwrap(),
        "{output}"
    );
    assert!(output.trim_end().ends_with(" ADD 0"), "{output}");
}

#[test]
fn a_read_only_disk_is_a_clear_error_of_every_verb_and_changes_nothing() {
    if !has(&["unshare", "mount"]) {
        return;
    }
    let rig = Rig::new();
    let config = rig.config("1.1.0", &small());
    let script = "berth ADD c1; sum=$(cat \"$D\"/net/* | cksum); mount -o remount,ro \"$D\"\n\
                  berth ADD c2; berth DEL c1; berth STATUS c1\n\
                  [ \"$sum\" = \"$(cat \"$D\"/net/* | cksum)\" ] && echo same\n\
                  mount -o remount,rw \"$D\"; berth DEL c1";
    let output = in_small_file_system(&rig, script, &config);
    for expected in ["ADD 0", "ADD 1", "DEL 1", "STATUS 1", "same", "DEL 0"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    assert_eq!(output.matches("\"code\":5,").count(), 2, "{output}");
    assert_eq!(output.matches("\"code\":50,").count(), 1, "{output}");
    assert_eq!(output.matches("Read-only").count(), 3, "{output}");
}

#[test]
fn a_hundred_plugins_at_once_get_a_hundred_addresses() {
    let rig = Rig::new();
    let config = rig
        .config("1.0.0", &json!([[{"subnet": "10.7.0.0/24"}]]))
        .to_string();
    let all = |verb: &str| -> Vec<Run> {
        let children: Vec<_> = (0..100)
            .map(|i| {
                let mut command = rig.command(BERTH, verb, &format!("c{i}"));
                let mut child = command
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap();
                // Written only when all are started: none is done before the last one runs.
                (child.stdin.take().unwrap(), child)
            })
            .collect();
        let children: Vec<_> = children
            .into_iter()
            .map(|(mut stdin, child)| {
                std::io::Write::write_all(&mut stdin, config.as_bytes()).unwrap();
                child
            })
            .collect();
        let finish = |child: std::process::Child| {
            let output = child.wait_with_output().unwrap();
            Run {
                code: output.status.code(),
                stdout: String::from_utf8(output.stdout).unwrap(),
            }
        };
        children.into_iter().map(finish).collect()
    };
    let mut ips: Vec<String> = all("ADD").iter().flat_map(Run::ips).collect();
    ips.sort_unstable();
    ips.dedup();
    assert_eq!(ips.len(), 100);
    assert_eq!(holders(&rig).len(), 100);
    assert!(all("DEL").iter().all(|run| run.code == Some(0)));
    assert_eq!(holders(&rig).len(), 0);
}
