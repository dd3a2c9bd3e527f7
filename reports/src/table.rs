//! Tables as Markdown and as plain text, and the marked blocks of a README that hold them. It does
//! not open files.

use std::collections::BTreeMap;

/// On which side a column stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For words.
    Left,
    /// For numbers.
    Right,
}

/// A table of texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let columns = columns
            .iter()
            .map(|(title, align)| ((*title).to_owned(), *align))
            .collect();
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Panics: when it has not one cell per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row has one cell per column"
        );
        self.rows.push(cells);
    }

    /// Rows in the table.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// The table as Markdown, newline at end.
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let escape = |text: &String| text.replace('|', "\\|").replace('\n', " ");
        let mut text = line(
            self.columns
                .iter()
                .map(|(title, _)| escape(title))
                .collect(),
        );
        let rules = self.columns.iter().map(|(_, align)| match align {
            Align::Left => "---",
            Align::Right => "---:",
        });
        text.push('|');
        for rule in rules {
            text += rule;
            text.push('|');
        }
        text.push('\n');
        for row in &self.rows {
            text += &line(row.iter().map(escape).collect());
        }
        text
    }

    /// The table as HTML, newline at end.
    pub fn html(&self) -> String {
        let cell = |tag: &str, text: &str, align: Align| {
            let class = match align {
                Align::Left => "",
                Align::Right => " class=\"r\"",
            };
            format!("<{tag}{class}>{}</{tag}>", escape_html(text))
        };
        let mut text = String::from("<table>\n<tr>");
        for (title, align) in &self.columns {
            text += &cell("th", title, *align);
        }
        text += "</tr>\n";
        for row in &self.rows {
            text += "<tr>";
            for (value, (_, align)) in row.iter().zip(&self.columns) {
                text += &cell("td", value, *align);
            }
            text += "</tr>\n";
        }
        text + "</table>\n"
    }

    /// The table as plain text in columns, two spaces apart, newline at end.
    pub fn plain(&self) -> String {
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| title.clone())
            .collect();
        let width = |column: usize| {
            let cells = self
                .rows
                .iter()
                .map(|row| &row[column])
                .chain([&titles[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..titles.len()).map(width).collect();
        let mut text = String::new();
        for row in [&titles].into_iter().chain(&self.rows) {
            let cells = row.iter().zip(&self.columns).zip(&widths);
            let padded = cells.map(|((cell, (_, align)), width)| match align {
                Align::Left => format!("{cell:<width$}"),
                Align::Right => format!("{cell:>width$}"),
            });
            text += padded.collect::<Vec<_>>().join("  ").trim_end();
            text.push('\n');
        }
        text
    }
}

/// A text with the characters that HTML gives a meaning to written out.
pub fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Why the blocks of a text cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A block begins and does not end.
    #[error("line {line}: the block `{name}` has no `<!-- drydock:end {name} -->`")]
    Open {
        /// Its name.
        name: String,
        /// 1-based.
        line: usize,
    },
    /// A block ends that did not begin, or another one begins in it.
    #[error("line {line}: `{name}` does not fit here")]
    Misplaced {
        /// Its name.
        name: String,
        /// 1-based.
        line: usize,
    },
    /// The text has no such block, or has it twice.
    #[error("the block `{name}` stands {count} times in the text, not once")]
    Count {
        /// Its name.
        name: String,
        /// How often.
        count: usize,
    },
}

fn marker<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let inner = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(
        inner
            .trim()
            .strip_prefix("drydock:")?
            .strip_prefix(word)?
            .trim(),
    )
}

