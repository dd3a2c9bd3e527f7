//! A real etcd and kube-apiserver on loopback, for tests: with their own ports, authority and
//! directory, removed with the test. No kubelet, scheduler or controller runs here; [`Server`]
//! starts those.
//!
//! The programs come from `KUBEBUILDER_ASSETS`; `allocator/tests/envtest/build` makes them. Without
//! the variable a test skips itself by [`Assets::find`] and says so; with `REQUIRE_ENVTEST=1` that
//! is a failure, so that a check cannot pass by skipping.

mod certificates;
mod process;
mod rights;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::adapters::apiserver::{Deadlines, KubeApi};
use crate::adapters::crds;

pub use certificates::{Authority, Pair, SigningKey};
pub use process::Server;
pub use rights::{NAMESPACE, TokenUser};

/// A start may take this long on a busy machine.
const START: Duration = Duration::from_secs(180);
/// A stop may take this long before it becomes a kill.
const STOP: Duration = Duration::from_secs(30);

/// The directory with the programs.
#[derive(Clone, Debug)]
pub struct Assets {
    directory: PathBuf,
}

impl Assets {
    /// The directory that `KUBEBUILDER_ASSETS` names; `None`, after one line on stderr, when it is
    /// unset.
    ///
    /// Panics: it is unset and `REQUIRE_ENVTEST` is 1, or it lacks one of `programs`.
    #[expect(
        clippy::disallowed_methods,
        reason = "tests are configured by environment"
    )]
    pub fn find(programs: &[&str]) -> Option<Self> {
        let Ok(directory) = std::env::var("KUBEBUILDER_ASSETS") else {
            let is_required = std::env::var("REQUIRE_ENVTEST").is_ok_and(|value| value == "1");
            assert!(
                !is_required,
                "REQUIRE_ENVTEST=1, but KUBEBUILDER_ASSETS is not set: run \
                 allocator/tests/envtest/build and set it to the directory that it prints"
            );
            // Bypasses the test harness, which hides what a passing test prints.
            let line = "skipped: KUBEBUILDER_ASSETS is not set (allocator/tests/envtest/build)";
            let _ = writeln!(std::io::stderr(), "{line}");
            return None;
        };
        let assets = Self {
            directory: directory.into(),
        };
        for program in programs {
            let path = assets.program(program);
            assert!(
                path.is_file(),
                "KUBEBUILDER_ASSETS: there is no {}",
                path.display()
            );
        }
        Some(assets)
    }

    /// The path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// How a control plane is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pods get their service account's token, as in a cluster; needs a controller-manager, which
    /// creates the accounts.
    pub service_accounts: bool,
    /// etcd waits for the disk.
    pub fsync: bool,
    /// More flags of kube-apiserver.
    pub apiserver_flags: Vec<String>,
}

impl Options {
    /// The apiserver alone: Pods need no service account, etcd does not wait for the disk.
    pub fn apiserver_only() -> Self {
        Self {
            service_accounts: false,
            fsync: false,
            apiserver_flags: Vec::new(),
        }
    }

    /// What a real node needs.
    pub fn whole_cluster() -> Self {
        Self {
            service_accounts: true,
            fsync: true,
            apiserver_flags: vec!["--allow-privileged=true".to_owned()],
        }
    }
}

/// etcd and kube-apiserver. Dropped, both are killed and their files removed.
pub struct ControlPlane {
    // Dropped in this order: the servers before the directory.
    apiserver: Server,
    etcd: Server,
    authority: Authority,
    client: Client,
    config: Config,
    url: String,
    etcd_port: u16,
    directory: TempDir,
}

