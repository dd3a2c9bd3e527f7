//! drydock-traces.
