//! Draws run records: `plot-record OUT.svg RECORD.json…`. Shows how the plots are called.

use anyhow::{Context, ensure};
use drydock_reports::plot::{Mark, RunningPlot};
use drydock_reports::reference::CELLS;
use drydock_traces::run_record::RunRecord;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(
        arguments.len() >= 2,
        "usage: plot-record OUT.svg RECORD.json…"
    );
    let mut records = Vec::new();
    for path in &arguments[1..] {
        let text = std::fs::read_to_string(path).with_context(|| path.clone())?;
        records.push(RunRecord::from_json(&text).with_context(|| path.clone())?);
    }
    let records: Vec<&RunRecord> = records.iter().collect();
    let marks: Vec<Mark> = CELLS.iter().filter_map(Mark::of_cell).collect();
    let title = "Pods Running over time";
    let plot = RunningPlot {
        title,
        records: &records,
        measured: &[],
        marks: &marks,
    };
    std::fs::write(&arguments[0], plot.svg()).with_context(|| arguments[0].clone())
}
