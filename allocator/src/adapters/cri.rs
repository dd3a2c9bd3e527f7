//! The runtime's list of Pod sandboxes, over the CRI (`runtime.v1`). Only the one call that Berth
//! makes, and of its messages only the fields that it reads.

use core::time::Duration;
use std::path::Path;

use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use crate::core::exchange::Sandbox;
use crate::core::objects::Uid;
use crate::core::report::LocalError;
use crate::ports::Sandboxes;

/// The runtime answers a list within this or counts as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Units: bytes. Thousands of sandboxes with their annotations.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListPodSandboxResponse {
    #[prost(message, repeated, tag = "1")]
    items: Vec<PodSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "2")]
    uid: String,
}

/// A runtime behind its socket. Each question has a connection of its own: the runtime may have
/// been restarted since the last one, or another stand in its place while the old one hangs.
#[derive(Clone, Debug)]
pub struct CriSandboxes {
    endpoint: Endpoint,
    /// For people.
    socket: String,
}

impl CriSandboxes {
    /// The runtime at that socket; it is connected when it is asked.
    ///
    /// Errors: the path cannot be an endpoint.
    pub fn new(socket: &Path) -> Result<Self, LocalError> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(LocalError::new)?;
        Ok(Self {
            endpoint,
            socket: socket.display().to_string(),
        })
    }

    async fn ask(&self) -> Result<ListPodSandboxResponse, LocalError> {
        let channel = self.endpoint.connect().await.map_err(|e| self.failed(&e))?;
        let mut client =
            tonic::client::Grpc::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        client.ready().await.map_err(|e| self.failed(&e))?;
        let path = PathAndQuery::from_static("/runtime.v1.RuntimeService/ListPodSandbox");
        let codec = tonic_prost::ProstCodec::default();
        let answer = client
            .unary(tonic::Request::new(ListPodSandboxRequest {}), path, codec)
            .await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            let (code, words) = (status.code(), status.message());
            LocalError::new(format_args!("{}: {code:?}: {words}", self.socket))
        })
    }

    /// The innermost cause is the one that says something: no such file, connection refused.
    fn failed(&self, error: &dyn core::error::Error) -> LocalError {
        let mut cause = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        LocalError::new(format_args!("{}: {cause}", self.socket))
    }
}

impl Sandboxes for CriSandboxes {
    async fn list(&self) -> Result<Vec<Sandbox>, LocalError> {
        let answer = timeout(PATIENCE, self.ask()).await.map_err(|_| {
            let seconds = PATIENCE.as_secs();
            LocalError::new(format_args!("{}: no answer in {seconds} s", self.socket))
        })??;
        Ok(answer
            .items
            .into_iter()
            .map(|sandbox| Sandbox {
                container: sandbox.id,
                pod_uid: Uid::new(&sandbox.metadata.unwrap_or_default().uid),
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[tokio::test]
    async fn a_runtime_that_is_not_there_is_an_error_and_no_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        let sandboxes = CriSandboxes::new(&directory.path().join("none.sock")).unwrap();
        let error = sandboxes.list().await.unwrap_err().to_string();
        assert!(error.contains("none.sock: No such file"), "{error}");
    }

    #[test]
    fn an_answer_is_read_past_the_fields_that_are_not_needed() {
        // items[0] = {id: "s", metadata: {name: "n", uid: "u", namespace: "d", attempt: 1}, state:
        // 1}
        let bytes = [
            0x0a, 18, 0x0a, 1, b's', 0x12, 11, 0x0a, 1, b'n', 0x12, 1, b'u', 0x1a, 1, b'd', 0x20,
            1, 0x18, 1,
        ];
        let answer = ListPodSandboxResponse::decode(bytes.as_slice()).unwrap();
        let sandbox = &answer.items[0];
        assert_eq!(sandbox.id, "s");
        assert_eq!(sandbox.metadata.as_ref().unwrap().uid, "u");
    }
}
