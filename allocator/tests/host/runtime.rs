//! A container runtime's CRI socket, as far as Berth asks it: it lists what it is told, restarts,
//! refuses, answers errors, or hangs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// How it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// With its sandboxes.
    #[default]
    Lists,
    /// With a status that is no success.
    Fails,
    /// Not at all.
    Hangs,
}

#[derive(Default)]
struct State {
    /// UIDs of Pods by container.
    sandboxes: BTreeMap<String, String>,
    manner: Manner,
    asked_count: u64,
}

/// The runtime. What it runs outlives its process.
pub(crate) struct FakeRuntime {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    process: Option<Runtime>,
}

impl FakeRuntime {
    /// A runtime that is not started yet, with its socket at that path.
    pub(crate) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            state: Arc::default(),
            process: None,
        }
    }

    /// A runtime that runs.
    pub(crate) fn started(socket: &Path) -> Self {
        let mut runtime = Self::new(socket);
        runtime.start();
        runtime
    }

    /// Starts it: the socket's file is recreated, as every runtime does.
    pub(crate) fn start(&mut self) {
        fs::create_dir_all(self.socket.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&self.socket);
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = {
            let _within = process.enter();
            UnixListener::bind(&self.socket).unwrap()
        };
        let state = self.state.clone();
        process.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        self.process = Some(process);
    }

    /// It is gone; the socket's file stays, and nobody listens there.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }

    /// From now on.
    pub(crate) fn set_manner(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// A sandbox begins.
    pub(crate) fn begin(&self, container: &str, pod_uid: &str) {
        let mut state = self.state.lock().unwrap();
        state.sandboxes.insert(container.into(), pod_uid.into());
    }

    /// A sandbox ends.
    pub(crate) fn end(&self, container: &str) {
        self.state.lock().unwrap().sandboxes.remove(container);
    }

    /// Questions so far.
    pub(crate) fn asked_count(&self) -> u64 {
        self.state.lock().unwrap().asked_count
    }
}

impl Drop for FakeRuntime {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(stream: UnixStream, state: Arc<Mutex<State>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut unanswered = Vec::new();
    while let Some(Ok((_, respond))) = connection.accept().await {
        let (manner, list) = {
            let mut state = state.lock().unwrap();
            state.asked_count += 1;
            (state.manner, encode(&state.sandboxes))
        };
        match manner {
            Manner::Lists => answer(respond, Some(list), "0"),
            Manner::Fails => answer(respond, None, "14"),
            // Dropped, it would be reset, which is an answer.
            Manner::Hangs => unanswered.push(respond),
        }
    }
}

fn answer(mut respond: SendResponse<Bytes>, message: Option<Bytes>, status: &str) {
    let head = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    // Whoever asked may be gone.
    let Ok(mut stream) = respond.send_response(head, false) else {
        return;
    };
    if let Some(message) = message {
        let _ = stream.send_data(message, false);
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let _ = stream.send_trailers(trailers);
}

/// `ListPodSandboxResponse` as a gRPC message: items of ID, and of metadata with name and UID.
fn encode(sandboxes: &BTreeMap<String, String>) -> Bytes {
    let mut list = Vec::new();
    for (container, uid) in sandboxes {
        let metadata = [field(1, b"pod"), field(2, uid.as_bytes())].concat();
        let item = [field(1, container.as_bytes()), field(2, &metadata)].concat();
        list.extend(field(1, &item));
    }
    let length = u32::try_from(list.len()).unwrap().to_be_bytes();
    [&[0][..], &length, &list].concat().into()
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        text.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    text.push(length as u8);
    text.extend(bytes);
    text
}
