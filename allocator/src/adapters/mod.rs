//! The ports over a real host and a real cluster. The cores decide.
//!
//! | module | what it is | feature |
//! |---|---|---|
//! | [`frame`] | the message format between plugin and agent | always |
//! | `socket` | the plugin's end of the socket | `plugin` |
//! | `spool` | the directory where plugins leave DELs | `plugin` |
//! | `disk` | the store of a node without an agent | `plugin` |
//! | `clock` | `CLOCK_BOOTTIME` and the wall clock | `plugin` |
//! | `listener` | the agent's end of the socket | `agent` |
//! | `journal_file` | the journal as a locked file | `agent` |
//! | `namespaces` | network namespaces as files in known directories | `agent` |
//! | `notices` | inotify | `agent` |
//! | `entropy` | the kernel's randomness | `agent` |
//! | `cri` | the container runtime's sandboxes | `agent` |
//! | `apiserver` | the Kubernetes API | `agent` |
//! | `bucket` | a token bucket for requests | `agent` |
//! | `metered` | the apiserver behind the bucket, counting every request | `agent` |
//! | `metrics` | what Prometheus reads | `agent` |
//! | `events` | Kubernetes Events, folded and limited | `agent` |
//! | `health` | when a process counts as ready | `agent` |
//! | `http` | the listener for metrics and health | `agent` |
//! | `daemon` | what every long-lived role has: log, metrics, health, a measured API | `agent` |
//! | `install` | the plugin and its configuration on a host | `agent` |
//! | `crds` | the CustomResourceDefinitions of Berth's kinds | `agent` |
//! | `yaml` | JSON values as YAML | `agent` |
//! | `node` | all ports of an agent and of a controller | `agent` |
//! | `line` | text written by others as part of one line | `agent` |

#[cfg(feature = "agent")]
pub mod apiserver;
#[cfg(feature = "agent")]
pub mod bucket;
#[cfg(feature = "plugin")]
pub mod clock;
#[cfg(feature = "agent")]
pub mod crds;
#[cfg(feature = "agent")]
pub mod cri;
#[cfg(feature = "agent")]
pub mod daemon;
#[cfg(feature = "plugin")]
pub mod disk;
#[cfg(feature = "agent")]
pub mod entropy;
#[cfg(feature = "agent")]
pub mod events;
pub mod frame;
#[cfg(feature = "agent")]
pub mod health;
#[cfg(feature = "agent")]
pub mod http;
#[cfg(feature = "agent")]
pub mod install;
#[cfg(feature = "agent")]
pub mod journal_file;
#[cfg(feature = "agent")]
pub mod line;
#[cfg(feature = "agent")]
pub mod listener;
#[cfg(feature = "agent")]
pub mod metered;
#[cfg(feature = "agent")]
pub mod metrics;
#[cfg(feature = "agent")]
pub mod namespaces;
#[cfg(feature = "agent")]
pub mod naming;
#[cfg(feature = "agent")]
pub mod node;
#[cfg(feature = "agent")]
pub mod notices;
#[cfg(feature = "plugin")]
pub mod socket;
#[cfg(feature = "plugin")]
pub mod spool;
#[cfg(feature = "agent")]
pub mod yaml;
