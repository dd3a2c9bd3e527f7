//! `CNI_ARGS` as runtimes and meta-plugins really send it: pairs `KEY=VALUE` apart by `;`, keys
//! more than once, values that hold `=`, `IgnoreUnknown` anywhere. Not the configuration's `args`.

use core::net::IpAddr;

use ipnet::IpNet;

use super::error::CniError;
use crate::core::exchange::PodReference;
use crate::core::names;
use crate::core::objects::Uid;

/// What Berth reads in `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// The Pod, where namespace and name are given.
    pub pod: Option<PodReference>,
    /// `IP`: addresses that the caller asks for.
    pub ips: Vec<IpAddr>,
}

/// At most this many addresses may be requested. An allocation has one per family.
pub(super) const REQUESTED_IPS_MAX: usize = 16;

impl CniArgs {
    /// Reads the variable. Of a repeated key the last value counts (multus appends its own
    /// arguments behind those of the runtime).
    ///
    /// Errors: a pair without `=`, a known key with an impossible value, an unknown key without
    /// `IgnoreUnknown`.
    pub fn parse(text: &str) -> Result<Self, CniError> {
        let (mut namespace, mut name, mut uid, mut ips) = ("", "", "", "");
        let (mut ignore_unknown, mut unknown) = (false, None);
        for pair in text.split(';').filter(|pair| !pair.trim().is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                let message = format!("CNI_ARGS: the pair {pair:?} has no '='");
                return Err(CniError::environment(message));
            };
            match key.trim() {
                "K8S_POD_NAMESPACE" => namespace = value,
                "K8S_POD_NAME" => name = value,
                "K8S_POD_UID" => uid = value,
                "IP" => ips = value,
                "IgnoreUnknown" => ignore_unknown = boolean(value)?,
                "K8S_POD_INFRA_CONTAINER_ID" | "MAC" => {}
                other => unknown = Some(other),
            }
        }
        if let (Some(key), false) = (unknown, ignore_unknown) {
            let message = format!("CNI_ARGS: unknown key {key:?} without IgnoreUnknown=true");
            return Err(CniError::environment(message));
        }
        Ok(Self {
            pod: pod(namespace, name, uid)?,
            ips: requested_ips(ips.split(',')).map_err(|bad| {
                CniError::environment(format!("CNI_ARGS: IP={bad:?} is no list of addresses"))
            })?,
        })
    }
}

fn boolean(value: &str) -> Result<bool, CniError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(CniError::environment(format!(
            "CNI_ARGS: IgnoreUnknown={value:?}; allowed are 1, true, 0, false"
        ))),
    }
}

fn pod(namespace: &str, name: &str, uid: &str) -> Result<Option<PodReference>, CniError> {
    if namespace.is_empty() && name.is_empty() {
        return Ok(None);
    }
    for (key, value) in [("K8S_POD_NAMESPACE", namespace), ("K8S_POD_NAME", name)] {
        if !names::is_object_name(value) {
            let message = format!("CNI_ARGS: {key}={value:?} is no Kubernetes name");
            return Err(CniError::environment(message));
        }
    }
    if !uid.is_empty() && !names::is_uid(uid) {
        let message = format!("CNI_ARGS: K8S_POD_UID={uid:?} is no UID");
        return Err(CniError::environment(message));
    }
    Ok(Some(PodReference {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: (!uid.is_empty()).then(|| Uid::new(uid)),
    }))
}

/// Reads addresses with or without a prefix length; empty items are ignored.
///
/// Errors: the item that is not an address, or the one too many.
pub(super) fn requested_ips<'t>(
    items: impl Iterator<Item = &'t str>,
) -> Result<Vec<IpAddr>, &'t str> {
    let mut ips = Vec::new();
    for item in items.map(str::trim).filter(|item| !item.is_empty()) {
        let ip = item
            .parse::<IpAddr>()
            .or_else(|_| item.parse::<IpNet>().map(|net| net.addr()))
            .map_err(|_| item)?;
        if ips.len() == REQUESTED_IPS_MAX {
            return Err(item);
        }
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod_of(text: &str) -> Option<(String, String, Option<String>)> {
        CniArgs::parse(text).unwrap().pod.map(|pod| {
            let uid = pod.uid.map(|uid| uid.as_str().to_owned());
            (pod.namespace, pod.name, uid)
        })
    }

    fn owned(namespace: &str, name: &str, uid: Option<&str>) -> (String, String, Option<String>) {
        (namespace.into(), name.into(), uid.map(str::to_owned))
    }

    #[test]
    fn what_runtimes_and_multus_send_is_understood() {
        for (text, expected) in [
            ("", None),
            (
                "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u-1;\
                 IgnoreUnknown=1",
                Some(owned("ns", "p", Some("u-1"))),
            ),
            // multus: the runtime's pairs, then its own once more, the last of a key counts.
            (
                "IgnoreUnknown=true;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=;\
                 K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_NAME=q;K8S_POD_UID=u-2",
                Some(owned("ns", "q", Some("u-2"))),
            ),
            // A value with '=', an unknown key before the switch, a trailing ';'.
            (
                "X=a=b;K8S_POD_NAME=p;K8S_POD_NAMESPACE=ns;IgnoreUnknown=True;",
                Some(owned("ns", "p", None)),
            ),
        ] {
            assert_eq!(pod_of(text), expected, "{text}");
        }
    }

    #[test]
    fn legacy_ip_may_be_a_list_with_or_without_prefixes() {
        let ips = |text| CniArgs::parse(text).unwrap().ips;
        let pair: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(ips("IP=10.0.0.7,fd00::7"), pair);
        assert_eq!(ips("IP=10.0.0.7/24, fd00::7/64,"), pair);
        assert_eq!(ips("IP=10.0.0.7,10.0.0.7"), pair[..1]);
        assert!(ips("IP=").is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_variable_named() {
        let many = format!("IP={}", addresses(20));
        for text in [
            "K8S_POD_NAME",
            "FOO=bar",
            "FOO=bar;IgnoreUnknown=false",
            "IgnoreUnknown=maybe",
            "IP=10.0.0.300",
            "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=../../secrets",
            "K8S_POD_NAMESPACE=ns",
            "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=a b",
            &many,
        ] {
            let error = CniArgs::parse(text).unwrap_err();
            assert_eq!(error.code, 4, "{text}");
            assert!(error.message.contains("CNI_ARGS"), "{}", error.message);
        }
    }

    fn addresses(count: u8) -> String {
        let all: Vec<String> = (0..count).map(|i| format!("10.0.1.{i}")).collect();
        all.join(",")
    }
}
