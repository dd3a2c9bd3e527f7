//! The form of what plugin and agent say to each other: frames of a length (four bytes, little
//! endian) and JSON. Each side begins with a greeting that states the protocol's version, so that
//! a plugin and an agent of different releases understand that they do not understand each other.
//! No I/O.
//!
//! One connection carries one question: greeting and [`Question`], then greeting and
//! [`Response`](crate::core::exchange::Response). The plugin does not wait for the agent's greeting
//! before it asks.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::exchange::Verb;
use crate::core::time::BootTime;

/// The version of the protocol that this code speaks.
pub const PROTOCOL: u32 = 1;

/// Units: bytes. The longest body: a GC list as long as stdin may be.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Units: bytes. The length before each body.
pub const HEAD_BYTES: usize = 4;

/// The first frame of each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The version in which the next frame is written.
    pub berth: u32,
}

/// The second frame of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// Units: nanoseconds since boot. When the plugin stops waiting. Both sides run on one kernel,
    /// so one clock counts for both.
    pub deadline_nanoseconds: u64,
    /// What is asked.
    pub ask: Verb,
}

impl Question {
    /// A question with its deadline.
    pub fn new(ask: Verb, deadline: BootTime) -> Self {
        let nanoseconds = deadline.since_boot().as_nanos();
        Self {
            deadline_nanoseconds: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
            ask,
        }
    }

    /// When the plugin stops waiting.
    pub fn deadline(&self) -> BootTime {
        BootTime::from_nanos(self.deadline_nanoseconds)
    }
}

/// The other side does not keep to the form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A body longer than allowed.
    #[error("a frame of {0} bytes; at most {BODY_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A body that is not what it should be.
    #[error("a frame that cannot be read: {0}")]
    Malformed(String),
    /// A greeting of a version that is not spoken here.
    #[error("protocol version {0}; spoken here is {PROTOCOL}")]
    Version(u32),
}

/// A frame's bytes.
///
/// Errors: the body is longer than the other side would read.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; HEAD_BYTES];
    serde_json::to_writer(&mut bytes, value)
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    let body_bytes = bytes.len() - HEAD_BYTES;
    if body_bytes > BODY_BYTES_MAX {
        return Err(FrameError::TooLong(body_bytes));
    }
    bytes[..HEAD_BYTES].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    Ok(bytes)
}

/// A greeting and a frame, as each side sends them.
pub fn encode_greeted(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = encode(&Greeting { berth: PROTOCOL })?;
    bytes.extend(encode(value)?);
    Ok(bytes)
}

/// The length of the body that this head announces.
///
/// Errors: longer than allowed.
pub fn body_bytes(head: [u8; HEAD_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(head) as usize;
    if length > BODY_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    Ok(length)
}

/// Reads a body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// Reads a greeting's body and accepts its version.
pub fn decode_greeting(body: &[u8]) -> Result<(), FrameError> {
    match decode::<Greeting>(body)? {
        Greeting { berth: PROTOCOL } => Ok(()),
        Greeting { berth } => Err(FrameError::Version(berth)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::exchange::{
        AddRequest, Attachment, DelRequest, Failure, GcRequest, PodReference, Response,
    };

    fn attachment() -> Attachment {
        Attachment {
            container: "c".into(),
            interface: "eth0".into(),
        }
    }

    fn add() -> Verb {
        Verb::Add(AddRequest {
            attachment: attachment(),
            netns: "/n".into(),
            pod: PodReference {
                namespace: "ns".into(),
                name: "p".into(),
                uid: None,
            },
            network: "net".into(),
            pools: vec![],
            ips: vec!["10.0.0.1".parse().unwrap()],
        })
    }

    #[test]
    fn the_form_of_a_question_is_the_one_that_released_agents_read() {
        let question = Question::new(add(), BootTime::from_nanos(9));
        let bytes = encode(&question).unwrap();
        assert_eq!(
            core::str::from_utf8(&bytes[HEAD_BYTES..]).unwrap(),
            "{\"deadlineNanoseconds\":9,\"ask\":{\"Add\":{\"attachment\":{\"container\":\"c\",\
             \"interface\":\"eth0\"},\"netns\":\"/n\",\"pod\":{\"namespace\":\"ns\",\"name\":\"p\",\
             \"uid\":null},\"network\":\"net\",\"pools\":[],\"ips\":[\"10.0.0.1\"]}}}"
        );
        assert_eq!(bytes[0] as usize, bytes.len() - HEAD_BYTES);
    }

    #[test]
    fn what_is_sent_is_what_is_read() {
        let del = Verb::Del(DelRequest {
            attachment: attachment(),
            netns: String::new(),
        });
        let gc = Verb::Gc(GcRequest {
            valid: Some(vec![attachment()]),
        });
        for ask in [add(), del, gc, Verb::Status] {
            let question = Question::new(ask, BootTime::NEVER);
            let bytes = encode(&question).unwrap();
            assert_eq!(decode::<Question>(&bytes[HEAD_BYTES..]), Ok(question));
        }
        for response in [
            Response::Done,
            Response::Added(crate::core::exchange::Allocation::default()),
            Response::Failed(Failure::new(11, "later")),
        ] {
            let bytes = encode(&response).unwrap();
            assert_eq!(decode::<Response>(&bytes[HEAD_BYTES..]), Ok(response));
        }
    }

    #[test]
    fn a_length_over_the_cap_is_refused_before_anything_is_read() {
        assert!(body_bytes(u32::MAX.to_le_bytes()).is_err());
        assert!(encode(&"x".repeat(BODY_BYTES_MAX)).is_err());
        assert_eq!(
            body_bytes((BODY_BYTES_MAX as u32).to_le_bytes()),
            Ok(BODY_BYTES_MAX)
        );
    }

    #[test]
    fn a_greeting_of_another_version_is_told_from_garbage() {
        assert_eq!(decode_greeting(b"{\"berth\":1}"), Ok(()));
        // A later version may greet with more.
        assert_eq!(
            decode_greeting(b"{\"berth\":2,\"x\":1}"),
            Err(FrameError::Version(2))
        );
        assert!(matches!(
            decode_greeting(b"GET / HTTP/1.1"),
            Err(FrameError::Malformed(_))
        ));
    }
}
