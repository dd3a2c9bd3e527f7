//! drydock-models.
