//! The agent's end of the socket: accepts plugins that run as root, reads one question from each
//! and carries the answer back. A plugin that hangs up is reported; a slow one is dropped.

use core::future::Future;
use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::clock::boot_time;
use super::frame::{self, FrameError, Question};
use crate::core::exchange::{
    Attachment, Failure, InboxEvent, PluginRequest, RequestId, Response, Verb,
};
use crate::core::names;
use crate::core::report::LocalError;
use crate::ports::Inbox;

/// How long a plugin may take to send its question, and to read its answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many plugins are served at once; more wait in the backlog.
const CONNECTIONS_MAX: usize = 2048;
/// How many events may wait for the agent.
const EVENTS_MAX: usize = 1024;

#[derive(Default)]
struct Waiting {
    last_id: u64,
    replies: BTreeMap<RequestId, oneshot::Sender<Response>>,
}

/// Told of every question: verb, CNI code of the answer (0 for success; `None` when the plugin hung
/// up first), and how long the plugin waited.
pub type Tally = Arc<dyn Fn(&'static str, Option<u32>, Duration) + Send + Sync>;

struct Shared {
    allowed_uid: u32,
    tally: Tally,
    events: mpsc::Sender<InboxEvent>,
    waiting: Mutex<Waiting>,
    connections: Arc<Semaphore>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket. Dropping it stops accepting.
pub struct SocketInbox {
    path: PathBuf,
    shared: Arc<Shared>,
    events: tokio::sync::Mutex<mpsc::Receiver<InboxEvent>>,
    ended: watch::Sender<bool>,
    accepting: Mutex<Accepting>,
}

/// The accepting task, and the socket file's device and inode when it began.
struct Accepting {
    task: JoinHandle<()>,
    file: Option<(u64, u64)>,
    /// Set when it stops listening.
    stops: bool,
}

/// Listens at the path, replacing the socket of a dead process.
fn begin(path: &Path, shared: &Arc<Shared>) -> io::Result<Accepting> {
    prepare(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Accepting {
        file: identity(path),
        stops: false,
        task: tokio::spawn(accept(listener, shared.clone())),
    })
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

impl SocketInbox {
    /// Listens at `path`, in a directory only for the owner, to processes of `allowed_uid` (0 in
    /// production: runtimes run as root). Call it within a tokio runtime.
    ///
    /// Errors: the directory is not one, or another agent listens there.
    pub fn listen(path: &Path, allowed_uid: u32) -> io::Result<Self> {
        Self::listen_and_tell(path, allowed_uid, Arc::new(|_, _, _| {}))
    }

    /// The same, and reports each question.
    pub fn listen_and_tell(path: &Path, allowed_uid: u32, tally: Tally) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared {
            allowed_uid,
            tally,
            events: sender,
            waiting: Mutex::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        });
        Ok(Self {
            path: path.to_owned(),
            accepting: Mutex::new(begin(path, &shared)?),
            shared,
            events: tokio::sync::Mutex::new(receiver),
            ended: watch::Sender::new(false),
        })
    }

    /// Whether plugins find this agent at the path. A file that was removed or replaced is
    /// recreated and reported once; plugins accepted before are served to the end. Call it within a
    /// tokio runtime.
    ///
    /// Errors: what is wrong, or was.
    pub fn check(&self) -> Result<(), LocalError> {
        let failed = |why: &dyn core::fmt::Display| {
            LocalError::new(format_args!("{}: {why}", self.path.display()))
        };
        let mut accepting = self.accepting();
        if accepting.stops {
            return Err(failed(&"the agent stops"));
        }
        if accepting.file.is_some() && accepting.file == identity(&self.path) {
            let directory = self.path.parent().unwrap_or(Path::new("/"));
            return super::namespaces::is_in_place(directory).map_err(|why| failed(&why));
        }
        let next = begin(&self.path, &self.shared).map_err(|error| failed(&error))?;
        accepting.task.abort();
        *accepting = next;
        Err(failed(&"it was removed or replaced; it is made anew"))
    }

    fn accepting(&self) -> MutexGuard<'_, Accepting> {
        self.accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops accepting, gives the plugins being served `bound` to get their answers, and then ends
    /// the inbox, and with it the agent.
    pub async fn drain(&self, bound: Duration) {
        {
            let mut accepting = self.accepting();
            accepting.stops = true;
            accepting.task.abort();
        }
        let _ = fs::remove_file(&self.path);
        let idle = async {
            while !self.shared.waiting().replies.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = timeout(bound, idle).await;
        self.ended.send_replace(true);
    }
}

impl Drop for SocketInbox {
    fn drop(&mut self) {
        self.accepting().task.abort();
    }
}

impl Inbox for SocketInbox {
    async fn next(&self) -> Option<InboxEvent> {
        let mut ended = self.ended.subscribe();
        let mut events = self.events.lock().await;
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => None,
            event = events.recv() => event,
        }
    }

    fn reply(&self, id: RequestId, response: Response) -> impl Future<Output = ()> + Send {
        if let Some(reply) = self.shared.waiting().replies.remove(&id) {
            // The plugin may be gone.
            let _ = reply.send(response);
        }
        core::future::ready(())
    }
}

fn prepare(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .ok_or_else(|| io::Error::other("the socket's path has no directory"))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    if !fs::symlink_metadata(directory)?.is_dir() {
        let message = format!("{} is not a directory of its own", directory.display());
        return Err(io::Error::other(message));
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let message = format!("another agent listens at {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let Ok(permit) = shared.connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = shared.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        tracing::debug!(%error, "a plugin was not served");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Most likely it is out of descriptors; they come back.
                tracing::warn!(%error, "a plugin could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, shared: &Shared) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != shared.allowed_uid {
        tracing::warn!(uid, "a process without the right to ask was turned away");
        return Ok(());
    }
    let question = timeout(PATIENCE, read_question(&mut stream)).await??;
    let begin = boot_time();
    let verb = question
        .as_ref()
        .map_or("unreadable", |q| verb_name(&q.ask));
    let tell = |code| (shared.tally)(verb, code, boot_time().since(begin));
    let response = match question {
        Ok(question) => match impossible(&question.ask) {
            None => {
                let Some(response) = ask(&mut stream, shared, question).await? else {
                    tell(None);
                    return Ok(());
                };
                response
            }
            Some(what) => {
                let message = format!("the agent refuses {what}");
                Response::Failed(Failure::new(Failure::INVALID_ENVIRONMENT, message))
            }
        },
        Err(error) => Response::Failed(Failure::new(Failure::TRY_AGAIN, error.to_string())),
    };
    tell(Some(match &response {
        Response::Added(_) | Response::Done => 0,
        Response::Failed(failure) => failure.code,
    }));
    let bytes = frame::encode_greeted(&response).map_err(io::Error::other)?;
    timeout(PATIENCE, stream.write_all(&bytes)).await?
}

fn verb_name(ask: &Verb) -> &'static str {
    match ask {
        Verb::Add(_) => "ADD",
        Verb::Del(_) => "DEL",
        Verb::Check(_) => "CHECK",
        Verb::Gc(_) => "GC",
        Verb::Status => "STATUS",
    }
}

/// Hands the question to the agent; `None` when the plugin hung up before the answer.
async fn ask(
    stream: &mut UnixStream,
    shared: &Shared,
    question: Question,
) -> io::Result<Option<Response>> {
    let (sender, receiver) = oneshot::channel();
    let id = {
        let mut waiting = shared.waiting();
        waiting.last_id += 1;
        let id = RequestId(waiting.last_id);
        waiting.replies.insert(id, sender);
        id
    };
    let request = InboxEvent::Request(Box::new(PluginRequest {
        id,
        deadline: question.deadline(),
        verb: question.ask,
    }));
    if shared.events.send(request).await.is_err() {
        return Ok(None);
    }
    let mut more = [0; 1];
    tokio::select! {
        biased;
        response = receiver => Ok(response.ok()),
        // A plugin sends nothing after its question: the next read is the end.
        _ = stream.read(&mut more) => {
            shared.waiting().replies.remove(&id);
            let _ = shared.events.send(InboxEvent::Closed(id)).await;
            Ok(None)
        }
    }
}

async fn read_question(stream: &mut UnixStream) -> io::Result<Result<Question, FrameError>> {
    let greeting = match read_frame(stream).await? {
        Ok(body) => frame::decode_greeting(&body),
        Err(error) => Err(error),
    };
    if let Err(error) = greeting {
        return Ok(Err(error));
    }
    Ok(read_frame(stream)
        .await?
        .and_then(|body| frame::decode(&body)))
}

async fn read_frame(stream: &mut UnixStream) -> io::Result<Result<Vec<u8>, FrameError>> {
    let mut head = [0; frame::HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    match frame::body_bytes(head) {
        Ok(length) => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            Ok(Ok(body))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// What no honest plugin sends: texts that would become paths or object names.
fn impossible(ask: &Verb) -> Option<&'static str> {
    let attachment = |attachment: &Attachment| {
        (!names::is_id(&attachment.container) || !names::is_interface(&attachment.interface))
            .then_some("the container ID or interface")
    };
    match ask {
        Verb::Add(add) => attachment(&add.attachment).or_else(|| {
            if !names::is_object_name(&add.pod.namespace) || !names::is_object_name(&add.pod.name) {
                Some("the Pod's name")
            } else if !add.pools.iter().all(|pool| names::is_object_name(pool)) {
                Some("a pool's name")
            } else if !add.netns.starts_with('/') {
                Some("the namespace's path")
            } else {
                None
            }
        }),
        Verb::Del(del) => attachment(&del.attachment),
        Verb::Check(check) => attachment(&check.attachment),
        Verb::Gc(_) | Verb::Status => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::socket;
    use crate::core::exchange::DelRequest;
    use crate::core::plugin::PluginInput;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/agent.sock");
        (directory, path)
    }

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    async fn plugin(path: &Path, verb: Verb) -> PluginInput {
        let path = path.to_owned();
        let deadline = boot_time() + Duration::from_secs(20);
        tokio::task::spawn_blocking(move || socket::ask(&path, &verb, deadline))
            .await
            .unwrap()
    }

    fn del(container: &str) -> Verb {
        Verb::Del(DelRequest {
            attachment: Attachment {
                container: container.into(),
                interface: "eth0".into(),
            },
            netns: String::new(),
        })
    }

    #[tokio::test]
    async fn a_question_reaches_the_agent_and_its_answer_the_plugin() {
        let (_directory, path) = place();
        let inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        let agent = async {
            let Some(InboxEvent::Request(request)) = inbox.next().await else {
                panic!("no request")
            };
            assert_eq!(request.verb, del("c"));
            inbox.reply(request.id, Response::Done).await;
        };
        let (answer, ()) = tokio::join!(plugin(&path, del("c")), agent);
        assert_eq!(answer, PluginInput::Answered(Response::Done));
    }

    #[tokio::test]
    async fn socket_and_directory_are_for_the_owner_alone() {
        let (_directory, path) = place();
        let _inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[tokio::test]
    async fn a_process_of_another_user_is_turned_away_unheard() {
        let (_directory, path) = place();
        let _inbox = SocketInbox::listen(&path, own_uid() + 1).unwrap();
        assert_eq!(plugin(&path, Verb::Status).await, PluginInput::Refused);
    }

    #[tokio::test]
    async fn a_path_for_a_container_id_is_refused_by_the_agent_too() {
        let (_directory, path) = place();
        let _inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        let answer = plugin(&path, del("../../etc")).await;
        assert!(
            matches!(&answer, PluginInput::Answered(Response::Failed(f)) if f.code == 4),
            "{answer:?}"
        );
    }

    #[tokio::test]
    async fn a_plugin_that_is_killed_is_reported() {
        let (_directory, path) = place();
        let inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let question = Question::new(Verb::Status, boot_time());
        let bytes = frame::encode_greeted(&question).unwrap();
        stream.write_all(&bytes).await.unwrap();
        let Some(InboxEvent::Request(request)) = inbox.next().await else {
            panic!("no request")
        };
        drop(stream);
        assert_eq!(inbox.next().await, Some(InboxEvent::Closed(request.id)));
    }

    #[tokio::test]
    async fn a_second_agent_does_not_take_the_socket_and_a_dead_ones_is_replaced() {
        let (_directory, path) = place();
        let first = SocketInbox::listen(&path, own_uid()).unwrap();
        let second = SocketInbox::listen(&path, own_uid());
        assert_eq!(
            second.err().map(|e| e.kind()),
            Some(io::ErrorKind::AddrInUse)
        );
        drop(first);
        let taken = timeout(Duration::from_secs(10), async {
            while SocketInbox::listen(&path, own_uid()).is_err() {
                tokio::task::yield_now().await;
            }
        });
        assert!(taken.await.is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_or_replaced_is_made_anew_and_serves_on() {
        let (_directory, path) = place();
        let inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        inbox.check().unwrap();
        for damage in [0, 1, 2] {
            match damage {
                0 => fs::remove_file(&path).unwrap(),
                1 => {
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, b"no socket").unwrap();
                }
                _ => fs::remove_dir_all(path.parent().unwrap()).unwrap(),
            }
            inbox.check().unwrap_err();
            inbox.check().unwrap();
            let agent = async {
                let Some(InboxEvent::Request(request)) = inbox.next().await else {
                    panic!("no request")
                };
                inbox.reply(request.id, Response::Done).await;
            };
            let (answer, ()) = tokio::join!(plugin(&path, del("c")), agent);
            assert_eq!(answer, PluginInput::Answered(Response::Done));
        }
        inbox.drain(Duration::from_secs(1)).await;
        inbox.check().unwrap_err();
        assert!(!path.exists(), "what was drained is not made anew");
    }

    #[tokio::test]
    async fn a_drained_inbox_ends() {
        let (_directory, path) = place();
        let inbox = SocketInbox::listen(&path, own_uid()).unwrap();
        inbox.drain(Duration::from_secs(5)).await;
        assert_eq!(inbox.next().await, None);
        assert_eq!(plugin(&path, Verb::Status).await, PluginInput::Refused);
    }
}
