//! A million hostile inputs for each decoder: mutations of sound ones, from a seed that is printed.
//! None may panic, and the whole process may hold no more memory than a bound.
//!
//! `BERTH_HOSTILE_INPUTS` and `BERTH_HOSTILE_SEED` change count and seed.

use std::alloc::System;
use std::ffi::OsString;

use berth::adapters::frame;
use berth::cni::args::CniArgs;
use berth::cni::config::Config;
use berth::cni::disk::networks::{Networks, NodeRule, Serves};
use berth::cni::disk::{DiskPlace, resolv_conf};
use berth::cni::{Environment, parse};
use berth::core::block::Block;
use berth::core::disk::Ledger;
use berth::core::exchange::{Response, Verb};
use berth::core::hash::mix;
use berth::core::holder::decode_records;
use berth::core::journal;
use berth::core::objects::AddressPool;
use berth::core::pool::Pool;
use cap::Cap;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

/// Units: bytes. What the process may hold at any time, all tests together. Most is held for the
/// documents as long as stdin may be; the million inputs have at most 4 KiB each.
const MEMORY_BYTES_MAX: usize = 48 << 20;
/// Units: bytes.
const INPUT_BYTES_MAX: usize = 4096;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0, 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// What decoders look for: one of these in the wrong place gets further than noise.
const WORDS: [&[u8]; 34] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"=",
    b";",
    b"%",
    b" ",
    b"\0",
    b"\xff",
    b"..",
    b"/",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"10.0.0.1",
    b"10.0.0.0/8",
    b"::/0",
    b"::",
    b"fd00::-ffff::",
    b"0.0.0.0-255.255.255.255",
    b"IP=",
    b"IgnoreUnknown=1;",
    b"\"ipam\":",
    b"\"ranges\":[[",
    b"\"store\":\"disk\",",
    b"65535 b ",
    b"%zz",
    b"\\u0000",
    b"\n",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.extend_from_slice(&seeds[random.below(seeds.len())]);
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(24)).min(bytes.len());
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &seeds[random.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

/// Gives `decode` a million mutations of the seeds. It says whether it took the input, and some of
/// both must occur: else the mutations are too tame or too wild.
fn bombard(name: &str, seeds: &[&str], decode: impl FnMut(&[u8]) -> bool) {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    bombard_bytes(name, &seeds, decode);
}

fn bombard_bytes(name: &str, seeds: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> bool) {
    let setting = |name| std::env::var_os(name).and_then(|text| text.to_str()?.parse().ok());
    let count: u64 = setting("BERTH_HOSTILE_INPUTS").unwrap_or(1_000_000);
    let seed: u64 = setting("BERTH_HOSTILE_SEED").unwrap_or(1);
    for seed in seeds {
        assert!(
            decode(seed),
            "a sound input is refused: {:?}",
            String::from_utf8_lossy(seed)
        );
    }
    let (mut random, mut bytes, mut taken) = (Random(seed), Vec::new(), 0_u64);
    for _ in 0..count {
        mutate(&mut random, seeds, &mut bytes);
        taken += u64::from(decode(&bytes));
    }
    let peak = MEMORY.max_allocated();
    println!("{name}: {count} inputs from seed {seed}, {taken} taken, peak {peak} bytes");
    assert!(
        taken > count / 1000 && taken < count,
        "{taken} of {count} were taken"
    );
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes were held");
}

fn environment(verb: &str) -> Environment {
    let set = |text: &str| Some(OsString::from(text));
    Environment {
        command: set(verb),
        container: set("c1"),
        netns: set("/run/netns/a"),
        interface: set("eth0"),
        args: set("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u"),
    }
}

#[test]
fn no_stdin_breaks_the_plugin() {
    let environments = ["ADD", "DEL", "CHECK", "GC", "STATUS"].map(environment);
    let mut turn = 0;
    let seeds = [
        r#"{"cniVersion":"1.1.0","name":"net","type":"macvlan","ipam":{"type":"berth","pools":["a"],"timeoutMilliseconds":900},"prevResult":{"ips":[{"address":"10.0.0.7/24"}]},"cni.dev/valid-attachments":[{"containerID":"c","ifname":"e"}]}"#,
        r#"{"cniVersion":"1.1.0","name":"net","ipam":{"store":{"type":"disk"},"ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9"}],[{"subnet":"fd00::/64","gateway":"fd00::1"}]],"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.1"}],"dataDir":"/x","resolvConf":"/y"},"args":{"cni":{"ips":["10.0.0.9"]}},"prevResult":{"ips":[{"address":"10.0.0.7/24"}]},"cni.dev/attachments":[]}"#,
        r#"{"cniVersion":"1.1.0","name":"net","ipam":{"subnet":"10.0.0.0/30"},"runtimeConfig":{"ips":["10.0.0.1/24"],"ipRanges":[[{"subnet":"fd00::/8"}]]},"prevResult":{"ips":[]},"cni.dev/valid-attachments":null}"#,
    ];
    bombard("stdin", &seeds, |bytes| {
        turn = (turn + 1) % environments.len();
        parse(&environments[turn], bytes).is_ok()
    });
}

#[test]
fn no_cni_args_break_the_plugin() {
    let seeds = [
        "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u-1;\
         IgnoreUnknown=1",
        "IgnoreUnknown=true;IP=10.0.0.7/24,fd00::7;MAC=02:00:00:00:00:01;X=a=b",
    ];
    bombard("CNI_ARGS", &seeds, |bytes| {
        CniArgs::parse(&String::from_utf8_lossy(bytes)).is_ok()
    });
}

#[test]
fn no_pool_breaks_its_reader() {
    let seeds = [
        r#"{"metadata":{"name":"p","uid":"u"},"spec":{"families":[{"ranges":["10.0.0.0/24","10.0.1.4-10.0.1.9"],"exclude":["10.0.0.8/30"],"gateway":"10.0.0.1","subnet":"10.0.0.0/16"},{"ranges":["fd00::/64"]}],"blockSize":16,"routes":[{"dst":"::/0","gw":"fd00::1"}]},"status":{"approved":"x/16"}}"#,
        r#"{"metadata":{"name":"p"},"spec":{"families":[{"ranges":["::/0"]}],"blockSize":64}}"#,
    ];
    bombard("pool", &seeds, |bytes| {
        let Ok(object) = serde_json::from_slice::<AddressPool>(bytes) else {
            return false;
        };
        let Ok(pool) = Pool::parse(&object, None) else {
            return false;
        };
        let last = pool.block_count().saturating_sub(1);
        for index in [0, 1, last, last.saturating_add(1), u64::MAX] {
            let block = Block::empty(&pool, index);
            assert!(block.available_count() <= usize::from(pool.block_size));
        }
        for ordinal in [0, pool.capacity - 1, pool.capacity, u64::MAX] {
            assert_eq!(pool.allocation(ordinal).is_some(), ordinal < pool.capacity);
            for address in pool.addresses(ordinal) {
                assert_eq!(pool.ordinal_of(address), Some(ordinal));
            }
        }
        true
    });
}

#[test]
fn no_records_break_a_block() {
    let seeds = [
        "0 b m 1 uid-1 ns/p c1 ;1 u m 1 uid-2 ns/q  res;2 c;3 x;4 g;5 s sticky%20one",
        "63 r machine%3b 18446744073709551615 u n c r",
    ];
    bombard("block", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let read = Block::read_records(&text, 64, 60);
        if let Ok(block) = &read {
            let again = Block::read_records(&block.records(), 64, 60);
            assert_eq!(again.as_ref(), Ok(block));
        }
        decode_records(&text).count() > 0 && read.is_ok()
    });
}

