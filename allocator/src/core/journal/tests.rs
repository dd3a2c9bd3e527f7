//! The form of the journal: what each kind of damage leaves, and that it never goes unsaid.

use proptest::prelude::*;

use super::*;

fn attachment(number: usize) -> Attachment {
    Attachment {
        container: format!("c{number}"),
        interface: "eth0".into(),
    }
}

fn bound(number: usize) -> Entry {
    Entry::Bound(Box::new(Binding {
        attachment: attachment(number),
        netns: format!("/run/netns/{number}"),
        mount: Some(MountId(7)),
        pod_uid: Uid::new(&format!("u{number}")),
        pod_name: format!("ns/p{number}"),
        pool: "p".into(),
        index: 7,
        ordinal: number as u16,
        answer: Allocation::default(),
        at: BootTime::from_nanos(3),
    }))
}

fn entries() -> Vec<Entry> {
    vec![
        Entry::Header {
            version: VERSION,
            boot_id: "b".into(),
        },
        Entry::Block {
            pool: "p".into(),
            index: 7,
        },
        bound(1),
        bound(2),
        Entry::Releasing {
            attachment: attachment(1),
            at: BootTime::from_nanos(3),
        },
        bound(3),
        Entry::Ended {
            attachment: attachment(1),
        },
        bound(1),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    let numbered = entries().into_iter().enumerate();
    numbered.map(|(n, entry)| encode(n, &entry)).collect()
}

fn read(bytes: &[u8]) -> Replay {
    decode(bytes).expect("the version is known")
}

fn is_damaged(replay: &Replay) -> bool {
    matches!(replay.state, State::Damaged(_))
}

#[test]
fn what_is_appended_is_replayed() {
    let replay = read(&encode_all(&entries()));
    assert_eq!(replay.entries, entries());
    assert_eq!(replay.state, State::Whole);
}

#[test]
fn an_empty_file_is_no_journal_and_no_damage() {
    assert_eq!(read(&[]), Replay::default());
}

#[test]
fn a_tail_cut_anywhere_behind_the_header_is_torn_or_ends_between_two_entries() {
    let all = encode_all(&entries());
    let header = frames()[0].len();
    let mut ends = vec![0];
    for frame in frames() {
        ends.push(ends.last().unwrap() + frame.len());
    }
    for length in 1..all.len() {
        let replay = read(&all[..length]);
        assert_eq!(
            replay.entries,
            entries()[..replay.entries.len()],
            "at {length}"
        );
        let expected = match length {
            _ if ends.contains(&length) => State::Whole,
            _ if length > header => State::Torn,
            // It was put in place whole.
            _ => State::Damaged(Damage {
                at: 0,
                what: "no header",
            }),
        };
        assert_eq!(replay.state, expected, "at {length}");
    }
}

#[test]
fn a_flipped_bit_loses_one_entry_says_where_and_ends_nothing() {
    let all = encode_all(&entries());
    let mut begin = 0;
    for (number, frame) in frames().into_iter().enumerate() {
        for at in begin..begin + frame.len() {
            let mut damaged = all.clone();
            damaged[at] ^= 1;
            let replay = read(&damaged);
            let State::Damaged(damage) = replay.state else {
                panic!("byte {at}: {:?}", replay.state)
            };
            assert_eq!(damage.at, begin, "byte {at}");
            let mut expected = entries();
            expected.remove(number);
            assert_eq!(replay.entries, expected, "byte {at}");
        }
        begin += frame.len();
    }
}

#[test]
fn a_length_that_runs_beyond_the_end_is_no_torn_tail() {
    let mut all = encode_all(&entries());
    let last = all.len() - frames().last().unwrap().len();
    all[last + 10] = 0xff;
    assert!(is_damaged(&read(&all)));
}

#[test]
fn a_page_of_zeros_at_the_end_is_damage() {
    let mut all = encode_all(&entries());
    all.resize(all.len() + 4096, 0);
    let replay = read(&all);
    assert_eq!(replay.entries, entries());
    assert!(is_damaged(&replay));
}

#[test]
fn frames_that_changed_places_are_read_in_the_order_in_which_they_were_written() {
    let mut moved = frames();
    // Read as they lie, the end of an attachment would come behind its second begin.
    moved.swap(6, 7);
    let replay = read(&moved.concat());
    assert_eq!(replay.entries, entries());
    assert!(is_damaged(&replay));
}

#[test]
fn an_unknown_version_is_refused_and_by_an_older_release_too() {
    let header = |version| {
        let boot_id = "b".into();
        encode(0, &Entry::Header { version, boot_id })
    };
    assert_eq!(decode(&header(VERSION + 1)), Err(UnknownVersion(3)));
    // What version 1 did: one frame of length, checksum and JSON, and the version in it.
    let header = header(VERSION);
    let (json, length) = plain_frame(&header).expect("a frame of version 1");
    assert_eq!(length, header.len());
    assert!(matches!(parse(json), Ok(Entry::Header { version: 2, .. })));
}

/// The bytes that the release before this one wrote.
fn of_version_1() -> (Vec<Entry>, Vec<u8>) {
    let mut old = entries();
    old[0] = Entry::Header {
        version: 1,
        boot_id: "b".into(),
    };
    let bytes = old.iter().flat_map(|entry| encode(0, entry)).collect();
    (old, bytes)
}

#[test]
fn a_journal_of_version_1_is_read_and_what_it_cannot_tell_apart_is_damage() {
    let (old, bytes) = of_version_1();
    let replay = read(&bytes);
    assert_eq!((replay.entries, replay.state), (old.clone(), State::Whole));
    let cut = read(&bytes[..bytes.len() - 1]);
    assert_eq!(cut.entries, old[..old.len() - 1]);
    assert!(is_damaged(&cut));
    let mut flipped = bytes;
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    assert!(is_damaged(&read(&flipped)));
}

/// One thing that happens to a file.
#[derive(Clone, Debug)]
enum Mishap {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Zero(usize, usize),
    Double(usize),
    Swap(usize, usize),
    Drop(usize),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let at = 0..10_000_usize;
    prop_oneof![
        (at.clone(), 1..=u8::MAX).prop_map(|(at, bits)| Mishap::Flip(at, bits)),
        at.clone().prop_map(Mishap::Cut),
        (at.clone(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Mishap::Insert(at, bytes)),
        (at.clone(), 1..200_usize).prop_map(|(at, count)| Mishap::Remove(at, count)),
        (at.clone(), 1..600_usize).prop_map(|(at, count)| Mishap::Zero(at, count)),
        at.clone().prop_map(Mishap::Double),
        (at.clone(), at.clone()).prop_map(|(one, two)| Mishap::Swap(one, two)),
        at.prop_map(Mishap::Drop),
    ]
}

/// The file afterwards; `None`: nothing happened to it.
fn suffer(mishap: &Mishap) -> Option<Vec<u8>> {
    let before = encode_all(&entries());
    let (mut bytes, mut frames) = (before.clone(), frames());
    let (length, count) = (bytes.len(), frames.len());
    match mishap {
        Mishap::Flip(at, bits) => bytes[at % length] ^= bits,
        Mishap::Cut(at) => bytes.truncate(at % length),
        Mishap::Insert(at, inserted) => {
            let at = at % length;
            bytes.splice(at..at, inserted.iter().copied());
        }
        Mishap::Remove(at, removed) => {
            let at = at % length;
            bytes.drain(at..(at + removed).min(length));
        }
        Mishap::Zero(at, zeroed) => {
            let at = at % length;
            bytes[at..(at + zeroed).min(length)].fill(0);
        }
        Mishap::Double(at) => {
            let frame = frames[at % count].clone();
            frames.insert(at % count, frame);
            bytes = frames.concat();
        }
        Mishap::Swap(one, two) => {
            frames.swap(one % count, two % count);
            bytes = frames.concat();
        }
        Mishap::Drop(at) => {
            frames.remove(at % count);
            bytes = frames.concat();
        }
    }
    (bytes != before).then_some(bytes)
}

fn bindings(entries: &[Entry]) -> Vec<&Entry> {
    let is_binding = |entry: &&Entry| matches!(entry, Entry::Bound(_));
    entries.iter().filter(is_binding).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_single_mishap_takes_a_binding_away_in_silence(mishap in mishap()) {
        let Some(bytes) = suffer(&mishap) else { return Ok(()) };
        let replay = read(&bytes);
        let all = entries();
        for entry in &replay.entries {
            prop_assert!(all.contains(entry), "{entry:?} was never written");
        }
        if is_damaged(&replay) {
            return Ok(());
        }
        // Only the end may be missing without being said, and within a frame only the last one.
        prop_assert_eq!(&replay.entries[..], &all[..replay.entries.len()]);
        let is_cut = encode_all(&all).starts_with(&bytes);
        let lacks_last = replay.state == State::Torn && replay.entries.len() + 1 == all.len();
        let is_all = bindings(&replay.entries) == bindings(&all);
        prop_assert!(is_cut || lacks_last || is_all, "{:?}", replay.state);
    }
}
