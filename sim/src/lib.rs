//! drydock.