/// The text with the content of each named block replaced. A block lies between the lines
/// `<!-- drydock:begin NAME -->` and `<!-- drydock:end NAME -->`; blocks that are not named stay.
///
/// Errors: [`BlockError`] names the block and the line.
pub fn update_blocks(text: &str, blocks: &BTreeMap<String, String>) -> Result<String, BlockError> {
    let mut updated = String::with_capacity(text.len());
    let mut open: Option<(&str, usize)> = None;
    let mut counts: BTreeMap<&str, usize> = blocks.keys().map(|name| (name.as_str(), 0)).collect();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let number = index + 1;
        let misplaced = |name: &str| BlockError::Misplaced {
            name: name.to_owned(),
            line: number,
        };
        if let Some(name) = marker(line, "begin") {
            if open.is_some() {
                return Err(misplaced(name));
            }
            open = Some((name, number));
            updated += line;
            if let Some(content) = blocks.get(name) {
                counts.entry(name).and_modify(|count| *count += 1);
                updated += content;
                if !content.is_empty() && !content.ends_with('\n') {
                    updated.push('\n');
                }
            }
        } else if let Some(name) = marker(line, "end") {
            if open.take().is_none_or(|(begun, _)| begun != name) {
                return Err(misplaced(name));
            }
            updated += line;
        } else if open.is_none_or(|(name, _)| !blocks.contains_key(name)) {
            updated += line;
        }
    }
    if let Some((name, line)) = open {
        return Err(BlockError::Open {
            name: name.to_owned(),
            line,
        });
    }
    match counts.into_iter().find(|(_, count)| *count != 1) {
        Some((name, count)) => Err(BlockError::Count {
            name: name.to_owned(),
            count,
        }),
        None => Ok(updated),
    }
}

/// The names of the blocks that begin in a text. Shape: in the order of the text.
pub fn block_names(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| marker(line, "begin"));
    names.map(str::to_owned).collect()
}

/// The names of the blocks whose content is not the given one. Shape: sorted.
///
/// Errors: as [`update_blocks`].
pub fn stale_blocks(
    text: &str,
    blocks: &BTreeMap<String, String>,
) -> Result<Vec<String>, BlockError> {
    let mut stale = Vec::new();
    for (name, content) in blocks {
        let one = BTreeMap::from([(name.clone(), content.clone())]);
        if update_blocks(text, &one)? != text {
            stale.push(name.clone());
        }
    }
    Ok(stale)
}

#[cfg(test)]
#[allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
mod tests {
    use expect_test::expect;

    use super::*;

    const README: &str = "# A\n<!-- drydock:begin one -->\nold\n<!-- drydock:end one -->\ntext\n\
                          <!-- drydock:begin two -->\nkept\n<!-- drydock:end two -->\n";

    fn blocks(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_table_is_markdown_and_plain_text() {
        let mut table = Table::new(&[("name", Align::Left), ("time", Align::Right)]);
        table.row(["a|b".to_owned(), "1 s".to_owned()]);
        table.row(["long name".to_owned(), "12 s".to_owned()]);
        expect![[r"
            | name | time |
            |---|---:|
            | a\|b | 1 s |
            | long name | 12 s |
        "]]
        .assert_eq(&table.markdown());
        expect![[r"
            name       time
            a|b         1 s
            long name  12 s
        "]]
        .assert_eq(&table.plain());
    }

    #[test]
    fn named_blocks_are_replaced_and_others_stay() {
        let new = blocks(&[("one", "new\nlines")]);
        let updated = update_blocks(README, &new).unwrap();
        assert_eq!(updated, README.replace("old\n", "new\nlines\n"));
        assert_eq!(update_blocks(&updated, &new).unwrap(), updated);
        assert_eq!(stale_blocks(README, &new), Ok(vec!["one".to_owned()]));
        assert_eq!(block_names(&updated), ["one", "two"]);
        assert_eq!(stale_blocks(&updated, &new), Ok(vec![]));
    }

    #[test]
    fn broken_blocks_are_named_with_their_line() {
        let one = blocks(&[("one", "x")]);
        let broken = README.replace("<!-- drydock:end two -->\n", "");
        let error = update_blocks(&broken, &one).unwrap_err();
        assert_eq!(
            error,
            BlockError::Open {
                name: "two".to_owned(),
                line: 6
            }
        );
        let broken = README.replace("drydock:end one", "drydock:end two");
        let error = update_blocks(&broken, &one).unwrap_err();
        assert_eq!(
            error,
            BlockError::Misplaced {
                name: "two".to_owned(),
                line: 4
            }
        );
        let error = update_blocks(README, &blocks(&[("three", "x")])).unwrap_err();
        assert_eq!(
            error,
            BlockError::Count {
                name: "three".to_owned(),
                count: 0
            }
        );
    }
}
