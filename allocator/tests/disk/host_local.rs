//! The distribution's `host-local` and Berth, the same calls in the same order, in every version
//! that both know. Where their answers differ, the difference is in the table, and each row of the
//! table differs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::namespaces::has;
use crate::rig::{BERTH, PLUGINS, Rig, Run, execute};

/// What differs, and why.
const DIFFERENCES: [(&str, &str); 8] = [
    (
        EMPTY_DNS,
        "the specification's types leave it out; host-local 1.1.1 states {}",
    ),
    (
        "the same ADD again",
        "host-local refuses it; Berth gives the same answer",
    ),
    (
        "unknown key in ipam",
        "host-local ignores it; Berth names it and what is allowed",
    ),
    (
        "namespace that is not there",
        "host-local does not look; Berth refuses a late ADD",
    ),
    (
        "full, a namespace ended",
        "host-local is full until GC; Berth sweeps",
    ),
    (
        "IP= with two addresses",
        "host-local knows one; meta-plugins send a list",
    ),
    (
        "value with an equals sign in CNI_ARGS",
        "host-local refuses it; meta-plugins send it",
    ),
    (
        "addresses from two sources",
        "host-local adds them up; for Berth the first source counts",
    ),
];

/// A difference of every result without name servers, not of one case.
const EMPTY_DNS: &str = "an empty dns from 1.0.0";

const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// One call.
#[derive(Clone)]
struct Step {
    verb: &'static str,
    container: &'static str,
    args: &'static str,
    netns: &'static str,
    /// Removes the namespace before the call.
    ends: bool,
}

fn step(verb: &'static str, container: &'static str) -> Step {
    Step {
        verb,
        container,
        args: "",
        netns: "alive",
        ends: false,
    }
}

fn adds(count: usize) -> Vec<Step> {
    let names = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
    names
        .iter()
        .take(count)
        .map(|name| step("ADD", name))
        .collect()
}

struct Case {
    name: &'static str,
    /// Merged into the document.
    document: Value,
    steps: Vec<Step>,
    from: &'static str,
}

fn case(name: &'static str, ipam: &Value, steps: Vec<Step>) -> Case {
    Case {
        name,
        document: json!({ "ipam": ipam }),
        steps,
        from: "0.1.0",
    }
}

fn with(mut case: Case, key: &str, value: Value) -> Case {
    case.document[key] = value;
    case
}

fn from(mut case: Case, version: &'static str) -> Case {
    case.from = version;
    case
}

fn v4() -> Value {
    json!({"ranges": [[{"subnet": "10.7.0.0/29"}]]})
}

fn args(args: &'static str) -> Vec<Step> {
    vec![Step {
        args,
        ..step("ADD", "c0")
    }]
}

