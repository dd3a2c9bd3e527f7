//! The world: owns every component, hands each event to the one it concerns, and gives the
//! outside (runner, ledger, fault plan) its few handles. It has no Kubernetes rule of its own.
