//! Claims about Calico.
