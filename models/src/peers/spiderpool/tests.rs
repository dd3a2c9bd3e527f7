//! Claims about Spiderpool.
