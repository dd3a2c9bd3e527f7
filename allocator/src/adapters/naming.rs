//! Finds the machine's name at a start: what this boot has used already, from a file beside the
//! journal, or else what the cluster knows. Which name it is, `core::naming` decides.

use core::time::Duration;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::core::api::{ApiError, Consistency, Part};
use crate::core::naming::{Facts, choose_name};
use crate::core::objects::{Kind, Object, ObjectKey};
use crate::ports::ApiServer;

/// The file in the state directory.
const FILE: &str = "machine-name";
/// Between two tries while the apiserver does not answer.
const PAUSE: Duration = Duration::from_secs(2);

/// The machine's name. A boot keeps the name that it began with, so a start within one asks nobody;
/// the first of a boot waits for the apiserver, without which nothing could be handed out anyway.
///
/// Errors: the name would be no name of an object.
pub async fn find_name(
    api: &impl ApiServer,
    state_directory: &Path,
    facts: Facts<'_>,
) -> anyhow::Result<String> {
    let file = state_directory.join(FILE);
    if let Some(name) = noted(&file, facts.boot_id) {
        return Ok(name);
    }
    let key = ObjectKey::cluster(Kind::BerthNode, facts.machine_id);
    loop {
        let former = match api.get(&key, Consistency::Quorum).await {
            Ok(Object::BerthNode(former)) => Some(former),
            Err(ApiError::NotFound) => None,
            // What cannot be read is not absent: its records may be this boot's.
            answer => {
                let why = answer.map_or_else(|error| error.to_string(), |_| "another kind".into());
                tracing::warn!(why, "the machine's name waits for the apiserver");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let naming = choose_name(facts, former.as_deref());
        anyhow::ensure!(
            crate::core::names::is_object_name(&naming.name),
            "{:?} cannot name a BerthNode: 253 characters at most",
            naming.name
        );
        if let Some(retired) = naming.retired {
            let former = retired.metadata.name.clone();
            match api.replace(Object::from(retired), Part::Main).await {
                Ok(_) => tracing::info!(former, name = naming.name, "the machine has a new name"),
                // Refused for good: an administrator buries it. Its records stay until then.
                Err(ApiError::Invalid { message }) => {
                    tracing::warn!(message, former, "the former name cannot be retired");
                }
                Err(error) => {
                    tracing::warn!(%error, former, "the former name is not retired yet");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        if let Err(error) = note(&file, facts.boot_id, &naming.name) {
            // The next start asks again and gets the same answer.
            tracing::warn!(%error, file = %file.display(), "the machine's name is not noted");
        }
        return Ok(naming.name);
    }
}

/// The name in the file, if it is of this boot. Anything else there is as good as nothing: the
/// cluster is asked, and tells the same.
fn noted(file: &Path, boot_id: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (boot, name) = text.trim_end().split_once(' ')?;
    (boot == boot_id && crate::core::names::is_object_name(name)).then(|| name.to_owned())
}

fn note(file: &Path, boot_id: &str, name: &str) -> std::io::Result<()> {
    let aside = file.with_extension("new");
    let mut written = fs::File::create(&aside)?;
    writeln!(written, "{boot_id} {name}")?;
    written.sync_all()?;
    fs::rename(&aside, file)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::core::objects::{ANNOTATION_BURY, BerthNode};
    use crate::testing::MemoryApi;

    const FACTS: Facts<'static> = Facts {
        machine_id: "4f2a",
        node_name: "worker",
        boot_id: "boot-2",
    };

    fn former(boot_id: &str) -> BerthNode {
        let mut former = BerthNode::default();
        former.metadata.name = "4f2a".into();
        former.spec.node_name = "worker".into();
        former.spec.boot_id = boot_id.into();
        former.spec.epoch = 1;
        former
    }

    #[tokio::test]
    async fn a_boot_keeps_the_name_that_it_began_with() {
        let api = MemoryApi::default();
        let directory = tempfile::tempdir().unwrap();
        let name = find_name(&api, directory.path(), FACTS).await.unwrap();
        assert_eq!(name, "4f2a.worker");
        let renamed = Facts {
            node_name: "renamed",
            ..FACTS
        };
        let name = find_name(&api, directory.path(), renamed).await.unwrap();
        assert_eq!(name, "4f2a.worker", "its Pods are recorded under that name");
        let rebooted = Facts {
            boot_id: "boot-3",
            ..renamed
        };
        let name = find_name(&api, directory.path(), rebooted).await.unwrap();
        assert_eq!(name, "4f2a.renamed");
    }

    #[tokio::test]
    async fn the_name_of_a_release_before_lasts_to_the_end_of_its_boot() {
        let api = MemoryApi::default();
        api.with_store(|store| store.create(former("boot-2").into()).unwrap());
        let directory = tempfile::tempdir().unwrap();
        let name = find_name(&api, directory.path(), FACTS).await.unwrap();
        assert_eq!(name, "4f2a");
        let rebooted = Facts {
            boot_id: "boot-3",
            ..FACTS
        };
        let name = find_name(&api, directory.path(), rebooted).await.unwrap();
        assert_eq!(name, "4f2a.worker");
        let key = ObjectKey::cluster(Kind::BerthNode, "4f2a");
        let Ok(Object::BerthNode(left)) = api.get(&key, Consistency::Quorum).await else {
            panic!("it stays until its records are cleared");
        };
        assert!(left.metadata.annotations.contains_key(ANNOTATION_BURY));
    }

    #[tokio::test]
    async fn a_name_that_would_be_too_long_is_told_at_once() {
        let api = MemoryApi::default();
        let directory = tempfile::tempdir().unwrap();
        let long = "n".repeat(250);
        let facts = Facts {
            node_name: &long,
            ..FACTS
        };
        let error = find_name(&api, directory.path(), facts).await.unwrap_err();
        assert!(error.to_string().contains("253"), "{error}");
    }
}
