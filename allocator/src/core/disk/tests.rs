//! The ledger against a plain model, and its log cut and damaged everywhere.

use proptest::prelude::*;

use super::ranges::RangeSpec;
use super::*;

const BOOT: &str = "boot-1";

fn set(subnet: &str, first: &str, last: &str) -> RangeSet {
    RangeSet::new(&[spec(subnet, first, last)]).unwrap()
}

fn spec(subnet: &str, first: &str, last: &str) -> RangeSpec {
    let subnet: ipnet::IpNet = subnet.parse().unwrap();
    RangeSpec {
        subnet,
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        gateway: match subnet.network() {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + 1).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + 1).into()),
        },
    }
}

fn attachment(container: &str) -> Attachment {
    Attachment {
        container: container.into(),
        interface: "eth0".into(),
    }
}

fn dual() -> Vec<RangeSet> {
    vec![
        set("10.0.0.0/24", "10.0.0.1", "10.0.0.5"),
        set("fd00::/64", "fd00::1", "fd00::ffff"),
    ]
}

struct Log {
    ledger: Ledger,
    bytes: Vec<u8>,
    /// The ledger after each line, with the length of the log then.
    states: Vec<(usize, Ledger)>,
}

impl Log {
    fn new() -> Self {
        let ledger = Ledger::default();
        let bytes = ledger.log(BOOT);
        Self {
            states: vec![(bytes.len(), ledger.clone())],
            ledger,
            bytes,
        }
    }

    fn write(&mut self, change: &Change) {
        self.ledger.apply(change).unwrap();
        self.bytes.extend(encode(change));
        self.states.push((self.bytes.len(), self.ledger.clone()));
    }

    fn add(&mut self, who: &str, sets: &[RangeSet], ips: &[&str]) -> Result<Vec<String>, Failure> {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let attachment = attachment(who);
        let outcome = self.ledger.add(&AddCall {
            attachment: &attachment,
            netns: "/n",
            namespace: None,
            pod: "",
            ips: &ips,
            sets,
        });
        let addresses = match outcome {
            AddOutcome::Held(addresses) => addresses,
            AddOutcome::Free(addresses, change) => {
                self.write(&change);
                addresses
            }
            AddOutcome::Exhausted(failure) | AddOutcome::Refused(failure) => return Err(failure),
        };
        Ok(addresses.iter().map(|a| a.address.to_string()).collect())
    }

    fn del(&mut self, who: &str) {
        self.write(&Change::Release(vec![attachment(who)]));
    }
}

#[test]
fn an_add_takes_one_address_of_each_set_and_never_the_gateway() {
    let mut log = Log::new();
    let first = log.add("a", &dual(), &[]).unwrap();
    assert_eq!(first, ["10.0.0.2/24", "fd00::2/64"]);
    let second = log.add("b", &dual(), &[]).unwrap();
    assert_eq!(second, ["10.0.0.3/24", "fd00::3/64"]);
    assert_eq!(log.add("a", &dual(), &[]).unwrap(), first, "the same ADD");
}

#[test]
fn the_search_goes_on_after_the_last_address_and_round() {
    let mut log = Log::new();
    for (who, expected) in [("a", "2"), ("b", "3"), ("c", "4"), ("d", "5")] {
        let got = log.add(who, &dual(), &[]).unwrap();
        assert_eq!(got[0], format!("10.0.0.{expected}/24"));
        if who != "c" {
            log.del(who);
        }
    }
    for (who, expected) in [("e", "2"), ("f", "3"), ("g", "5")] {
        let got = log.add(who, &dual(), &[]).unwrap();
        assert_eq!(got[0], format!("10.0.0.{expected}/24"));
    }
    let full = log.add("h", &dual(), &[]).unwrap_err();
    assert_eq!(full.code, Failure::TRY_AGAIN);
    assert!(full.message.contains("10.0.0.1-10.0.0.5"), "{full:?}");
}

#[test]
fn an_exhausted_second_set_takes_nothing_of_the_first() {
    let sets = [
        set("10.0.0.0/24", "10.0.0.1", "10.0.0.9"),
        set("10.1.0.0/24", "10.1.0.2", "10.1.0.2"),
    ];
    let mut log = Log::new();
    log.add("a", &sets, &[]).unwrap();
    let before = log.bytes.clone();
    assert!(log.add("b", &sets, &[]).is_err());
    assert_eq!(log.bytes, before);
}

