//! The changelog of certificates: a page in which each change of a certificate names the commit
//! that made it, and why. It is read for one purpose, to find changes about which it is silent.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::certificates::{Certificates, Certified, Change};

/// What stands for the certificate of a run that is not there.
const NONE: &str = "none";

/// A certificate as a row of the page has it: all events, the first eight digits of the hash.
fn short(run: Option<&Certified>) -> String {
    run.map_or(NONE.to_owned(), |run| {
        let hash = run.event_log_hash.to_string();
        format!("{} events, {}", run.event_count, &hash[..8])
    })
}

/// The page with one more entry, above those that it has.
#[must_use]
pub fn with_entry(page: &str, commit: &str, why: &str, changes: &[Change]) -> String {
    let mut entry = format!("## {commit}\n\n{why}\n\n| run | from | to |\n|---|---|---|\n");
    for change in changes {
        let (from, to) = (short(change.from.as_ref()), short(change.to.as_ref()));
        let _ = writeln!(entry, "| `{}` | {from} | {to} |", change.name);
    }
    match page.find("\n## ") {
        Some(at) => format!("{}\n{entry}\n{}", &page[..at], &page[at + 1..]),
        None => format!("{}\n\n{entry}", page.trim_end()),
    }
}

/// A row: the run, its certificate before and after.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
    let (from, to) = rest.strip_suffix(" |")?.split_once(" | ")?;
    Some((name, from, to))
}

/// What the page does not tell, one line each: a step between two entries that is missing, and a
/// certificate in the list that is not the one of the newest entry. Nothing means that the page
/// tells the whole way of every run to where it is now.
pub fn untold(page: &str, list: &Certificates) -> Vec<String> {
    let mut lines = Vec::new();
    let mut now: BTreeMap<&str, &str> = BTreeMap::new();
    // The newest entry stands on top, and an entry has one row per run.
    let rows: Vec<_> = page.lines().filter_map(row).collect();
    for (name, from, to) in rows.into_iter().rev() {
        let before = now.insert(name, to).unwrap_or(NONE);
        if before != from {
            lines.push(format!(
                "{name}: an entry begins at {from}, the one below it ends at {before}"
            ));
        }
    }
    for name in list.runs.keys() {
        now.entry(name).or_insert(NONE);
    }
    for (name, told) in now {
        let is = short(list.runs.get(name));
        if told != is {
            lines.push(format!(
                "{name}: the changelog ends at {told}, the list has {is}"
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_record::Digest;

    fn list(runs: &[(&str, u64)]) -> Certificates {
        let certified = |event_count| Certified {
            event_count,
            event_log_hash: Digest(u128::from(event_count) << 96),
            command: String::new(),
        };
        let runs = runs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), certified(*count)));
        Certificates {
            runs: runs.collect(),
        }
    }

    fn written(page: &str, commit: &str, from: &Certificates, to: &Certificates) -> String {
        with_entry(page, commit, "Because.", &from.changes(to))
    }

    #[test]
    fn the_newest_entry_is_on_top_and_nothing_is_untold() {
        let lists = [
            list(&[]),
            list(&[("a", 1), ("b", 2)]),
            list(&[("a", 3), ("b", 2)]),
            list(&[("a", 4)]),
        ];
        let mut page = "# Changelog\n".to_owned();
        for (step, pair) in lists.windows(2).enumerate() {
            page = written(&page, &format!("commit {step}"), &pair[0], &pair[1]);
            assert_eq!(untold(&page, &pair[1]), [""; 0], "{page}");
        }
        let headings: Vec<_> = page.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(
            headings,
            ["# Changelog", "## commit 2", "## commit 1", "## commit 0"]
        );
        assert!(
            page.contains("| `b` | 2 events, 00000002 | none |"),
            "{page}"
        );
        assert!(!page.contains("\n\n\n"), "{page}");
    }

    #[test]
    fn a_changed_a_new_and_a_lost_line_without_an_entry_are_untold() {
        let first = list(&[("a", 1), ("b", 2)]);
        let page = written("# Changelog\n", "first", &list(&[]), &first);
        assert_eq!(
            untold(&page, &list(&[("a", 9), ("c", 3)])),
            [
                "a: the changelog ends at 1 events, 00000001, the list has 9 events, 00000009",
                "b: the changelog ends at 2 events, 00000002, the list has none",
                "c: the changelog ends at none, the list has 3 events, 00000003",
            ]
        );
    }

    #[test]
    fn two_entries_that_do_not_join_are_told() {
        let (one, two, three) = (list(&[("a", 1)]), list(&[("a", 2)]), list(&[("a", 3)]));
        let page = written("# Changelog\n", "first", &list(&[]), &one);
        let page = written(&page, "third", &two, &three);
        assert_eq!(
            untold(&page, &three),
            [
                "a: an entry begins at 2 events, 00000002, the one below it ends at 1 events, 00000001"
            ]
        );
    }
}
