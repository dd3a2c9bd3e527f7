//! From environment and stdin to calls: tables, and whatever anybody may send.

use std::ffi::OsString;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn environment(command: &str) -> Environment {
    let set = |text: &str| Some(OsString::from(text));
    Environment {
        command: set(command),
        container: set("c1"),
        netns: set("/run/netns/a"),
        interface: set("eth0"),
        args: set("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u"),
    }
}

fn document(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": "macvlan", "master": "eth0",
        "ipam": {"type": "berth", "pools": ["a"]},
        "prevResult": {"cniVersion": version, "ips": [{"address": "10.0.0.7/24"}]},
        "cni.dev/valid-attachments": [],
    })
}

fn parsed(environment: &Environment, document: &Value) -> Result<Call, Refused> {
    parse(environment, document.to_string().as_bytes())
}

fn verb(call: Result<Call, Refused>) -> Verb {
    match call {
        Ok(Call::Ask(ask)) => ask.verb,
        other => panic!("{other:?}"),
    }
}

fn refused(environment: &Environment, document: &Value) -> CniError {
    parsed(environment, document).unwrap_err().error
}

#[test]
fn every_verb_is_served_from_the_version_that_brought_it() {
    for (command, oldest) in [
        ("ADD", SpecVersion::V0_1_0),
        ("CHECK", SpecVersion::V0_4_0),
        ("GC", SpecVersion::V1_1_0),
        ("STATUS", SpecVersion::V1_1_0),
    ] {
        for version in SpecVersion::ALL {
            let call = parsed(&environment(command), &document(version.as_str()));
            if version >= oldest {
                assert!(
                    matches!(&call, Ok(Call::Ask(ask)) if ask.version == version),
                    "{command} {version}: {call:?}"
                );
            } else {
                let refused = call.unwrap_err();
                assert_eq!(refused.error.code, 1, "{command} {version}");
                assert_eq!(refused.version, version);
            }
        }
        assert_eq!(refused(&environment(command), &document("2.0.0")).code, 1);
    }
}

#[test]
fn an_add_carries_what_the_agent_needs() {
    let call = parsed(&environment("ADD"), &document("1.0.0"));
    let Verb::Add(add) = verb(call) else {
        panic!("no ADD")
    };
    assert_eq!(add.attachment.to_string(), "c1/eth0");
    assert_eq!(
        (add.netns.as_str(), add.network.as_str()),
        ("/run/netns/a", "net")
    );
    assert_eq!(
        (add.pod.namespace.as_str(), add.pod.name.as_str()),
        ("ns", "p")
    );
    assert_eq!(add.pools, ["a"]);
}

#[test]
fn addresses_in_the_document_hide_those_in_cni_args() {
    let mut with_ip = environment("ADD");
    with_ip.args = Some("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;IP=10.0.0.1".into());
    let ips = |document: &Value| match verb(parsed(&with_ip, document)) {
        Verb::Add(add) => add.ips,
        other => panic!("{other:?}"),
    };
    let mut document = document("1.0.0");
    assert_eq!(
        ips(&document),
        ["10.0.0.1".parse::<core::net::IpAddr>().unwrap()]
    );
    document["args"] = json!({"cni": {"ips": []}});
    assert_eq!(ips(&document), [] as [core::net::IpAddr; 0]);
}

#[test]
fn a_missing_or_impossible_variable_is_named() {
    type Break = fn(&mut Environment);
    let cases: [(&str, &[&str], Break); 8] = [
        ("CNI_CONTAINERID", &["ADD", "DEL", "CHECK"], |e| {
            e.container = None;
        }),
        ("CNI_CONTAINERID", &["ADD", "DEL", "CHECK"], |e| {
            e.container = Some("../../etc/passwd".into());
        }),
        ("CNI_IFNAME", &["ADD", "DEL", "CHECK"], |e| {
            e.interface = Some("".into());
        }),
        ("CNI_IFNAME", &["ADD", "DEL", "CHECK"], |e| {
            e.interface = Some("a/b".into());
        }),
        ("CNI_NETNS", &["ADD", "CHECK"], |e| e.netns = None),
        ("CNI_NETNS", &["ADD", "CHECK"], |e| {
            e.netns = Some("relative".into());
        }),
        ("CNI_ARGS", &["ADD"], |e| e.args = None),
        ("CNI_ARGS", &["ADD"], |e| {
            e.args = Some("K8S_POD_NAME".into());
        }),
    ];
    for (variable, verbs, spoil) in cases {
        for verb in verbs {
            let mut environment = environment(verb);
            spoil(&mut environment);
            let error = refused(&environment, &document("1.1.0"));
            assert_eq!(error.code, 4, "{verb} {variable}");
            assert!(
                error.message.contains(variable),
                "{verb}: {}",
                error.message
            );
        }
    }
    let unknown = refused(&environment("ERASE"), &document("1.1.0"));
    assert_eq!(unknown.code, 4);
    assert!(unknown.message.contains("CNI_COMMAND"));
}

