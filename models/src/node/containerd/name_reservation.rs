//! The registrar of sandbox names: one holder per (Pod, attempt) at a time.
//! Source: containerd v1.7.2 `pkg/registrar/registrar.go:55-59`.

use std::collections::BTreeMap;

use crate::ids::{ContainerId, PodUid};

/// Reserved names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    held: BTreeMap<(PodUid, u32), ContainerId>,
}

impl Names {
    /// Reserves a name. Errors: the holder, if it is another container.
    pub(super) fn reserve(
        &mut self,
        pod: PodUid,
        attempt: u32,
        container: ContainerId,
    ) -> Result<(), ContainerId> {
        match *self.held.entry((pod, attempt)).or_insert(container) {
            holder if holder == container => Ok(()),
            holder => Err(holder),
        }
    }

    /// Releases what a container holds under a name.
    pub(super) fn release(&mut self, pod: PodUid, attempt: u32, container: ContainerId) {
        if self.held.get(&(pod, attempt)) == Some(&container) {
            self.held.remove(&(pod, attempt));
        }
    }

    /// Forgets everything (the process died).
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Names;
    use crate::ids::{ContainerId, PodUid};

    #[test]
    fn a_name_has_one_holder_until_it_is_released() {
        let mut names = Names::default();
        let (pod, first, second) = (PodUid(7), ContainerId(1), ContainerId(2));
        assert_eq!(names.reserve(pod, 0, first), Ok(()));
        assert_eq!(names.reserve(pod, 0, second), Err(first));
        assert_eq!(names.reserve(pod, 1, second), Ok(()));
        names.release(pod, 0, second);
        assert_eq!(
            names.reserve(pod, 0, second),
            Err(first),
            "only the holder releases"
        );
        names.release(pod, 0, first);
        assert_eq!(names.reserve(pod, 0, second), Ok(()));
    }
}