fn cases(rig: &Rig) -> Vec<Case> {
    let dual = json!({"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd07::/64"}]]});
    let two = json!({"ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "10.8.0.0/24"}]]});
    let parts = json!({"ranges": [[
        {"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.1", "rangeEnd": "10.7.0.3"},
        {"subnet": "10.8.0.0/24", "rangeStart": "10.8.0.9", "rangeEnd": "10.8.0.9",
         "gateway": "10.8.0.7"},
    ]]});
    let ips = |ips: Value| json!({"cni": {"ips": ips}});
    let ipam = |key: &str, value: Value| {
        let mut ipam = v4();
        ipam[key] = value;
        ipam
    };
    let over = |name, ipam: Value| case(name, &ipam, adds(1));
    let gone = Step {
        netns: "gone",
        ..step("ADD", "c0")
    };
    let swept: Vec<Step> = (adds(5).into_iter())
        .map(|step| Step {
            netns: "ends",
            ..step
        })
        .chain([Step {
            ends: true,
            ..step("ADD", "c7")
        }])
        .collect();
    vec![
        case("one range until it is full", &v4(), adds(7)),
        case("both families", &dual, adds(3)),
        from(case("two sets of one family", &two, adds(2)), "0.3.0"),
        case("two sets of one family in 0.2.0", &two, adds(1)),
        case("ranges in turn", &parts, adds(5)),
        case(
            "round after a release",
            &v4(),
            [
                adds(3),
                vec![step("DEL", "c0")],
                adds(1),
                vec![step("ADD", "c6")],
            ]
            .concat(),
        ),
        case(
            "release of nothing",
            &v4(),
            vec![step("DEL", "c0"), step("DEL", "c0")],
        ),
        over(
            "short form",
            json!({"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.5",
            "rangeEnd": "10.7.0.6", "gateway": "10.7.0.254"}),
        ),
        over(
            "short form before ranges",
            json!({"subnet": "10.7.0.0/24",
            "ranges": [[{"subnet": "fd07::/64"}]]}),
        ),
        over(
            "routes",
            ipam(
                "routes",
                json!([{"dst": "0.0.0.0/0"},
            {"dst": "10.0.0.0/8", "gw": "10.7.0.5"}, {"dst": "::/0"}]),
            ),
        ),
        over(
            "resolvConf",
            ipam("resolvConf", json!(rig.text("resolv.conf"))),
        ),
        over(
            "resolvConf that is not there",
            ipam("resolvConf", json!("/nowhere")),
        ),
        with(
            case("args.cni.ips", &dual, adds(1)),
            "args",
            ips(json!(["10.7.0.9", "fd07::9"])),
        ),
        with(
            case("args.cni.ips with prefix", &dual, adds(1)),
            "args",
            ips(json!(["10.7.0.9/24"])),
        ),
        with(
            case("the address is taken", &v4(), adds(2)),
            "args",
            ips(json!(["10.7.0.4"])),
        ),
        with(
            case("the gateway", &v4(), adds(1)),
            "args",
            ips(json!(["10.7.0.1"])),
        ),
        with(
            case("of no range", &v4(), adds(1)),
            "args",
            ips(json!(["10.9.0.1"])),
        ),
        with(
            case("runtimeConfig.ips", &v4(), adds(1)),
            "runtimeConfig",
            json!({"ips": ["10.7.0.4/29"]}),
        ),
        with(
            case("runtimeConfig.ipRanges", &v4(), adds(2)),
            "runtimeConfig",
            json!({"ipRanges": [[{"subnet": "fd08::/64"}]]}),
        ),
        case("IP=", &v4(), args("IP=10.7.0.5")),
        case(
            "IP= of a runtime",
            &v4(),
            args(
                "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.7.0.5;\
            K8S_POD_NAMESPACE=n",
            ),
        ),
        case("unknown key in CNI_ARGS", &v4(), args("FOO=1")),
        case("IP= with two addresses", &dual, args("IP=10.7.0.5,fd07::5")),
        case(
            "value with an equals sign in CNI_ARGS",
            &v4(),
            args("IgnoreUnknown=1;FOO=a=b"),
        ),
        with(
            case("addresses from two sources", &dual, args("IP=10.7.0.5")),
            "args",
            ips(json!(["fd07::5"])),
        ),
        case("the same ADD again", &v4(), [adds(1), adds(1)].concat()),
        case("namespace that is not there", &v4(), vec![gone]),
        case("full, a namespace ended", &v4(), swept),
        over("unknown key in ipam", ipam("exclude", json!([]))),
        over("no range", json!({})),
        over(
            "host bits",
            json!({"ranges": [[{"subnet": "10.7.0.1/24"}]]}),
        ),
        over(
            "too small",
            json!({"ranges": [[{"subnet": "10.7.0.0/31"}]]}),
        ),
        over(
            "smallest",
            json!({"ranges": [[{"subnet": "10.7.0.0/30"}], [{"subnet": "fd07::/126"}]]}),
        ),
        over(
            "sets that overlap",
            json!({"ranges": [[{"subnet": "10.7.0.0/24"}],
            [{"subnet": "10.7.0.0/25"}]]}),
        ),
        over(
            "families in one set",
            json!({"ranges": [[{"subnet": "10.7.0.0/24"},
            {"subnet": "fd07::/64"}]]}),
        ),
        over(
            "end before start",
            json!({"ranges": [[{"subnet": "10.7.0.0/24",
            "rangeStart": "10.7.0.9", "rangeEnd": "10.7.0.8"}]]}),
        ),
        over(
            "start outside",
            json!({"ranges": [[{"subnet": "10.7.0.0/24",
            "rangeStart": "10.8.0.9"}]]}),
        ),
        over(
            "network and broadcast address in the range",
            json!({"ranges": [[{
            "subnet": "10.7.0.0/30", "rangeStart": "10.7.0.0", "rangeEnd": "10.7.0.3"}]]}),
        ),
        with(over("no name", v4()), "name", json!("")),
        with(over("impossible name", v4()), "name", json!("a/b")),
        case("no container", &v4(), vec![step("ADD", "")]),
        case("impossible container", &v4(), vec![step("ADD", "a/b")]),
        case("unknown verb", &v4(), vec![step("ERASE", "c0")]),
    ]
}

/// What one plugin answers to all steps of a case: the document, or that it refused. How an error
/// is coded is not compared: host-local's are all 999 or 0.
fn answers(case: &Case, version: &str, program: &str, kind: &str) -> Vec<Value> {
    let rig = Rig::new();
    std::fs::write(rig.path("ns/ends"), b"").unwrap();
    let mut document = json!({"cniVersion": version, "name": "net", "type": "macvlan"});
    for (key, value) in case.document.as_object().unwrap() {
        document[key] = value.clone();
    }
    document["ipam"]["type"] = json!(kind);
    document["ipam"]["dataDir"] = json!(rig.text("data"));
    if kind == "berth" {
        document["ipam"]["store"] = json!({"type": "disk"});
    }
    let shown = |run: Run| {
        if run.code == Some(0) {
            return run.document();
        }
        let code = run.error_code();
        assert!(
            kind != "berth" || code.is_some_and(|code| code != 999),
            "{run:?}"
        );
        json!("refused")
    };
    case.steps
        .iter()
        .map(|step| {
            if step.ends {
                std::fs::remove_file(rig.path("ns/ends")).unwrap();
            }
            let mut command = rig.command(program, step.verb, step.container);
            command
                .env("CNI_NETNS", rig.path("ns").join(step.netns))
                .env("CNI_ARGS", step.args);
            shown(execute(command, &document.to_string()))
        })
        .collect()
}

#[test]
fn host_local_and_berth_answer_alike_but_for_the_table() {
    if !has(&["host-local"]) {
        return;
    }
    let rig = Rig::new();
    let resolv = "nameserver 10.7.0.53\ndomain a.b\nsearch c.d e\noptions ndots:5\n";
    std::fs::write(rig.path("resolv.conf"), resolv).unwrap();
    let cases = cases(&rig);
    let mut differing: BTreeSet<&str> = BTreeSet::new();
    let mut compared = 0;
    for case in &cases {
        for version in VERSIONS.into_iter().filter(|version| *version >= case.from) {
            let mut theirs = answers(
                case,
                version,
                &format!("{PLUGINS}/host-local"),
                "host-local",
            );
            let ours = answers(case, version, BERTH, "berth");
            compared += theirs.len();
            for answer in &mut theirs {
                let document = answer.as_object_mut().filter(|_| version == "1.0.0");
                if let Some(document) = document.filter(|d| d.get("dns") == Some(&json!({}))) {
                    document.remove("dns");
                    differing.insert(EMPTY_DNS);
                }
            }
            if theirs != ours {
                let known = DIFFERENCES.iter().any(|(name, _)| *name == case.name);
                let name = case.name;
                assert!(
                    known,
                    "{name}, {version}:\nhost-local {theirs:?}\nberth      {ours:?}"
                );
                differing.insert(name);
            }
        }
    }
    let table: BTreeSet<&str> = DIFFERENCES.iter().map(|(name, _)| *name).collect();
    assert_eq!(differing, table, "a row that does not differ any more");
    println!(
        "{compared} answers compared, {} kinds of difference, all intended",
        table.len()
    );
}
