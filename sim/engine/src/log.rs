//! The event log: every event as bytes under a rolling hash, and, if asked, as lines for people.
//!
//! The hash covers (time, event) and nothing about the process: no seed, path, clock or address.

use std::{
    fmt,
    io::{self, BufWriter, Write},
    mem,
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::time::SimInstant;

/// An XXH3-128 over all events so far; prints as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub u128);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16)
            .map(Digest)
            .map_err(serde::de::Error::custom)
    }
}

/// The state of the log at the end of a simulated second that had events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The second, counted from 0: the checkpoint covers all events before its end.
    pub second: u64,
    /// Events so far.
    pub count: u64,
    /// The hash so far.
    pub digest: Digest,
}

/// Bytes gathered before they are hashed: large strides suit the hash better than single events.
const BUFFER_BYTES: usize = 8 << 10;

/// The ordered record of a run.
pub struct EventLog {
    buffer: Vec<u8>,
    hasher: Box<Xxh3>,
    count: u64,
    second: u64,
    checkpoints: Vec<Checkpoint>,
    sink: Option<Box<BufWriter<Box<dyn Write + Send>>>>,
    sink_error: Option<io::Error>,
}

/// One line of a trace.
#[derive(Serialize)]
struct TraceLine<'a, E> {
    ordinal: u64,
    at_ns: SimInstant,
    event: &'a E,
}

impl EventLog {
    /// A log that only hashes.
    pub fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
            hasher: Box::new(Xxh3::new()),
            count: 0,
            second: 0,
            checkpoints: Vec::new(),
            sink: None,
            sink_error: None,
        }
    }

    /// A log that also writes one JSON line per event: `ordinal` (from 0), `at_ns` and `event`.
    ///
    /// A failed write ends the trace, not the run: see [`EventLog::take_sink_error`].
    pub fn with_sink(sink: Box<dyn Write + Send>) -> Self {
        Self {
            sink: Some(Box::new(BufWriter::new(sink))),
            ..Self::new()
        }
    }

    /// Takes in an event. Times may not go backwards.
    ///
    /// Panics: when the event does not serialize, which plain data always does.
    pub fn append(&mut self, at: SimInstant, event: &impl Serialize) {
        if at.whole_seconds() != self.second {
            self.close_second(at.whole_seconds());
        }
        if self.sink.is_some() {
            self.trace(at, event);
        }
        let buffer = mem::take(&mut self.buffer);
        self.buffer = postcard::to_extend(&(at, event), buffer)
            .expect("an event is plain data, so it encodes");
        self.count += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    /// The hash over all events so far.
    pub fn digest(&mut self) -> Digest {
        self.flush();
        Digest(self.hasher.digest128())
    }

    /// Events so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One entry per simulated second that had events and has ended.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// Writes out what the trace still buffers.
    pub fn flush_sink(&mut self) {
        if let Some(sink) = &mut self.sink
            && let Err(error) = sink.flush()
        {
            self.fail_sink(error);
        }
    }

    /// The error that ended the trace, once.
    pub fn take_sink_error(&mut self) -> Option<io::Error> {
        self.sink_error.take()
    }

    fn close_second(&mut self, next: u64) {
        assert!(next > self.second, "events are logged in the order of time");
        if self.count > self.checkpoints.last().map_or(0, |last| last.count) {
            let digest = self.digest();
            self.checkpoints.push(Checkpoint {
                second: self.second,
                count: self.count,
                digest,
            });
        }
        self.second = next;
    }

    fn flush(&mut self) {
        self.hasher.update(&self.buffer);
        self.buffer.clear();
    }

    fn trace(&mut self, at: SimInstant, event: &impl Serialize) {
        let Some(sink) = &mut self.sink else { return };
        let line = TraceLine {
            ordinal: self.count,
            at_ns: at,
            event,
        };
        let written = serde_json::to_writer(&mut *sink, &line)
            .map_err(io::Error::from)
            .and_then(|()| sink.write_all(b"\n"));
        if let Err(error) = written {
            self.fail_sink(error);
        }
    }

    fn fail_sink(&mut self, error: io::Error) {
        // `into_parts` drops the buffer unwritten: a second attempt would fail like the first.
        if let Some(sink) = self.sink.take() {
            drop(sink.into_parts());
        }
        self.sink_error = Some(error);
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
