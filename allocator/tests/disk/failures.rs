//! Death, full disks, crowds.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::rig::{BERTH, Rig, Run, execute, has};

fn small() -> Value {
    json!([[{"subnet": "10.7.0.0/29"}], [{"subnet": "fd07::/64"}]])
}

/// Executes the plugin and kills it as it enters its `nth` system call. Whether it got so far.
fn killed_at(rig: &Rig, verb: &str, container: &str, config: &Value, nth: usize) -> (Run, bool) {
    let mut command = rig.command("strace", verb, container);
    command
        .args(["-f", "-qqq", "-o", "/dev/null", "-e", "trace=all", "-e"])
        .arg(format!("inject=all:signal=SIGKILL:when={nth}"))
        .arg(BERTH);
    let run = execute(command, &config.to_string());
    let finished = run.code.is_some();
    (run, finished)
}

/// What the store says, by container.
fn holders(rig: &Rig) -> BTreeMap<String, Vec<String>> {
    let mut holders = BTreeMap::new();
    for name in rig.files().iter().filter(|name| name.ends_with(".log")) {
        let boot = name.trim_start_matches("berth.").trim_end_matches(".log");
        let log = std::fs::read(rig.path("data/net").join(name)).unwrap();
        let (ledger, _) = berth::core::disk::Ledger::replay(boot, &log).unwrap();
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
    let mut deaths = 0;
    // Into an empty store, into one with a holder, and one whose log is due to be written anew.
    for long in [None, Some(0), Some(400)] {
        for verb in ["ADD", "DEL"] {
            let rig = Rig::new();
            let config = rig.config("1.0.0", &small());
            if let Some(rounds) = long {
                lengthen(&rig, rounds);
            }
            for nth in 1.. {
                // One that stays while the others die around it.
                let kept = rig.berth("ADD", "kept", &config).ips();
                if verb == "DEL" {
                    assert_eq!(rig.berth("ADD", "dies", &config).code, Some(0));
                }
                let (run, finished) = killed_at(&rig, verb, "dies", &config, nth);
                let after = holders(&rig);
                assert_eq!(after.get("kept"), Some(&kept), "{verb} {nth}");
                match (verb, after.get("dies")) {
                    ("ADD", Some(ips)) => {
                        assert_eq!(&rig.berth("ADD", "dies", &config).ips(), ips, "{nth}");
                    }
                    ("ADD", None) => assert!(run.stdout.is_empty(), "{nth}: answered and lost"),
                    _ => {}
                }
                let other = rig.berth("ADD", "other", &config).ips();
                let all = holders(&rig);
                let mut ips: Vec<&String> = all.values().flatten().collect();
                ips.sort_unstable();
                let count = ips.len();
                ips.dedup();
                assert_eq!(ips.len(), count, "{verb} {nth}: doubled in {all:?}");
                assert!(all["other"] == other && count >= 4);
                for gone in ["dies", "other"] {
                    assert_eq!(rig.berth("DEL", gone, &config).code, Some(0));
                }
                assert_eq!(holders(&rig).len(), 1, "{verb} {nth}");
                if long.is_none() {
                    // The next death is in an empty store again.
                    std::fs::remove_dir_all(rig.path("data")).unwrap();
                }
                if long == Some(400) {
                    lengthen(&rig, 1);
                }
                if finished {
                    assert!(nth > 20, "{verb}: strace injects nothing");
                    deaths += nth - 1;
                    break;
                }
            }
        }
    }
    println!("{deaths} deaths, each at another system call");
}

/// Makes the log as long as some hundred ADDs and DELs would.
fn lengthen(rig: &Rig, rounds: usize) {
    let config = rig.config("1.0.0", &small());
    assert_eq!(rig.berth("ADD", "kept", &config).code, Some(0));
    let names = rig.files();
    let name = names.iter().find(|name| name.ends_with(".log")).unwrap();
    let path = rig.path("data/net").join(name);
    let mut log = std::fs::read(&path).unwrap();
    let gone = berth::core::exchange::Attachment {
        container: "c".repeat(100),
        interface: "eth0".into(),
    };
    let line = berth::core::disk::encode(&berth::core::disk::Change::Release(vec![gone]));
    while rounds > 0 && log.len() < 66_000 {
        log.extend(&line);
    }
    std::fs::write(path, log).unwrap();
}

/// A small file system in a mount namespace of its own, in which a script runs. `$B` is the plugin,
/// `$D` the directory of the store.
fn in_small_file_system(rig: &Rig, script: &str, config: &Value) -> String {
    std::fs::write(rig.path("config"), config.to_string()).unwrap();
    std::fs::create_dir_all(rig.path("data")).unwrap();
    let prelude = "set -eu; mount -t tmpfs -o size=64k,mode=0755 none \"$D\"\n\
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
                  dd if=/dev/zero of=\"$D/filler\" bs=1 count=70000 2>/dev/null || true\n\
                  j=0; while [ $j -lt $((i-1)) ]; do j=$((j+1)); berth DEL c$j; done\n\
                  rm \"$D/filler\"; berth ADD again";
    let output = in_small_file_system(&rig, script, &config);
    let number = |line: &str| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    let holders = output.lines().find(|l| l.starts_with("holders ")).map(number);
    let refused: Value = serde_json::from_str(output.split(" ADD 1").next().unwrap()).unwrap();
    assert_eq!(refused["code"], 5, "{output}");
    assert!(refused["msg"].as_str().unwrap().contains("space"), "{refused}");
    assert!(holders > Some(20), "{output}");
    assert_eq!(output.matches(" DEL 0").count(), holders.unwrap(), "{output}");
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
    assert_eq!(output.matches("\"code\":5").count(), 2, "{output}");
    assert_eq!(output.matches("\"code\":50").count(), 1, "{output}");
    assert_eq!(output.matches("Read-only").count(), 3, "{output}");
}

#[test]
fn a_hundred_plugins_at_once_get_a_hundred_addresses() {
    let rig = Rig::new();
    let config = rig.config("1.0.0", &json!([[{"subnet": "10.7.0.0/24"}]])).to_string();
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
