//! Who holds an ordinal, and the compact text in which a block states it.
//!
//! One record: `<ordinal> <letter> <field> ...`, fields separated by spaces, records by `;`, with
//! `%XX` for ambiguous bytes. One JSON string costs the apiserver a tenth of what a structured map
//! costs.

use core::fmt::Write as _;

use super::identity::EpochId;
use super::objects::Uid;

/// The state of a Pod's hold. A hint for people and for when a journal is lost: what an agent may
/// do depends on its own journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HolderState {
    /// Reserved: follows its Pod.
    Unbound,
    /// An ADD was answered: follows its network namespace.
    Bound,
    /// DEL was seen, the namespace may live.
    Releasing,
}

/// A Pod's hold on an ordinal. Its key is (epoch, Pod UID); all else is a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The machine's incarnation.
    pub epoch: EpochId,
    /// The Pod.
    pub pod_uid: Uid,
    /// Its state.
    pub state: HolderState,
    /// `namespace/name`, for people.
    pub pod_name: String,
    /// The container of the answered ADD, or empty.
    pub container: String,
    /// The reservation that this hold satisfies, or empty: on release the ordinal returns to it.
    pub reservation: String,
}

/// The record of an ordinal that is not free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Held for a Pod.
    Pod(Holder),
    /// Free, but others are preferred for a while. The stamp differs from one rest to the next.
    /// There is no common clock, so each reader counts from when it first saw this stamp.
    Cooling(u32),
    /// Excluded by the operator.
    Excluded,
    /// A gateway.
    Gateway,
    /// Kept for a reservation of this name.
    Reserved(String),
}

impl Record {
    /// The Pod's hold, if it is one.
    pub fn holder(&self) -> Option<&Holder> {
        match self {
            Self::Pod(holder) => Some(holder),
            _ => None,
        }
    }
}

/// The text cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record_index} cannot be read")]
pub struct RecordError {
    /// Which record of the text, from 0.
    pub record_index: usize,
}

fn push_field(text: &mut String, field: &str) {
    let confuses = |byte| matches!(byte, b' ' | b';' | b'%' | b'"' | b'\\' | ..=0x1f);
    text.push(' ');
    let mut rest = field;
    // Names and IDs have no ambiguous bytes and are copied in one piece.
    while let Some(at) = rest.bytes().position(confuses) {
        text.push_str(&rest[..at]);
        write!(text, "%{:02x}", rest.as_bytes()[at]).expect("writing to a String succeeds");
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

fn read_field(field: &str) -> Option<String> {
    let mut text = String::with_capacity(field.len());
    let mut pieces = field.split('%');
    text.push_str(pieces.next()?);
    for piece in pieces {
        let code = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        text.push(char::from(code));
        text.push_str(&piece[2..]);
    }
    Some(text)
}

/// Appends the record at `ordinal` to the text.
pub fn encode_record(text: &mut String, ordinal: u16, record: &Record) {
    if !text.is_empty() {
        text.push(';');
    }
    let letter = match record {
        Record::Pod(Holder {
            state: HolderState::Unbound,
            ..
        }) => 'u',
        Record::Pod(Holder {
            state: HolderState::Bound,
            ..
        }) => 'b',
        Record::Pod(Holder {
            state: HolderState::Releasing,
            ..
        }) => 'r',
        Record::Cooling(_) => 'c',
        Record::Excluded => 'x',
        Record::Gateway => 'g',
        Record::Reserved(_) => 's',
    };
    write!(text, "{ordinal} {letter}").expect("writing to a String succeeds");
    match record {
        Record::Pod(holder) => {
            push_field(text, holder.epoch.machine());
            write!(text, " {}", holder.epoch.number()).expect("writing to a String succeeds");
            push_field(text, holder.pod_uid.as_str());
            push_field(text, &holder.pod_name);
            push_field(text, &holder.container);
            push_field(text, &holder.reservation);
        }
        Record::Reserved(name) => push_field(text, name),
        Record::Cooling(stamp) => {
            write!(text, " {stamp:x}").expect("writing to a String succeeds");
        }
        Record::Excluded | Record::Gateway => {}
    }
}

fn read_record(text: &str) -> Option<(u16, Record)> {
    let mut fields = text.split(' ');
    let ordinal = fields.next()?.parse().ok()?;
    let state = match fields.next()? {
        "u" => HolderState::Unbound,
        "b" => HolderState::Bound,
        "r" => HolderState::Releasing,
        "c" => {
            let stamp = fields
                .next()
                .map_or(Some(0), |text| u32::from_str_radix(text, 16).ok())?;
            return Some((ordinal, Record::Cooling(stamp)));
        }
        "x" => return Some((ordinal, Record::Excluded)),
        "g" => return Some((ordinal, Record::Gateway)),
        "s" => return Some((ordinal, Record::Reserved(read_field(fields.next()?)?))),
        _ => return None,
    };
    let machine = read_field(fields.next()?)?;
    let number = fields.next()?.parse().ok()?;
    let holder = Holder {
        epoch: EpochId::new(&machine, number),
        pod_uid: Uid::new(&read_field(fields.next()?)?),
        state,
        pod_name: read_field(fields.next()?)?,
        container: read_field(fields.next()?)?,
        reservation: read_field(fields.next()?)?,
    };
    fields
        .next()
        .is_none()
        .then_some((ordinal, Record::Pod(holder)))
}

/// Reads a text of records.
pub fn decode_records(text: &str) -> impl Iterator<Item = Result<(u16, Record), RecordError>> {
    text.split(';')
        .filter(|record| !record.is_empty())
        .enumerate()
        .map(|(record_index, record)| read_record(record).ok_or(RecordError { record_index }))
}
