//! Tables as kubectl prints them, and JSON and YAML for programs.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use berth::adapters::yaml;
use berth::survey::{Explanation, Finding, HolderRow, PoolRow};
use clap::ValueEnum;
use serde::Serialize;

use crate::table;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
}

impl Output {
    /// Prints a value for programs, or the table that it makes for people.
    pub(crate) fn print(
        self,
        value: &impl Serialize,
        people: impl FnOnce() -> Table,
    ) -> anyhow::Result<()> {
        match self {
            Self::Table | Self::Wide => people().print(),
            Self::Json => print_bytes(&serde_json::to_vec_pretty(value)?),
            Self::Yaml => {
                let mut text = String::new();
                yaml::write_yaml(&mut text, &serde_json::to_value(value)?, 0);
                print_bytes(text.as_bytes())
            }
        }
    }
}

/// Writes to stdout; a reader that closed the pipe is content.
pub(crate) fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let newline: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
    match out.write_all(bytes).and_then(|()| out.write_all(newline)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("stdout"),
        _ => Ok(()),
    }
}

pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    note: String,
}

impl Table {
    pub(crate) fn new(header: Vec<String>) -> Self {
        Self {
            header,
            rows: Vec::new(),
            note: String::new(),
        }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub(crate) fn print(&self) -> anyhow::Result<()> {
        print_bytes(self.text().as_bytes())
    }

    fn text(&self) -> String {
        let mut text = self.note.clone();
        if self.rows.is_empty() {
            text.push_str("nothing\n");
            return text;
        }
        let lines: Vec<&Vec<String>> = std::iter::once(&self.header).chain(&self.rows).collect();
        let widths: Vec<usize> = (0..self.header.len())
            .map(|column| {
                let width = |line: &&Vec<String>| line[column].chars().count();
                lines.iter().map(width).max().unwrap_or(0)
            })
            .collect();
        for line in lines {
            let mut row = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                let _ = write!(row, "{cell:width$}   ");
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

fn percent(part: u64, whole: u64) -> String {
    match (part * 100).checked_div(whole) {
        Some(percent) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}

pub(crate) fn pools(rows: &[PoolRow], output: Output) -> Table {
    let wide = output == Output::Wide;
    let mut header = vec!["POOL", "CAPACITY", "HELD", "FREE", "FULL", "STATE"];
    if wide {
        header.extend([
            "BOUND",
            "RESERVED",
            "RELEASING",
            "MASKED",
            "BLOCKS",
            "RANGES",
        ]);
    }
    let mut table = Table::new(header.into_iter().map(str::to_owned).collect());
    for row in rows {
        let held = row.bound + row.reserved + row.releasing;
        let state = [
            (!row.approved, "not approved"),
            (row.disabled, "disabled"),
            (row.default, "default"),
        ];
        let state: Vec<&str> = state
            .into_iter()
            .filter_map(|(holds, word)| holds.then_some(word))
            .collect();
        let mut cells = vec![
            row.name.clone(),
            row.capacity.to_string(),
            held.to_string(),
            row.free.to_string(),
            percent(held, row.capacity - row.masked.min(row.capacity)),
            state.join(","),
        ];
        if wide {
            let counts = [
                row.bound,
                row.reserved,
                row.releasing,
                row.masked,
                row.blocks,
            ];
            cells.extend(counts.map(|count| count.to_string()));
            cells.push(row.ranges.join(","));
        }
        table.row(cells);
    }
    table
}

pub(crate) fn holders(rows: &[HolderRow], output: Output) -> Table {
    let wide = output == Output::Wide;
    let mut header = vec!["ADDRESS", "POOL", "POD", "STATE", "NODE"];
    if wide {
        header.extend(["UID", "CONTAINER", "BLOCK", "EPOCH", "INCARNATION"]);
    }
    let mut table = Table::new(header.into_iter().map(str::to_owned).collect());
    for row in rows {
        let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
        let mut cells = vec![
            addresses.join(","),
            row.pool.clone(),
            row.pod.clone(),
            row.state.to_owned(),
            row.node.clone(),
        ];
        if wide {
            cells.extend([
                row.pod_uid.clone(),
                row.container.clone(),
                format!("{}/{}", row.block, row.ordinal),
                row.epoch.clone(),
                format!("{:?}", row.incarnation),
            ]);
        }
        table.row(cells);
    }
    table
}

pub(crate) fn findings(found: &[Finding]) -> Table {
    let mut table = table(["KIND", "SUBJECT", "WHY", "WHAT ENDS IT"]);
    for finding in found {
        table.row(vec![
            format!("{:?}", finding.kind),
            finding.subject.clone(),
            finding.why.clone(),
            finding.remedy.clone(),
        ]);
    }
    table
}

pub(crate) fn explanation(said: &Explanation) -> Table {
    let mut table = table(["ORDER", "POOL", "FREE", "WHY"]);
    let addresses: Vec<String> = said.addresses.iter().map(ToString::to_string).collect();
    let holds = if addresses.is_empty() {
        "nothing".to_owned()
    } else {
        addresses.join(", ")
    };
    table.note = format!("Pod {} on {:?} holds {holds}\n", said.pod, said.node);
    if let Some(why) = &said.asks_for_none {
        let _ = writeln!(table.note, "It asks for none: {why}");
    }
    let _ = writeln!(table.note, "Choice: {}", said.choice);
    if let Some(kept) = &said.reservation {
        let _ = writeln!(table.note, "Reservation: {kept}");
    }
    for judged in &said.pools {
        table.row(vec![
            judged
                .rank
                .map_or_else(|| "-".to_owned(), |rank| rank.to_string()),
            judged.pool.clone(),
            judged.free.to_string(),
            judged.why.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = table(["A", "LONG"]);
        table.row(vec!["wide cell".into(), "x".into()]);
        assert_eq!(table.text(), "A           LONG\nwide cell   x\n");
    }

    #[test]
    fn a_pool_is_full_of_what_can_be_held() {
        let row = PoolRow {
            name: "p".into(),
            capacity: 16,
            bound: 5,
            reserved: 1,
            masked: 4,
            free: 6,
            approved: true,
            ..PoolRow::default()
        };
        let text = pools(&[row], Output::Table).text();
        assert!(
            text.ends_with("p      16         6      6      50%\n"),
            "{text}"
        );
    }
}
