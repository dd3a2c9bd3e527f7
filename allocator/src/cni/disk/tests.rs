//! host-local's configuration: what is read of it, and what is refused and how.

use serde_json::json;

use super::*;

fn section(ipam: &Value) -> Result<DiskSection, CniError> {
    of(&json!({"cniVersion": "1.0.0", "name": "net", "ipam": ipam}))
}

fn of(document: &Value) -> Result<DiskSection, CniError> {
    Config::decode(document.to_string().as_bytes())?.disk()
}

fn shown_sets(ipam: &Value) -> Vec<String> {
    let sets = section(ipam).unwrap().sets;
    sets.iter().map(ToString::to_string).collect()
}

#[test]
fn ranges_get_host_locals_defaults() {
    let ranges = json!({"ranges": [
        [{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.9"}],
        [{"subnet": "fd00::/64", "rangeEnd": "fd00::9", "gateway": "fd00::5"}],
    ]});
    assert_eq!(
        shown_sets(&ranges),
        [
            "10.1.0.1-10.1.0.254, 10.2.0.9-10.2.0.254",
            "fd00::1-fd00::9"
        ]
    );
    let short = json!({
        "subnet": "10.3.0.0/24", "rangeStart": "10.3.0.4", "rangeEnd": "10.3.0.4",
        "ranges": [[{"subnet": "fd00::/126"}]],
    });
    assert_eq!(
        shown_sets(&short),
        ["10.3.0.4-10.3.0.4", "fd00::1-fd00::3"],
        "the short form comes first"
    );
}

#[test]
fn ranges_of_the_runtime_come_first() {
    let document = json!({
        "cniVersion": "1.0.0", "name": "net", "ipam": {"subnet": "10.3.0.0/24"},
        "runtimeConfig": {"ipRanges": [[{"subnet": "10.4.0.0/24"}]]},
    });
    let sets = of(&document).unwrap().sets;
    assert_eq!(sets[0].to_string(), "10.4.0.1-10.4.0.254");
    assert_eq!(sets.len(), 2);
}

#[test]
fn a_bad_configuration_is_refused_with_its_key_and_what_is_allowed() {
    let subnet = |range: Value| json!({"ranges": [[range]]});
    let cases = [
        (json!({"store": "disk"}), 7, "ipam.ranges", "subnet"),
        (json!({"ranges": "x"}), 7, "ipam.ranges", "list of lists"),
        (json!({"ranges": [[]]}), 7, "ipam.ranges", "list of lists"),
        (json!({"ranges": [[7]]}), 7, "ipam.ranges", "list of lists"),
        (subnet(json!({})), 7, "ipam.ranges.subnet", "a prefix"),
        (
            subnet(json!({"subnet": "10.0.0.1"})),
            7,
            "ipam.ranges.subnet",
            "a prefix",
        ),
        (
            subnet(json!({"subnet": "10.0.0.1/24"})),
            7,
            "ipam.ranges.subnet",
            "10.0.0.0/24",
        ),
        (
            subnet(json!({"subnet": "10.0.0.0/31"})),
            7,
            "ipam.ranges.subnet",
            "/30 and /126",
        ),
        (
            subnet(json!({"subnet": "fd00::/127"})),
            7,
            "ipam.ranges.subnet",
            "/30 and /126",
        ),
        (
            subnet(json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1"})),
            7,
            "ipam.ranges.rangeStart",
            "from 10.0.0.0 to 10.0.0.255",
        ),
        (
            subnet(
                json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}),
            ),
            7,
            "ipam.ranges.rangeEnd",
            "from 10.0.0.9",
        ),
        (
            subnet(json!({"subnet": "10.0.0.0/24", "gateway": "fd00::1"})),
            7,
            "ipam.ranges.gateway",
            "the subnet's family",
        ),
        (
            subnet(json!({"subnet": "10.0.0.0/24", "exclude": []})),
            2,
            "ipam.ranges.exclude",
            RANGE_KEYS,
        ),
        (
            json!({"subnet": "10.0.0.0/33"}),
            7,
            "ipam.subnet",
            "a prefix",
        ),
        (
            json!({"rangeStart": "10.0.0.1"}),
            7,
            "ipam.rangeStart",
            "ipam.subnet",
        ),
        (
            json!({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}),
            7,
            "ipam.ranges",
            "both families",
        ),
        (
            json!({"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]]}),
            7,
            "ipam.ranges",
            "overlap",
        ),
        (
            json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]]}),
            7,
            "ipam.ranges",
            "overlaps",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "routes": [{}]}),
            7,
            "ipam.routes",
            "dst",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "routes": [{"dst": "10.0.0.0/8", "via": "x"}]}),
            2,
            "ipam.routes.via",
            "dst, gw",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "pools": ["a"]}),
            2,
            "ipam.pools",
            KEYS,
        ),
        (
            json!({"subnet": "10.0.0.0/24", "Ranges": []}),
            2,
            "ipam.Ranges",
            KEYS,
        ),
        (
            json!({"subnet": "10.0.0.0/24", "resolvConf": "etc/resolv.conf"}),
            7,
            "ipam.resolvConf",
            "absolute path",
        ),
        (
            json!({"subnet": "10.0.0.0/24", "timeoutMilliseconds": 1}),
            7,
            "ipam.timeoutMilliseconds",
            "50 to 90000",
        ),
    ];
    for (ipam, code, key, allowed) in cases {
        let error = section(&ipam).unwrap_err();
        assert_eq!(error.code, code, "{ipam}");
        assert!(error.message.contains(key), "{ipam}: {}", error.message);
        assert!(error.message.contains(allowed), "{ipam}: {}", error.message);
    }
}

