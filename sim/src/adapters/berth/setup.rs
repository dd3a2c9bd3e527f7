//! How Berth's cores are configured in the simulation.

use berth::core::agent::{Agent, AgentConfig};
use berth::core::controller::{Controller, ControllerConfig};
use berth::core::mutant::Mutant;
