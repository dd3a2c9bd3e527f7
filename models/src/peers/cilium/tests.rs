//! Claims about Cilium.

use super::limiter::Settings;
use crate::parameters::Parameters;

/// The limiter of endpoint creation as released.
pub(super) fn settings() -> Settings {
    super::agent::create_settings(&Parameters::profile("measured").unwrap().cilium)
}