#[test]
fn before_0_3_0_there_is_one_set_of_a_family() {
    let of = |version: &str, second: &str| {
        of(&json!({"cniVersion": version, "name": "n", "ipam": {
            "ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": second}]],
        }}))
    };
    assert_eq!(of("0.2.0", "10.1.0.0/24").unwrap_err().code, 7);
    assert!(of("0.2.0", "fd00::/64").is_ok());
    assert!(of("0.3.0", "10.1.0.0/24").is_ok());
}

#[test]
fn no_directory_lies_outside_of_the_one_that_is_named() {
    let place = |name: &str, path: Value| {
        let document = json!({"cniVersion": "1.0.0", "name": name, "ipam": {"dataDir": path}});
        Config::decode(document.to_string().as_bytes())
            .unwrap()
            .place()
    };
    let named = |data_directory: Option<&str>| DiskPlace {
        network: "net".into(),
        data_directory: data_directory.map(PathBuf::from),
    };
    assert_eq!(
        place("net", json!("/var/lib/x")),
        Ok(named(Some("/var/lib/x")))
    );
    assert_eq!(place("net", json!("")), Ok(named(None)));
    for name in ["..", ".", "../net", "a/b", "/etc", ""] {
        assert_eq!(place(name, json!("/var/lib/x")).unwrap_err().code, 7);
    }
    for path in ["x", "../x", "/a/../b", "/a/./b", "/a\0b"] {
        let error = place("net", json!(path)).unwrap_err();
        assert!(error.message.contains("ipam.dataDir"), "{}", error.message);
    }
    assert!(place("net", json!(7)).is_err());
}

#[test]
fn more_ranges_than_can_be_compared_at_once_are_refused() {
    let range = |i: usize| json!({"subnet": format!("10.{}.{}.0/24", i / 256, i % 256)});
    let sets = |count: usize, per_set: usize| -> Value {
        let ranges: Vec<Value> = (0..count).map(range).collect();
        ranges.chunks(per_set).map(<[Value]>::to_vec).collect()
    };
    assert!(section(&json!({"ranges": sets(ITEMS_MAX, 64)})).is_ok());
    for per_set in [1, 64, ITEMS_MAX + 1] {
        let many = json!({"ranges": sets(ITEMS_MAX + 1, per_set)});
        let error = section(&many).unwrap_err();
        assert_eq!(error.code, 7);
        assert!(error.message.contains("ipam.ranges"), "{}", error.message);
    }
}

#[test]
fn a_resolv_conf_is_read_as_host_local_reads_it() {
    let text = "# nameserver 1.1.1.1\nnameserver 192.0.2.1\n  nameserver fd00::1 x\ndomain a.b\n\
                search c.d e.f\noptions ndots:5\noptions rotate\nnonsense\nnameserver\n";
    let dns = resolv_conf(text);
    assert_eq!(
        serde_json::to_value(&dns).unwrap(),
        json!({
            "nameservers": ["192.0.2.1", "fd00::1"], "domain": "a.b", "search": ["c.d", "e.f"],
            "options": ["ndots:5", "rotate"],
        })
    );
}
