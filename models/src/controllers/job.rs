//! Jobs: a number of Pods at a time until enough of them succeeded; a failed Pod is replaced. The
//! mechanism is that of [`super::replicas`], whose slow start the Job controller shares in 1.26.
//!
//! Not modeled: backoffLimit, activeDeadlineSeconds, the tracking finalizer, deletion by TTL.
//! Source: kubernetes v1.26.5 pkg/controller/job/job_controller.go (`manageJob`).

use super::replicas::Wanted;

/// What a Job wants.
pub(super) fn wanted(parallelism: u32, completions: Option<u32>) -> Wanted {
    Wanted::Job {
        parallelism,
        completions,
    }
}