#[test]
fn addresses_that_are_asked_for_are_given_or_refused_with_the_reason() {
    let mut log = Log::new();
    let got = log.add("a", &dual(), &["10.0.0.4", "fd00::77"]).unwrap();
    assert_eq!(got, ["10.0.0.4/24", "fd00::77/64"]);
    for (ips, code) in [
        (["10.0.0.4"], Failure::ADDRESS_TAKEN),
        (["10.0.0.1"], Failure::ADDRESS_INADMISSIBLE),
        (["10.9.9.9"], Failure::ADDRESS_INADMISSIBLE),
    ] {
        assert_eq!(log.add("b", &dual(), &ips).unwrap_err().code, code);
    }
    let two_of_one = log.add("b", &dual(), &["10.0.0.2", "10.0.0.3"]);
    assert_eq!(two_of_one.unwrap_err().code, Failure::ADDRESS_INADMISSIBLE);
    let other = log.add("a", &dual(), &["10.0.0.5"]).unwrap_err();
    assert_eq!(other.code, Failure::ADDRESS_INADMISSIBLE);
}

#[test]
fn a_range_may_be_changed_while_its_addresses_are_held() {
    let mut log = Log::new();
    for who in ["a", "b", "c"] {
        log.add(who, &dual()[..1], &[]).unwrap();
    }
    let wider = [set("10.0.0.0/16", "10.0.0.2", "10.0.255.254")];
    let mut got = Vec::new();
    for who in ["d", "e"] {
        got.extend(log.add(who, &wider, &[]).unwrap());
    }
    assert_eq!(got, ["10.0.0.5/16", "10.0.0.6/16"]);
}

#[test]
fn a_whole_v6_network_is_searched_without_a_walk_through_it() {
    let sets = [set("fd00::/64", "fd00::", "fd00::ffff:ffff:ffff:fffe")];
    let mut log = Log::new();
    for who in 0..300 {
        log.add(&format!("c{who}"), &sets, &[]).unwrap();
    }
    let last = log.add("x", &sets, &["fd00::ffff:ffff:ffff:fffe"]).unwrap();
    assert_eq!(last, ["fd00::ffff:ffff:ffff:fffe/64"]);
    let round = log.add("y", &sets, &[]).unwrap();
    assert_eq!(round, ["fd00::12d/64"], "round, to the first that is free");
}

#[test]
fn of_a_huge_range_the_first_addresses_that_can_be_counted_are_used() {
    let sets = [set(
        "fd00::/48",
        "fd00::",
        "fd00:0:0:ffff:ffff:ffff:ffff:fffe",
    )];
    let mut log = Log::new();
    assert_eq!(log.add("a", &sets, &[]).unwrap(), ["fd00::/48"]);
    for beyond in [
        "fd00::ffff:ffff:ffff:ffff",
        "fd00:0:0:1::7",
        "fd00:0:0:ffff::1",
    ] {
        let refused = log.add("b", &sets, &[beyond]).unwrap_err();
        assert_eq!(refused.code, Failure::ADDRESS_INADMISSIBLE, "{beyond}");
    }
    let far = "fd00::ffff:ffff:ffff:fffe";
    let last = log.add("b", &sets, &[far]).unwrap();
    assert_eq!(last, [format!("{far}/48")]);
}

#[test]
fn a_log_cut_at_any_byte_states_exactly_the_whole_lines() {
    let mut log = Log::new();
    for round in 0..3 {
        for who in 0..4 {
            log.add(&format!("c{round}{who}"), &dual(), &[]).unwrap();
        }
        for who in 0..4 {
            log.del(&format!("c{round}{who}"));
        }
    }
    let header = log.states[0].0;
    for cut in 0..=log.bytes.len() {
        let read = Ledger::replay(BOOT, &log.bytes[..cut]);
        if cut < header {
            assert_eq!(read, Err(LedgerError::Damaged(1)), "{cut}");
            continue;
        }
        let whole = log.states.iter().rev().find(|(end, _)| *end <= cut);
        let (end, state) = whole.unwrap();
        assert_eq!(read, Ok((state.clone(), *end)), "{cut}");
    }
}

#[test]
fn no_changed_byte_of_a_whole_line_goes_unnoticed() {
    let mut log = Log::new();
    log.add("a", &dual(), &[]).unwrap();
    log.add("b", &dual(), &[]).unwrap();
    log.del("a");
    // The very last byte is the end of a line: without it, that line was cut.
    for at in 0..log.bytes.len() - 1 {
        for flip in [1, 0x20, 0x80] {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= flip;
            let read = Ledger::replay(BOOT, &bytes);
            // A digit of the checksum may be written in the other case.
            let same_sum = bytes[at].eq_ignore_ascii_case(&log.bytes[at]);
            assert!(read.is_err() || same_sum, "byte {at}: {read:?}");
        }
    }
}

