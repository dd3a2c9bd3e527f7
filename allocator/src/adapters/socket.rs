//! The plugin's end of the socket: one connection, one question, one answer, all before an absolute
//! deadline. Synchronous, and it never blocks past the deadline: not in a full backlog, not in a
//! write to an agent that hangs.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};

use super::clock::boot_time;
use super::frame::{self, Question};
use crate::core::exchange::{Response, Verb};
use crate::core::plugin::PluginInput;
use crate::core::time::BootTime;

/// Where the agent listens.
pub const SOCKET_PATH: &str = "/run/berth/agent.sock";

/// Why there is no answer.
enum Silence {
    /// Nobody listens, the connection broke, or the agent speaks otherwise.
    Refused,
    /// The deadline passed.
    TimedOut,
}

impl From<Errno> for Silence {
    fn from(_: Errno) -> Self {
        Self::Refused
    }
}

impl From<frame::FrameError> for Silence {
    fn from(_: frame::FrameError) -> Self {
        Self::Refused
    }
}

/// Asks the agent behind `path`; returns what the plugin's state machine gets from it.
pub fn ask(path: &Path, verb: &Verb, deadline: BootTime) -> PluginInput {
    match exchange(path, verb, deadline) {
        Ok(response) => PluginInput::Answered(response),
        Err(Silence::Refused) => PluginInput::Refused,
        Err(Silence::TimedOut) => PluginInput::TimedOut,
    }
}

fn exchange(path: &Path, verb: &Verb, deadline: BootTime) -> Result<Response, Silence> {
    let bytes = frame::encode_greeted(&Question::new(verb.clone(), deadline))?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // A Unix socket connects at once or, when the backlog is full, not at all.
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    write_all(&socket, &bytes, deadline)?;
    frame::decode_greeting(&read_frame(&socket, deadline)?)?;
    Ok(frame::decode(&read_frame(&socket, deadline)?)?)
}

fn write_all(socket: &OwnedFd, mut bytes: &[u8], deadline: BootTime) -> Result<(), Silence> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_frame(socket: &OwnedFd, deadline: BootTime) -> Result<Vec<u8>, Silence> {
    let mut head = [0; frame::HEAD_BYTES];
    read_exact(socket, &mut head, deadline)?;
    let mut body = vec![0; frame::body_bytes(head)?];
    read_exact(socket, &mut body, deadline)?;
    Ok(body)
}

fn read_exact(socket: &OwnedFd, bytes: &mut [u8], deadline: BootTime) -> Result<(), Silence> {
    let mut filled = 0;
    while filled < bytes.len() {
        match recv(socket, &mut bytes[filled..], RecvFlags::empty()) {
            Ok((0, _)) => return Err(Silence::Refused),
            Ok((received, _)) => filled += received,
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, deadline)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait(socket: &OwnedFd, events: PollFlags, deadline: BootTime) -> Result<(), Silence> {
    let left = deadline.since(boot_time());
    if left.is_zero() {
        return Err(Silence::TimedOut);
    }
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(socket, events)], Some(&timeout)) {
        Ok(0) => Err(Silence::TimedOut),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;
    use crate::core::exchange::Allocation;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        (directory, path)
    }

    fn soon() -> BootTime {
        boot_time() + Duration::from_millis(50)
    }

    /// Reads one greeted question, answers with `bytes`, hangs up.
    fn answer_once(listener: &UnixListener, bytes: &[u8]) -> Verb {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = || {
            let mut head = [0; frame::HEAD_BYTES];
            stream.read_exact(&mut head).unwrap();
            let mut body = vec![0; frame::body_bytes(head).unwrap()];
            stream.read_exact(&mut body).unwrap();
            body
        };
        frame::decode_greeting(&read()).unwrap();
        let question: Question = frame::decode(&read()).unwrap();
        stream.write_all(bytes).unwrap();
        question.ask
    }

    fn asked(answer: &[u8]) -> PluginInput {
        let (_directory, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        let deadline = boot_time() + Duration::from_secs(20);
        std::thread::scope(|scope| {
            let agent = scope.spawn(|| answer_once(&listener, answer));
            let input = ask(&path, &Verb::Status, deadline);
            assert_eq!(agent.join().unwrap(), Verb::Status);
            input
        })
    }

    #[test]
    fn an_answer_is_read() {
        let response = Response::Added(Allocation::default());
        let bytes = frame::encode_greeted(&response).unwrap();
        assert_eq!(asked(&bytes), PluginInput::Answered(response));
    }

    #[test]
    fn what_is_no_answer_counts_as_refused() {
        let greeting = |berth| frame::encode(&frame::Greeting { berth }).unwrap();
        let too_long = [greeting(frame::PROTOCOL), vec![0xff; 4]].concat();
        let cut = [greeting(frame::PROTOCOL), vec![9, 0, 0, 0, b'{']].concat();
        for bytes in [vec![], greeting(frame::PROTOCOL + 1), too_long, cut] {
            assert_eq!(asked(&bytes), PluginInput::Refused, "{bytes:?}");
        }
    }

    #[test]
    fn without_a_listener_it_is_refused_at_once() {
        let (_directory, path) = place();
        let far = boot_time() + Duration::from_secs(60);
        assert_eq!(ask(&path, &Verb::Status, far), PluginInput::Refused);
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(
            ask(&path, &Verb::Status, far),
            PluginInput::Refused,
            "a stale socket"
        );
        assert!(boot_time() < far);
        let long = path.join("x".repeat(200));
        assert_eq!(ask(&long, &Verb::Status, far), PluginInput::Refused);
    }

    #[test]
    fn an_agent_that_hangs_costs_no_more_than_the_deadline() {
        let (_directory, path) = place();
        let _listener = UnixListener::bind(&path).unwrap();
        let deadline = soon();
        assert_eq!(ask(&path, &Verb::Status, deadline), PluginInput::TimedOut);
        assert!(boot_time() >= deadline);
    }

    #[test]
    fn a_full_backlog_does_not_block() {
        let (_directory, path) = place();
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let far = boot_time() + Duration::from_secs(60);
        assert_eq!(ask(&path, &Verb::Status, far), PluginInput::Refused);
        assert!(boot_time() < far);
    }
}
