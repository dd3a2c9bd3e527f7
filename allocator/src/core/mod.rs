//! The sans-IO cores: agent and controller as state machines, and the data they agree on. Nothing
//! here waits, logs, reads a clock or knows of sockets and files.

pub mod exchange;
pub mod identity;
pub mod objects;
pub mod time;

/// Whether `now` is an older resourceVersion than `before`: the one comparison that Berth makes,
/// to notice a restored backup. Versions that are not numbers are never found older.
pub fn version_went_back(before: &str, now: &str) -> bool {
    match (before.parse::<u64>(), now.parse::<u64>()) {
        (Ok(before), Ok(now)) => now < before,
        _ => false,
    }
}