#[test]
fn no_frame_breaks_either_end() {
    let seeds = [
        r#"{"deadlineNanoseconds":9,"ask":{"Add":{"attachment":{"container":"c","interface":"eth0"},"netns":"/n","pod":{"namespace":"ns","name":"p","uid":null},"network":"net","pools":[],"ips":["10.0.0.1"]}}}"#,
        r#"{"deadlineNanoseconds":9,"ask":{"Gc":{"valid":[{"container":"c","interface":"e"}]}}}"#,
        r#"{"deadlineNanoseconds":9,"ask":"Status"}"#,
        r#"{"Added":{"pool":"p","addresses":[{"address":"10.0.0.1/24","gateway":null}],"routes":[],"dns":[]}}"#,
        r#"{"Failed":{"code":11,"message":"later"}}"#,
        r#"{"berth":1}"#,
    ];
    bombard("frame", &seeds, |bytes| {
        let mut head = [0; frame::HEAD_BYTES];
        let count = bytes.len().min(head.len());
        head[..count].copy_from_slice(&bytes[..count]);
        if let Ok(length) = frame::body_bytes(head) {
            assert!(length <= frame::BODY_BYTES_MAX);
        }
        match frame::decode::<frame::Question>(bytes) {
            Ok(question) => {
                assert!(!matches!(&question.ask, Verb::Add(add) if add.ips.len() > bytes.len()));
                true
            }
            Err(_) => {
                frame::decode::<Response>(bytes).is_ok() || frame::decode_greeting(bytes).is_ok()
            }
        }
    });
}

