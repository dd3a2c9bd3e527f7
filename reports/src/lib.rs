//! drydock-reports.
