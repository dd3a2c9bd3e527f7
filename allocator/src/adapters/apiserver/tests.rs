//! The client against a server on loopback that says what the test wants, byte by byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::adapters::bucket::Rate;
use crate::adapters::metered::MeteredApi;
use crate::adapters::metrics::Metrics;
use crate::core::api::Selection;
use crate::core::objects::{AddressBlock, Pod};

const SHORT: Deadlines = Deadlines {
    object: Duration::from_millis(300),
    list: Duration::from_millis(300),
};

/// A server that gives `answer` to each request and hangs up after it unless `hold`.
async fn server(answer: &'static str, hold: bool) -> (KubeApi, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            let counted = counted.clone();
            tokio::spawn(async move {
                let mut request = [0; 8192];
                let _ = stream.read(&mut request).await;
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(answer.as_bytes()).await;
                if hold {
                    core::future::pending::<()>().await;
                }
            });
        }
    });
    (api(&address.to_string()), requests)
}

fn api(address: &str) -> KubeApi {
    let config = Config::new(format!("http://{address}").parse().unwrap());
    KubeApi::with_config(config, SHORT).unwrap()
}

fn block() -> Object {
    let mut block = AddressBlock::default();
    block.metadata.name = "p-0".into();
    block.into()
}

#[tokio::test]
async fn a_write_is_sent_once_whatever_the_server_says() {
    for answer in [
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 504 Timeout\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 500 Error\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"metadata\":",
    ] {
        let (api, requests) = server(answer, false).await;
        let result = api.replace(block(), Part::Main).await;
        assert_eq!(
            result,
            Err(ApiError::Unavailable(Applied::Unknown)),
            "{answer:?}"
        );
        assert_eq!(requests.load(Ordering::Relaxed), 1, "{answer:?}");
    }
    let busy = "HTTP/1.1 429 Busy\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n";
    let (api, requests) = server(busy, false).await;
    let retry_after = Some(Duration::from_secs(2));
    let result = api.replace(block(), Part::Main).await;
    assert_eq!(result, Err(ApiError::TooManyRequests { retry_after }));
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_that_hangs_leaves_a_write_unknown_by_its_deadline() {
    let (api, _) = server("", true).await;
    let result = timeout(Duration::from_secs(20), api.create(block())).await;
    assert_eq!(result, Ok(Err(ApiError::Unavailable(Applied::Unknown))));
}

#[tokio::test]
async fn without_a_connection_nothing_was_applied() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let result = api(&address).create(block()).await;
    assert_eq!(result, Err(ApiError::Unavailable(Applied::Not)));
}

#[tokio::test]
async fn a_watch_delivers_lines_and_ends_with_its_stream() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n\
        {\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\",\"namespace\":\"d\"}}}\n\
        {\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n\
        {\"type\":\"ADD";
    let (api, _) = server(answer, false).await;
    let query = WatchQuery {
        selection: Selection {
            kind: Kind::Pod,
            labels: vec![],
            node_name: None,
        },
        resource_version: "1".into(),
    };
    let mut watch = api.watch(&query).await.unwrap();
    let mut pod = Pod::default();
    pod.metadata.name = "a".into();
    pod.metadata.namespace = "d".into();
    assert_eq!(watch.next().await, WatchEvent::Added(pod.into()));
    assert_eq!(watch.next().await, WatchEvent::Bookmark("9".into()));
    assert_eq!(watch.next().await, WatchEvent::Closed);
}

#[tokio::test]
async fn a_watch_that_is_silent_too_long_is_closed() {
    let watch = |heard| KubeWatch {
        kind: Kind::Pod,
        stream: Box::pin(futures::stream::pending()),
        buffer: BytesMut::new(),
        scanned: 0,
        heard,
    };
    let long_ago = Instant::now().checked_sub(WATCH_SILENCE).unwrap();
    assert_eq!(watch(long_ago).next().await, WatchEvent::Closed);
    let mut fresh = watch(Instant::now());
    let waits = timeout(Duration::from_millis(20), fresh.next()).await;
    assert!(waits.is_err(), "it may still speak");
}

#[tokio::test]
async fn a_request_that_would_wait_too_long_is_not_sent_and_counts_as_refused() {
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    let (api, requests) = server(answer, false).await;
    let rate = Rate {
        per_second: 1,
        burst: 1,
    };
    let patience = Duration::from_millis(10);
    let api = MeteredApi::new(api, rate, patience, Arc::new(Metrics::for_agent()));
    let sent = api.replace(block(), Part::Main).await;
    assert_eq!(sent, Err(ApiError::NotFound));
    let refused = api.replace(block(), Part::Main).await;
    let retry_after = match refused {
        Err(ApiError::TooManyRequests { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    };
    assert!(retry_after > Some(patience), "{retry_after:?}");
    assert_eq!(requests.load(Ordering::Relaxed), 1);
}
