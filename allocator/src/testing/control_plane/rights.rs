//! The rights that a deployment gives, from the files that it is made from, and clients that have
//! no more than those: a token of the agent's service account, as its Pod on a node has it.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use http::{Method, Request, StatusCode};
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};

use super::{ControlPlane, ask};

/// The namespace that the deployment's base names.
pub const NAMESPACE: &str = "berth-system";
/// The roles, among other things.
const BASE: &str = include_str!("../../../deploy/kustomize/berth.yaml");
/// The admission policies.
const POLICIES: &str = include_str!("../../../deploy/kustomize/admission.yaml");
/// Kinds of the base that need no Pod to run, and where they are created.
const COLLECTIONS: [(&str, &str); 7] = [
    (
        "ServiceAccount",
        "/api/v1/namespaces/berth-system/serviceaccounts",
    ),
    (
        "ClusterRole",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    ),
    (
        "ClusterRoleBinding",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    ),
    (
        "Role",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/berth-system/roles",
    ),
    (
        "RoleBinding",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/berth-system/rolebindings",
    ),
    (
        "ValidatingAdmissionPolicy",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    ),
    (
        "ValidatingAdmissionPolicyBinding",
        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    ),
];

/// A user of whom nothing but the token is known to the apiserver.
#[derive(Clone)]
pub struct TokenUser {
    client: Client,
    token: String,
}

impl TokenUser {
    /// Sends any request with this user's rights; answers with status and body.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        ask(&self.client, method, path, body).await
    }
}

impl ControlPlane {
    /// Creates what is in these YAML documents and may be without Pods: accounts, roles, policies.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        for document in yaml.split("---\n") {
            let kind = document
                .lines()
                .find_map(|line| line.strip_prefix("kind: "));
            let Some((_, path)) = COLLECTIONS.iter().find(|(of, _)| Some(*of) == kind) else {
                continue;
            };
            let request = Request::post(*path)
                .header(http::header::CONTENT_TYPE, "application/yaml")
                .body(document.as_bytes().to_vec())?;
            self.client
                .request_text(request)
                .await
                .with_context(|| document.to_owned())?;
        }
        Ok(())
    }

    /// Creates the namespace, the service accounts and the roles of the deployment.
    pub async fn install_roles(&self) -> anyhow::Result<()> {
        let namespace = json!({"metadata": {"name": NAMESPACE}});
        self.must(Method::POST, "/api/v1/namespaces", Some(&namespace))
            .await?;
        self.apply(BASE).await
    }

    /// Creates the admission policies of the deployment. They are in force a moment later.
    pub async fn install_policies(&self) -> anyhow::Result<()> {
        self.apply(POLICIES).await
    }

    /// A token of this account, as a Pod on this node has it: the apiserver writes the node into
    /// it. There must be a Node object of that name.
    pub async fn token_on(&self, account: &str, node: &str) -> anyhow::Result<TokenUser> {
        let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{account}-{node}")},
            "spec": {
                "nodeName": node, "serviceAccountName": account, "hostNetwork": true,
                "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let pod = self.must(Method::POST, &pods, Some(&pod)).await?;
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
        });
        self.token(account, Some(pod)).await
    }

    /// A token of this account that belongs to no Pod.
    pub async fn token_of_nobody(&self, account: &str) -> anyhow::Result<TokenUser> {
        self.token(account, None).await
    }

    async fn token(&self, account: &str, pod: Option<Value>) -> anyhow::Result<TokenUser> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
        let mut spec = json!({"expirationSeconds": 3600});
        if let Some(pod) = pod {
            spec["boundObjectRef"] = pod;
        }
        let made = self
            .must(Method::POST, &path, Some(&json!({"spec": spec})))
            .await?;
        let token = made["status"]["token"].as_str().context("a token")?;
        ensure!(!token.is_empty(), "an empty token");
        let mut config: Config = self.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        };
        Ok(TokenUser {
            client: Client::try_from(config)?,
            token: token.to_owned(),
        })
    }

    /// A kubeconfig file of this user, for a program.
    pub fn token_kubeconfig(&self, file: &str, user: &TokenUser) -> anyhow::Result<PathBuf> {
        self.write_kubeconfig(file, &json!({"token": user.token}))
    }
}
