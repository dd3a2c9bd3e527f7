//! Every sentence of `README.md` has a row of `PROMISES.md`, and every row names tests that exist,
//! or says why there are none. Whether a test holds what its sentence promises is for readers to
//! judge.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Sections without rows, and why.
const LEFT_OUT: [(&str, &str); 1] = [("Tests", "they are about the tests themselves")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of a line of a table, or nothing for the line below its header.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    if inner.chars().all(|c| "|-: ".contains(c)) {
        return None;
    }
    // A bar within a cell is written `\|`.
    let cells = inner.replace("\\|", "\u{1}");
    let cells = cells.split('|');
    Some(cells.map(|c| c.trim().replace('\u{1}', "|")).collect())
}

/// Paragraphs, list items and rows of tables by section, in order, each on one line. Code blocks
/// and headers of tables are left out.
fn passages(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let (mut section, mut words, mut in_code) = (String::new(), String::new(), false);
    for line in text.lines().chain([""]) {
        let is_fence = line.starts_with("```");
        let is_row = !in_code && line.starts_with('|');
        let item = line.strip_prefix("- ").or_else(|| {
            let (number, item) = line.split_once(". ")?;
            number.bytes().all(|b| b.is_ascii_digit()).then_some(item)
        });
        let is_code = in_code || is_fence || (words.is_empty() && line.starts_with("    "));
        let is_heading = !is_code && line.starts_with('#');
        let ends = is_code || is_row || is_heading || item.is_some() || line.trim().is_empty();
        if ends && !words.is_empty() {
            all.push((section.clone(), std::mem::take(&mut words)));
        }
        in_code ^= is_fence;
        if is_code {
        } else if is_heading {
            line.trim_start_matches('#').trim().clone_into(&mut section);
        } else if is_row {
            match cells(line) {
                Some(cells) => all.push((section.clone(), cells.join(" | "))),
                None => drop(all.pop()),
            }
        } else {
            for word in item.unwrap_or(line).split_whitespace() {
                words = format!("{words}{}{word}", if words.is_empty() { "" } else { " " });
            }
        }
    }
    all
}

/// A passage's sentences. A lead in bold or italics that ends with a period belongs to the sentence
/// after it.
fn sentences(passage: &str) -> Vec<&str> {
    let (mut all, mut rest) = (Vec::new(), passage);
    let mut from = 0;
    while let Some((at, _)) = rest[from..].match_indices(' ').next() {
        let (before, after) = (&rest[..from + at], &rest[from + at + 1..]);
        let ended = before.trim_end_matches(['"', ')']);
        let ends = ended.ends_with(['.', '?', '!']);
        let begins = after
            .starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit() || "`*\"(".contains(c));
        if ends && begins {
            all.push(before);
            (rest, from) = (after, 0);
        } else {
            from += at + 1;
        }
    }
    all.push(rest);
    all
}

#[derive(Debug, PartialEq, Eq)]
enum Held {
    By(Vec<String>),
    Explains,
    Measured,
}

impl Held {
    fn parse(cell: &str) -> Result<Self, String> {
        if let Some(why) = cell.strip_prefix("explains: ") {
            return if why.is_empty() {
                Err("says no reason".into())
            } else {
                Ok(Self::Explains)
            };
        }
        if let Some(how) = cell.strip_prefix("measured: ") {
            let is_command = how.starts_with('`') && how.ends_with('`');
            return if is_command {
                Ok(Self::Measured)
            } else {
                Err("names no command".into())
            };
        }
        let names = cell.split(", ").map(|name| {
            let name = name.strip_prefix('`')?.strip_suffix('`')?;
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            is_name.then(|| name.to_owned())
        });
        let names: Option<Vec<_>> = names.collect();
        names
            .map(Self::By)
            .ok_or_else(|| format!("is no list of tests: {cell}"))
    }
}

