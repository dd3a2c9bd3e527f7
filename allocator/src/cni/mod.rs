//! The CNI contract of an IPAM plugin: from environment and stdin to a call, from an outcome to the
//! one document on stdout. Pure functions; sockets, files and the process are not here.
//!
//! A DEL is parsed as leniently as possible: it needs only a container ID and an interface, and no
//! other error in its configuration stops it. A DEL that fails keeps its Pod terminating forever.

pub mod args;
pub mod config;
pub mod disk;
pub mod error;
pub mod result;
pub mod version;

use core::time::Duration;
use std::ffi::OsString;

use crate::core::exchange::{AddRequest, Attachment, CheckRequest, DelRequest, GcRequest, Verb};
use crate::core::names;

use args::CniArgs;
use config::{Config, Store};
use disk::{DiskAdd, DiskAsk, DiskVerb};
use error::CniError;
use result::Answer;
use version::SpecVersion;

/// Units: bytes. `PATH_MAX` of Linux.
const PATH_BYTES_MAX: usize = 4096;

/// What the caller wants from this execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Not called as a plugin: say what this is, on stderr.
    About,
    /// Print the versions.
    Version,
    /// Ask the agent.
    Ask(Box<Ask>),
    /// Ask the store on this node's disk.
    Disk(Box<DiskAsk>),
}

/// A question to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The question.
    pub verb: Verb,
    /// The version to answer in.
    pub version: SpecVersion,
    /// The time that it may take, when the configuration states it.
    pub timeout: Option<Duration>,
}

/// A call that is refused, and the version to report that in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub error: CniError,
    /// The configuration's version, else the newest.
    pub version: SpecVersion,
}

/// The `CNI_*` variables that Berth reads. It does not read `CNI_PATH`, because it delegates to no
/// plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`
    pub command: Option<OsString>,
    /// `CNI_CONTAINERID`
    pub container: Option<OsString>,
    /// `CNI_NETNS`
    pub netns: Option<OsString>,
    /// `CNI_IFNAME`
    pub interface: Option<OsString>,
    /// `CNI_ARGS`
    pub args: Option<OsString>,
}

impl Environment {
    /// Reads the variables through `variable`.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            interface: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
        }
    }

    fn attachment(&self) -> Result<Attachment, CniError> {
        let container = required("CNI_CONTAINERID", self.container.as_ref())?;
        let interface = required("CNI_IFNAME", self.interface.as_ref())?;
        if !names::is_id(container) {
            let message = format!("CNI_CONTAINERID={container:?} is no container ID");
            return Err(CniError::environment(message));
        }
        if !names::is_interface(interface) {
            let message = format!("CNI_IFNAME={interface:?} is no interface name");
            return Err(CniError::environment(message));
        }
        Ok(Attachment {
            container: container.to_owned(),
            interface: interface.to_owned(),
        })
    }

    fn args(&self) -> Result<CniArgs, CniError> {
        let text = match &self.args {
            None => "",
            Some(args) => args
                .to_str()
                .ok_or_else(|| CniError::environment("CNI_ARGS is no UTF-8"))?,
        };
        CniArgs::parse(text)
    }

    fn netns(&self) -> Result<String, CniError> {
        let path = required("CNI_NETNS", self.netns.as_ref())?;
        if !path.starts_with('/') || path.len() > PATH_BYTES_MAX || path.contains('\0') {
            let message = format!("CNI_NETNS={path:?} is no absolute path");
            return Err(CniError::environment(message));
        }
        Ok(path.to_owned())
    }
}

fn required<'e>(name: &str, value: Option<&'e OsString>) -> Result<&'e str, CniError> {
    let value = value.map_or(Some(""), |value| value.to_str());
    match value {
        Some("") => Err(CniError::environment(format!("{name} is not set"))),
        Some(value) => Ok(value),
        None => Err(CniError::environment(format!("{name} is no UTF-8"))),
    }
}

/// Parses one execution.
pub fn parse(environment: &Environment, stdin: &[u8]) -> Result<Call, Refused> {
    let newest = |error| Refused {
        error,
        version: SpecVersion::NEWEST,
    };
    let Some(command) = environment.command.as_ref().filter(|c| !c.is_empty()) else {
        return Ok(Call::About);
    };
    let command = command.to_str().unwrap_or("");
    if !matches!(
        command,
        "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION"
    ) {
        let message =
            format!("CNI_COMMAND={command:?}; allowed are ADD, DEL, CHECK, GC, STATUS, VERSION");
        return Err(newest(CniError::environment(message)));
    }
    if command == "VERSION" {
        return Ok(Call::Version);
    }
    let config = Config::decode(stdin).map_err(newest)?;
    let version = config.version.clone().unwrap_or(SpecVersion::NEWEST);
    match config.store() {
        Ok(Store::Disk) => {
            let ask = disk_ask(command, environment, &config);
            return match ask {
                Ok(ask) => Ok(Call::Disk(Box::new(ask))),
                Err(error) => Err(Refused { error, version }),
            };
        }
        Err(error) if command != "DEL" => return Err(Refused { error, version }),
        // A DEL with an unreadable store is left to the agent, or to its spool.
        Ok(Store::Agent) | Err(_) => {}
    }
    let ask = match command {
        "ADD" => add(environment, &config),
        "DEL" => del(environment),
        "CHECK" => check(environment, &config),
        "GC" => gc(&config),
        _ => status(&config),
    };
    match ask {
        Ok((verb, timeout)) => Ok(Call::Ask(Box::new(Ask {
            verb,
            version,
            timeout,
        }))),
        Err(error) => Err(Refused { error, version }),
    }
}