impl ControlPlane {
    /// Starts both and waits until the apiserver is ready.
    pub async fn start(assets: &Assets, options: &Options) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("envtest-").tempdir()?;
        let path = directory.path();
        let [etcd_port, peer_port, port] = free_ports()?;
        let authority = Authority::new(&path.join("pki"))?;
        let mut plane = Self {
            etcd: etcd(assets, path, options, etcd_port, peer_port),
            apiserver: apiserver(assets, path, options, &authority, etcd_port, port)?,
            url: format!("https://127.0.0.1:{port}"),
            // Replaced below, when there is a kubeconfig to read.
            client: Client::try_from(Config::new("https://127.0.0.1".parse()?))?,
            config: Config::new("https://127.0.0.1".parse()?),
            etcd_port,
            authority,
            directory,
        };
        plane.config = plane.config("admin", "system:masters").await?;
        plane.client = Client::try_from(plane.config.clone())?;
        plane.etcd.start()?;
        plane.start_apiserver().await?;
        Ok(plane)
    }

    /// `https://127.0.0.1:PORT`; the same after a restart.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The directory for logs and keys, removed with the control plane.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The authority that signed the apiserver's certificate and signs its clients'.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The file of the key that signs service-account tokens (the controller-manager needs it).
    pub fn service_account_key(&self) -> PathBuf {
        self.directory.path().join("pki/service-account.key")
    }

    /// A client with all rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The adapter under test, with all rights.
    pub fn api(&self) -> anyhow::Result<KubeApi> {
        KubeApi::with_config(self.config.clone(), Deadlines::STANDARD)
    }

    /// A configuration of this user in this group (empty: none).
    pub async fn config(&self, user: &str, group: &str) -> anyhow::Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(user, group)?)?;
        let options = KubeConfigOptions::default();
        Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
    }

    /// A kubeconfig file of this user in this group (empty: none), for a program.
    pub fn kubeconfig(&self, user: &str, group: &str) -> anyhow::Result<PathBuf> {
        let file = user.replace([':', '/'], "-");
        let pair = self.authority.client(&file, user, group)?;
        let user = json!({"client-certificate": pair.certificate, "client-key": pair.key});
        self.write_kubeconfig(&file, &user)
    }

    fn write_kubeconfig(&self, file: &str, user: &Value) -> anyhow::Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {
                "server": self.url,
                "certificate-authority": self.authority.certificate(),
            }}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        let path = self.directory.path().join(format!("{file}.kubeconfig"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// The kube-apiserver.
    pub fn apiserver(&mut self) -> &mut Server {
        &mut self.apiserver
    }

    /// The etcd.
    pub fn etcd(&mut self) -> &mut Server {
        &mut self.etcd
    }

    /// Starts the apiserver, unless it runs already, and waits until it is ready.
    pub async fn start_apiserver(&mut self) -> anyhow::Result<()> {
        self.apiserver.start()?;
        let limit = Instant::now() + START;
        let mut last = String::new();
        while Instant::now() < limit {
            self.etcd.ensure_running()?;
            self.apiserver.ensure_running()?;
            let asked = self.send(Method::GET, "/readyz", None);
            match timeout(Duration::from_secs(5), asked).await {
                Ok(Ok((StatusCode::OK, _))) => return Ok(()),
                Ok(Ok((status, answer))) => last = format!("{status} {answer}"),
                Ok(Err(error)) => last = format!("{error:#}"),
                Err(_) => "no answer".clone_into(&mut last),
            }
            sleep(process::POLL).await;
        }
        bail!(
            "the apiserver is not ready: {last}\n{}",
            self.apiserver.log_tail()
        );
    }

    /// SIGTERM to the apiserver; returns when it has ended.
    pub async fn stop_apiserver(&mut self) -> anyhow::Result<()> {
        self.apiserver.stop(STOP).await
    }

    /// Starts etcd.
    pub fn start_etcd(&mut self) -> anyhow::Result<()> {
        self.etcd.start()
    }

    /// SIGTERM to etcd; returns when it has ended.
    pub async fn stop_etcd(&mut self) -> anyhow::Result<()> {
        self.etcd.stop(STOP).await
    }

    /// Forgets every version but the current one: etcd is compacted, and the apiserver restarted,
    /// because its watch cache would still know them.
    pub async fn compact(&mut self) -> anyhow::Result<()> {
        let range = self.ask_etcd("range", r#"{"key":"AA=="}"#).await?;
        let revision = range["header"]["revision"].as_str().context("a revision")?;
        let compaction = json!({"revision": revision, "physical": true}).to_string();
        self.ask_etcd("compaction", &compaction).await?;
        self.apiserver.kill();
        self.start_apiserver().await
    }

    /// Asks the JSON gateway of etcd.
    async fn ask_etcd(&self, method: &str, body: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.etcd_port)).await?;
        let request = format!(
            "POST /v3/kv/{method} HTTP/1.0\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.contains(" 200 "), "etcd {method}: {answer}");
        Ok(serde_json::from_str(body)?)
    }

    /// Sends any request with all rights; answers with status and body (`null` when it is no JSON).
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        ask(&self.client, method, path, body).await
    }

    /// As [`Self::send`], for what must succeed.
    pub async fn must(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, answer) = self.send(method.clone(), path, body).await?;
        ensure!(status.is_success(), "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// Creates Berth's kinds, from the YAML that `berthd crds` prints, and waits until they are
    /// served.
    pub async fn install_crds(&self) -> anyhow::Result<()> {
        let yaml = crds::yaml();
        for document in yaml.split("---\n").filter(|document| !document.is_empty()) {
            let request = Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
                .header(http::header::CONTENT_TYPE, "application/yaml")
                .body(document.as_bytes().to_vec())?;
            self.client.request_text(request).await?;
        }
        self.serve_crds().await
    }

    /// Waits until Berth's kinds are served. A fresh apiserver is ready before that: until the
    /// caches of the kinds are filled it answers 404, then 429.
    pub async fn serve_crds(&self) -> anyhow::Result<()> {
        for definition in crds::definitions() {
            let spec = &definition["spec"];
            let [group, version, plural] = [
                &spec["group"],
                &spec["versions"][0]["name"],
                &spec["names"]["plural"],
            ]
            .map(|value| value.as_str().unwrap_or_default());
            let path = format!("/apis/{group}/{version}/{plural}?resourceVersion=0");
            let limit = Instant::now() + START;
            while self.send(Method::GET, &path, None).await?.0 != StatusCode::OK {
                ensure!(Instant::now() < limit, "{path} is not served");
                sleep(process::POLL).await;
            }
        }
        Ok(())
    }
}

/// Sends any request; answers with status and body (`null` when it is no JSON).
async fn ask(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<(StatusCode, Value)> {
    let content = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let bytes = body.map(|body| body.to_string().into_bytes());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, content)
        .body(Body::from(bytes.unwrap_or_default()))?;
    let (head, body) = client.send(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok((
        head.status,
        serde_json::from_slice(&body).unwrap_or_default(),
    ))
}

/// Ports that nobody listens on now. Another process may take one before it is used: the server
/// then ends at once and says so.
fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut listeners = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn etcd(assets: &Assets, directory: &Path, options: &Options, port: u16, peer_port: u16) -> Server {
    let client = format!("http://127.0.0.1:{port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let flags = vec![
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        format!("--unsafe-no-fsync={}", !options.fsync),
    ];
    Server::new(&assets.program("etcd"), flags, directory.join("etcd.log"))
}

fn apiserver(
    assets: &Assets,
    directory: &Path,
    options: &Options,
    authority: &Authority,
    etcd_port: u16,
    port: u16,
) -> anyhow::Result<Server> {
    let names = [
        "127.0.0.1",
        "10.96.0.1",
        "localhost",
        "kubernetes.default.svc",
    ];
    let pair = authority.server("apiserver", &names)?;
    let key = certificates::signing_key(&directory.join("pki"))?;
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // The service `kubernetes` may not point to loopback.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", pair.certificate.display()),
        format!("--tls-private-key-file={}", pair.key.display()),
        format!("--client-ca-file={}", authority.certificate().display()),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", key.public.display()),
        format!(
            "--service-account-signing-key-file={}",
            key.private.display()
        ),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
    ];
    if !options.service_accounts {
        flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    flags.extend(options.apiserver_flags.iter().cloned());
    Ok(Server::new(
        &assets.program("kube-apiserver"),
        flags,
        directory.join("kube-apiserver.log"),
    ))
}
