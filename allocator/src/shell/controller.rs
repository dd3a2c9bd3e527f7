//! The loop of a controller.