type Asked = Result<(Verb, Option<Duration>), CniError>;

fn add(environment: &Environment, config: &Config) -> Asked {
    config.version_from("ADD", SpecVersion::V0_1_0)?;
    let attachment = environment.attachment()?;
    let netns = environment.netns()?;
    let network = config.network()?;
    let section = config.ipam()?;
    let args = environment.args()?;
    let pod = args.pod.ok_or_else(|| {
        let message = "CNI_ARGS has no K8S_POD_NAMESPACE and K8S_POD_NAME: Berth serves Pods only";
        CniError::environment(message)
    })?;
    let verb = Verb::Add(AddRequest {
        attachment,
        netns,
        pod,
        network,
        pools: section.pools,
        ips: config.requested_ips()?.unwrap_or(args.ips),
    });
    Ok((verb, section.timeout))
}

fn del(environment: &Environment) -> Asked {
    Ok((Verb::Del(del_request(environment)?), None))
}

fn del_request(environment: &Environment) -> Result<DelRequest, CniError> {
    Ok(DelRequest {
        attachment: environment.attachment()?,
        // An invalid path is treated like a missing one.
        netns: environment.netns().unwrap_or_default(),
    })
}

fn check(environment: &Environment, config: &Config) -> Asked {
    Ok((Verb::Check(check_request(environment, config)?), None))
}

fn check_request(environment: &Environment, config: &Config) -> Result<CheckRequest, CniError> {
    config.version_from("CHECK", SpecVersion::V0_4_0)?;
    let attachment = environment.attachment()?;
    environment.netns()?;
    config.network()?;
    Ok(CheckRequest {
        attachment,
        addresses: config.previous_addresses()?,
    })
}

fn gc(config: &Config) -> Asked {
    Ok((Verb::Gc(gc_request(config)?), None))
}

fn gc_request(config: &Config) -> Result<GcRequest, CniError> {
    config.version_from("GC", SpecVersion::V1_1_0)?;
    config.network()?;
    let valid = config.valid_attachments()?;
    Ok(GcRequest { valid })
}

fn status(config: &Config) -> Asked {
    config.version_from("STATUS", SpecVersion::V1_1_0)?;
    config.network()?;
    config.ipam()?;
    Ok((Verb::Status, None))
}

fn disk_ask(
    command: &str,
    environment: &Environment,
    config: &Config,
) -> Result<DiskAsk, CniError> {
    let mut timeout = None;
    let verb = match command {
        "ADD" => {
            config.version_from("ADD", SpecVersion::V0_1_0)?;
            let (attachment, netns) = (environment.attachment()?, environment.netns()?);
            config.network()?;
            let (section, args) = (config.disk()?, environment.args()?);
            timeout = section.timeout;
            DiskVerb::Add(Box::new(DiskAdd {
                attachment,
                netns,
                pod: args
                    .pod
                    .map_or_else(String::new, |pod| format!("{}/{}", pod.namespace, pod.name)),
                ips: config.requested_ips()?.unwrap_or(args.ips),
                section,
            }))
        }
        "DEL" => DiskVerb::Del(del_request(environment)?),
        "CHECK" => {
            let check = check_request(environment, config)?;
            config.disk()?;
            DiskVerb::Check(check)
        }
        "GC" => DiskVerb::Gc(gc_request(config)?),
        _ => {
            config.version_from("STATUS", SpecVersion::V1_1_0)?;
            config.network()?;
            DiskVerb::Status(Box::new(config.disk()?))
        }
    };
    let place = match (config.place(), &verb) {
        (Ok(place), _) => Some(place),
        (Err(_), DiskVerb::Del(_)) => None,
        (Err(error), _) => return Err(error),
    };
    Ok(DiskAsk {
        verb,
        version: config.version.clone().unwrap_or(SpecVersion::NEWEST),
        timeout,
        place,
    })
}

/// What an execution prints and exits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// For stdout: one document, or nothing.
    pub stdout: Option<String>,
    /// The exit code.
    pub exit_code: u8,
}

impl Printed {
    /// An error's document.
    pub fn error(error: &CniError, version: SpecVersion) -> Self {
        Self {
            stdout: Some(error.document(version)),
            exit_code: 1,
        }
    }

    /// The outcome of a question.
    pub fn outcome(version: SpecVersion, outcome: Result<Option<Answer>, CniError>) -> Self {
        let printed = outcome.and_then(|answer| {
            answer
                .map(|answer| result::document(version, &answer))
                .transpose()
        });
        match printed {
            Ok(stdout) => Self {
                stdout,
                exit_code: 0,
            },
            Err(error) => Self::error(&error, version),
        }
    }
}

#[cfg(test)]
mod tests;