#[test]
fn no_log_and_no_resolv_conf_break_the_store() {
    let mut log = String::from_utf8(Ledger::default().log("b")).unwrap();
    for (who, ip) in [("a", "10.0.0.2"), ("b", "fd00::2")] {
        let change = format!(
            r#"{{"bind":{{"attachment":{{"container":"{who}","interface":"e"}},"binding":{{"addresses":["{ip}"],"netns":"/n"}}}}}}"#
        );
        let change = serde_json::from_str(&change).unwrap();
        log.push_str(&String::from_utf8(berth::core::disk::encode(&change)).unwrap());
    }
    let seeds = [
        log.as_str(),
        "nameserver 10.0.0.1\nsearch a b\noptions ndots:5\ndomain x\n",
    ];
    bombard("store", &seeds, |bytes| {
        let dns = resolv_conf(&String::from_utf8_lossy(bytes));
        let replayed = Ledger::replay("b", bytes);
        if let Ok((_, counted)) = &replayed {
            assert!(*counted <= bytes.len());
        }
        replayed.is_ok() || !dns.nameservers.is_empty()
    });
}

#[test]
fn no_list_of_networks_breaks_the_store_or_opens_more_than_it_names() {
    let seeds = [
        r#"{"networks":{"net":{"ranges":[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.9"}],[{"subnet":"fd00::/64"}]],"resolvConf":["/a"]}}}"#,
        r#"{"dataDir":"/x","networks":{"net":{"ranges":[[{"subnet":"10.0.0.0/24"}]]},"b":{}}}"#,
    ];
    let place = DiskPlace {
        network: "net".into(),
        data_directory: None,
    };
    let elsewhere = Config::decode(br#"{"name":"net","ipam":{"subnet":"192.0.2.0/24"}}"#).unwrap();
    let elsewhere = elsewhere.disk().unwrap();
    bombard("list", &seeds, |bytes| {
        let Ok(networks) = Networks::decode(bytes) else {
            return false;
        };
        let rule = NodeRule {
            list: "/list".into(),
            serves: Serves::Listed(networks),
        };
        let names_it = bytes.windows(8).any(|part| part == b"192.0.2.");
        assert!(names_it || rule.admit(&place, Some(&elsewhere)).is_err());
        match rule.admit(&place, None) {
            Ok(grant) => grant.root.is_absolute() && !grant.follows_links,
            Err(failure) => failure.message.len() > 4096,
        }
    });
}

#[test]
fn no_journal_breaks_its_reader() {
    let entry = |text: &str| serde_json::from_str::<journal::Entry>(text).unwrap();
    let journal = |version: u32| {
        let header = format!(r#"{{"Header":{{"version":{version},"boot_id":"b"}}}}"#);
        vec![
            entry(&header),
            entry(r#"{"Block":{"pool":"p","index":7}}"#),
            entry(r#"{"Ended":{"attachment":{"container":"c","interface":"e"}}}"#),
            entry(r#""Lost""#),
        ]
    };
    let old = journal(1);
    let old = old.iter().flat_map(|entry| journal::encode(0, entry));
    let seeds = [
        journal::encode_all(&journal(journal::VERSION)),
        old.collect(),
    ];
    // A frame that stands twice, a header too, says nothing that was not written.
    let sound = [journal(journal::VERSION), journal(1)].concat();
    bombard_bytes("journal", &seeds, |bytes| match journal::decode(bytes) {
        Ok(replay) => {
            assert!(replay.entries.len() <= bytes.len());
            // What is not said to be damaged is a part of what was written.
            let is_damaged = matches!(replay.state, journal::State::Damaged(_));
            assert!(is_damaged || replay.entries.iter().skip(1).all(|e| sound.contains(e)));
            !is_damaged && !replay.entries.is_empty()
        }
        Err(_) => false,
    });
}

#[test]
fn a_long_and_deep_document_costs_no_more_than_its_length_allows() {
    let wide = format!("{{\"name\":\"n\",\"ipam\":[{}0]}}", "0,".repeat(500_000));
    let deep = format!("{{\"name\":{}", "[".repeat(1_000_000));
    let long = vec![b' '; (1 << 20) + 1];
    for stdin in [wide.as_bytes(), deep.as_bytes(), &long] {
        assert!(parse(&environment("ADD"), stdin).is_err());
    }
    let peak = MEMORY.max_allocated();
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes for a megabyte");
}