/// Everything that is wrong with the table, and how many rows are of each kind.
fn compare(readme: &str, table: &str, tests: &BTreeSet<String>) -> (Vec<String>, [usize; 3]) {
    let (mut wrong, mut counts) = (Vec::new(), [0; 3]);
    let left_out = |section: &str| LEFT_OUT.iter().any(|(name, _)| *name == section);
    let readme = passages(readme);
    let promised = readme.iter().filter(|(section, _)| !left_out(section));
    let mut open: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (section, passage) in promised {
        open.entry(section).or_default().extend(sentences(passage));
    }
    let rows = passages(table);
    for (section, row) in rows.iter().filter(|(_, row)| row.contains(" | ")) {
        let Some((quote, cell)) = row.rsplit_once(" | ") else {
            continue;
        };
        let of = open.entry(section).or_default();
        let matching: Vec<usize> = (0..of.len())
            .filter(|i| of[*i].starts_with(quote))
            .collect();
        match matching.as_slice() {
            [one] => drop(of.remove(*one)),
            [] => wrong.push(format!(
                "no sentence of {section:?} is left for the row: {quote}"
            )),
            _ => wrong.push(format!(
                "several sentences of {section:?} begin so: {quote}"
            )),
        }
        match Held::parse(cell) {
            Err(error) => wrong.push(format!("{quote}: {error}")),
            Ok(Held::Explains) => counts[1] += 1,
            Ok(Held::Measured) => counts[2] += 1,
            Ok(Held::By(names)) => {
                counts[0] += 1;
                let missing = names.iter().filter(|name| !tests.contains(*name));
                wrong.extend(missing.map(|name| format!("{quote}: there is no test {name}")));
            }
        }
    }
    for (section, sentences) in open {
        let rest = sentences.iter();
        wrong.extend(rest.map(|sentence| format!("no row of {section:?} covers: {sentence}")));
    }
    (wrong, counts)
}

/// Names of functions below an attribute that makes them tests.
fn tests_of(source: &str) -> Vec<String> {
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim_start) {
        let attribute = line.strip_prefix("#[").unwrap_or_default();
        let path = attribute.split(['(', ']']).next().unwrap_or_default();
        is_test |= path == "test" || path.ends_with("::test");
        let name = line.split_once("fn ").filter(|(before, _)| {
            let mut words = before.split_whitespace();
            words.all(|word| ["pub", "async"].contains(&word))
        });
        if let Some((_, name)) = name {
            if is_test {
                let end = name.find(['(', '<']).unwrap_or(name.len());
                names.push(name[..end].to_owned());
            }
            is_test = false;
        }
    }
    names
}

fn collect(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    let mut tests = BTreeSet::new();
    for directory in [
        "src",
        "tests",
        "../models/src",
        "../sim/src",
        "../sim/tests",
    ] {
        collect(&root().join(directory), &mut tests);
    }
    let (wrong, counts) = compare(&read("README.md"), &read("PROMISES.md"), &tests);
    let [tested, explains, measured] = counts;
    println!("{tested} sentences held by tests, {explains} explain, {measured} are measured");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(
        explains * 8 < tested,
        "{explains} explain, {tested} promise"
    );
}

#[test]
fn a_sentence_without_a_row_a_row_without_a_sentence_and_a_test_that_is_none_are_refused() {
    let readme = "# A\n\nOne `x`. Two 1.5 and\nmore.\n\n```sh\nCode. Is none.\n```\n\n- **Lead.** Three.\n\n\
        | h | h |\n|---|---|\n| `a\\|b` | yes. Four |\n\n## Tests\n\nNot this.\n";
    let table = |rows: &str| format!("# A\n\nProse.\n\n| s | h |\n|---|---|\n{rows}");
    let whole = "| One | `t` |\n| Two 1.5 and more | explains: it |\n| **Lead.** Th | `t`, `u` |\n\
        | `a\\|b` | measured: `c` |\n| Four | `t` |\n";
    let tests: BTreeSet<String> = ["t".to_owned(), "u".to_owned()].into();
    let wrong = |rows: &str| compare(readme, &table(rows), &tests).0;
    assert_eq!(
        compare(readme, &table(whole), &tests),
        (Vec::new(), [3, 1, 1])
    );
    for row in whole.lines() {
        let without = whole.replace(&format!("{row}\n"), "");
        let said = wrong(&without);
        assert!(said.len() == 1 && said[0].starts_with("no row"), "{said:?}");
        assert_eq!(wrong(&format!("{whole}{row}\n")).len(), 1, "twice: {row}");
    }
    for (good, bad) in [
        ("| One |", "| one |"),
        ("`u`", "`v`"),
        ("explains: it", "explains: "),
        ("measured: `c`", "measured: once"),
        ("`t`, `u`", "by hand"),
    ] {
        assert!(!wrong(&whole.replace(good, bad)).is_empty(), "{bad}");
    }
}

#[test]
fn a_test_is_a_function_below_an_attribute_that_says_so() {
    let source = "#[test]\n#[should_panic]\nfn a() {}\nfn b() {}\n#[tokio::test(flavor = \"x\")]\n\
        async fn c() {}\nproptest! {\n    #[test]\n    fn d(x in 0..1) {}\n}\n#[test_case]\nfn e() {}\n";
    assert_eq!(tests_of(source), ["a", "c", "d"]);
}