#[test]
fn another_boot_another_format_and_a_double_are_not_served() {
    let log = Log::new();
    let other = Ledger::replay("boot-2", &log.bytes);
    assert_eq!(other, Err(LedgerError::Boot));
    let newer = line(&Header {
        berth: FORMAT + 1,
        boot: BOOT.into(),
    });
    assert_eq!(
        Ledger::replay(BOOT, &newer),
        Err(LedgerError::Format(FORMAT + 1))
    );
    let bind = |who| {
        encode(&Change::Bind {
            attachment: attachment(who),
            binding: Binding {
                addresses: vec!["10.0.0.2".parse().unwrap()],
                netns: "/n".into(),
                namespace: None,
                pod: String::new(),
            },
        })
    };
    let double = [log.bytes, bind("a"), bind("b")].concat();
    assert_eq!(
        Ledger::replay(BOOT, &double),
        Err(LedgerError::Damaged(3)),
        "one address, two holders"
    );
}

#[test]
fn check_compares_what_is_held_with_the_previous_result() {
    let mut log = Log::new();
    log.add("a", &dual(), &[]).unwrap();
    let ips =
        |texts: &[&str]| -> Vec<IpAddr> { texts.iter().map(|t| t.parse().unwrap()).collect() };
    let check = |who, previous: &[&str]| log.ledger.check(&attachment(who), &ips(previous));
    assert_eq!(check("a", &["10.0.0.2", "fd00::2", "192.0.2.1"]), Ok(()));
    for (who, previous) in [("a", ["10.0.0.2"].as_slice()), ("b", &["10.0.0.2"])] {
        let failure = check(who, previous).unwrap_err();
        assert_eq!(failure.code, Failure::CHECK_FAILED);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u8, Option<u8>),
    Del(u8),
    Rewrite,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..12_u8, prop::option::weighted(0.2, 0..10_u8)).prop_map(|(w, ip)| Step::Add(w, ip)),
        4 => (0..12_u8).prop_map(Step::Del),
        1 => Just(Step::Rewrite),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Ranges of two parts, one address asked for now and then: no address has two holders, none
    /// is lost, an ADD fails only when all are held, and the log says what the ledger says.
    #[test]
    fn nothing_is_lost_and_nothing_doubled(steps in steps()) {
        let sets = [RangeSet::new(&[
            spec("10.0.0.0/24", "10.0.0.0", "10.0.0.3"),
            spec("10.0.1.0/24", "10.0.1.1", "10.0.1.4"),
        ]).unwrap()];
        // Of each part one address is a gateway.
        let room = 6;
        let mut log = Log::new();
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Add(who, ip) => {
                    let who = format!("c{who}");
                    let asked = ip.map(|ip| format!("10.0.{}.{}", ip / 5, ip % 5));
                    let ips: Vec<&str> = asked.iter().map(String::as_str).collect();
                    match log.add(&who, &sets, &ips) {
                        Ok(got) => {
                            let got = got[0].split('/').next().unwrap().to_owned();
                            prop_assert!(asked.is_none() || asked.as_ref() == Some(&got));
                            if let Some(before) = model.insert(who, got.clone()) {
                                prop_assert_eq!(before, got);
                            } else {
                                let holders = model.values().filter(|held| **held == got).count();
                                prop_assert_eq!(holders, 1);
                            }
                        }
                        Err(failure) => prop_assert!(
                            asked.is_some() || model.len() == room, "{:?} {:?}", failure, model
                        ),
                    }
                }
                Step::Del(who) => {
                    log.del(&format!("c{who}"));
                    model.remove(&format!("c{who}"));
                }
                Step::Rewrite => log.bytes = log.ledger.log(BOOT),
            }
            let (read, counted) = Ledger::replay(BOOT, &log.bytes).unwrap();
            prop_assert_eq!(counted, log.bytes.len());
            prop_assert_eq!(&read, &log.ledger);
            let held: BTreeMap<String, String> = read
                .bindings()
                .map(|(a, b)| (a.container.clone(), b.addresses[0].to_string()))
                .collect();
            prop_assert_eq!(&held, &model);
        }
    }
}
