//! The small HTTP listener for metrics and health: GET, three paths, no keep-alive beyond its
//! deadline. It can be asked for nothing that changes anything.

use core::convert::Infallible;
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at once; more wait in the backlog.
const CONNECTIONS_MAX: usize = 32;
/// A request's head arrives within this.
const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection lives.
const CONNECTION_PATIENCE: Duration = Duration::from_mins(2);
/// What Prometheus expects of an OpenMetrics page.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is answered.
pub trait Pages: Send + Sync + 'static {
    /// The metrics page.
    fn metrics(&self) -> String;

    /// What keeps the process from being ready; nothing when it is.
    fn complaints(&self) -> Vec<String>;

    /// What a process that is ready does without.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What only a new container of the same image repairs; normally nothing.
    fn past_mending(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The listener. Dropping it ends it.
pub struct HttpListener {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl HttpListener {
    /// Answers at that address. Within a tokio runtime.
    ///
    /// Errors: the address is taken or not this host's.
    pub async fn bind(address: SocketAddr, pages: Arc<dyn Pages>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            accepting: tokio::spawn(accept(listener, pages)),
        })
    }

    /// Where it listens: the port, if 0 was asked for, is the kernel's choice.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for HttpListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, pages: Arc<dyn Pages>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = pages.clone();
                tokio::spawn(async move {
                    // Whoever dawdles is dropped.
                    let _ = timeout(CONNECTION_PATIENCE, serve(stream, pages)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, pages: Arc<dyn Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = pages.clone();
        async move { Ok::<_, Infallible>(answer(request.method(), request.uri().path(), &*pages)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

fn answer(method: &Method, path: &str, pages: &dyn Pages) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".into());
    }
    match path {
        "/metrics" => page(StatusCode::OK, OPEN_METRICS, pages.metrics()),
        "/healthz" => verdict(&pages.past_mending(), Vec::new()),
        "/readyz" => {
            let complaints = pages.complaints();
            let notes = pages.notes();
            verdict(&complaints, notes)
        }
        _ => {
            let text = "/metrics, /healthz, /readyz\n";
            page(StatusCode::NOT_FOUND, TEXT, text.into())
        }
    }
}

/// 200 with what is done without, or 503 with what is missing, a line each.
fn verdict(complaints: &[String], notes: Vec<String>) -> Response<Full<Bytes>> {
    let (status, mut lines) = if complaints.is_empty() {
        (StatusCode::OK, vec!["ok".to_owned()])
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, complaints.to_vec())
    };
    lines.extend(notes);
    page(status, TEXT, lines.join("\n") + "\n")
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Fixed(Vec<String>);

    impl Pages for Fixed {
        fn metrics(&self) -> String {
            "# EOF\n".into()
        }

        fn complaints(&self) -> Vec<String> {
            self.0.clone()
        }
    }

    async fn get(listener: &HttpListener, request: &str) -> String {
        let mut stream = TcpStream::connect(listener.address()).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn listen(complaints: &[&str]) -> HttpListener {
        let complaints = complaints.iter().map(ToString::to_string).collect();
        let any = "127.0.0.1:0".parse().unwrap();
        HttpListener::bind(any, Arc::new(Fixed(complaints)))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn three_pages_are_answered_and_nothing_else() {
        let listener = listen(&[]).await;
        for (request, status) in [
            ("GET /metrics", "200"),
            ("GET /healthz", "200"),
            ("GET /readyz?verbose", "200"),
            ("GET /", "404"),
            ("GET /../../etc/passwd", "404"),
            ("POST /readyz", "405"),
        ] {
            let answer = get(&listener, request).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{request}: {answer}"
            );
        }
        assert!(get(&listener, "GET /metrics").await.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn not_ready_says_why_and_stays_alive() {
        let listener = listen(&["the journal is full", "no epoch"]).await;
        let answer = get(&listener, "GET /readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(
            answer.ends_with("the journal is full\nno epoch\n"),
            "{answer}"
        );
        let alive = get(&listener, "GET /healthz").await;
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
    }
}
