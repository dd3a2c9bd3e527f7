//! The ports over a real host and a real cluster. What is decided is the cores' business.
//!
//! | module | port | feature |
//! |---|---|---|
//! | [`frame`] | the form of what plugin and agent say to each other | always |
//! | `socket` | the plugin's end of the socket | `plugin` |
//! | `spool` | the directory where plugins leave DELs | `plugin`, the port itself `agent` |
//! | `clock` | `CLOCK_BOOTTIME` | `plugin`, the port itself `agent` |

#[cfg(feature = "plugin")]
pub mod clock;
pub mod frame;
#[cfg(feature = "plugin")]
pub mod socket;
#[cfg(feature = "plugin")]
pub mod spool;