#[test]
fn a_del_survives_whatever_is_wrong_around_it() {
    let mut poor = environment("DEL");
    poor.netns = None;
    poor.args = Some("garbage".into());
    for document in [
        json!({}),
        json!({"cniVersion": "9.9.9", "name": "../x"}),
        json!({"cniVersion": 7, "ipam": "x", "name": null}),
        json!({"cniVersion": "1.0.0", "name": "n", "ipam": {"unknown": 1}}),
    ] {
        let Verb::Del(del) = verb(parsed(&poor, &document)) else {
            panic!("no DEL")
        };
        assert_eq!(del.netns, "", "{document}");
    }
}

#[test]
fn verbs_without_an_attachment_need_none() {
    let bare = |command: &str| Environment {
        command: Some(command.into()),
        ..Environment::default()
    };
    for command in ["GC", "STATUS"] {
        assert!(
            parsed(&bare(command), &document("1.1.0")).is_ok(),
            "{command}"
        );
    }
    assert_eq!(parse(&bare("VERSION"), b"garbage"), Ok(Call::Version));
    assert_eq!(parse(&bare(""), b""), Ok(Call::About));
    assert_eq!(parse(&Environment::default(), b""), Ok(Call::About));
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:]{0,12}".prop_map(Value::from),
        Just(Value::from("10.0.0.1/24")),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![
            Just("ips".to_owned()),
            Just("cni".to_owned()),
            Just("pools".to_owned()),
            Just("address".to_owned()),
            Just("containerID".to_owned()),
            "[a-z]{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_document() -> impl Strategy<Value = Vec<u8>> {
    let keys = prop::sample::subsequence(
        vec![
            "cniVersion",
            "name",
            "ipam",
            "args",
            "runtimeConfig",
            "prevResult",
            "cni.dev/valid-attachments",
        ],
        0..=7,
    );
    let object = (
        keys,
        prop::collection::vec(json_value(), 7),
        "(0\\.[1-4]\\.[01]|1\\.[01]\\.0)",
    )
        .prop_map(|(keys, values, version)| {
            let mut document = json!({"cniVersion": version, "name": "net"});
            for (key, value) in keys.into_iter().zip(values) {
                document[key] = value;
            }
            document.to_string().into_bytes()
        });
    prop_oneof![object, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn no_input_panics_and_every_refusal_prints_one_safe_document(
        command in prop_oneof![
            Just("ADD"), Just("DEL"), Just("CHECK"), Just("GC"), Just("STATUS"), Just("VERSION"),
            Just("not found"),
        ],
        container in "\\PC{0,12}",
        interface in "\\PC{0,6}",
        netns in "\\PC{0,20}",
        args in "([A-Za-z_]{0,12}=?[^\0]{0,12};){0,4}",
        stdin in any_document(),
        sound in any::<bool>(),
    ) {
        let mut environment = environment(command);
        if !sound {
            environment.container = Some(container.into());
            environment.interface = Some(interface.into());
            environment.netns = Some(netns.into());
            environment.args = Some(args.into());
        }
        if let Err(refused) = parse(&environment, &stdin) {
            let printed = Printed::error(&refused.error, refused.version);
            let text = printed.stdout.expect("a refusal is printed");
            prop_assert_eq!(printed.exit_code, 1);
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            prop_assert!(!text.to_lowercase().contains("not found"));
        }
    }
}
