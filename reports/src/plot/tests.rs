//! Tests of the plots: what must be in the picture, and equal bytes.

use drydock_traces::corpus::real_node_curve;
use drydock_traces::run_record::RunRecord;

use super::*;
use crate::reference::{CELLS, WAYPOINTS};
use crate::sample;

const SECOND_NS: u64 = 1_000_000_000;

fn plot(records: &[&RunRecord]) -> String {
    let marks: Vec<Mark> = CELLS
        .iter()
        .filter(|cell| cell.allocator != "whereabouts")
        .filter_map(Mark::of_cell)
        .collect();
    let measured = real_node_curve().unwrap();
    RunningPlot {
        title: "Pods Running over time <& more>",
        records,
        measured: &[&measured],
        marks: &marks,
    }
    .svg()
}

#[test]
fn a_plot_names_its_axes_units_seed_scenario_and_sources() {
    let (one, two) = (
        sample::finished(7, 182 * SECOND_NS),
        sample::finished(8, 190 * SECOND_NS),
    );
    let svg = plot(&[&one, &two]);
    for part in [
        "time since the first creation (s)",
        ">Pods Running</text>",
        "berth · equal · dual · measured · seed 0x7 · all 1000 after 182.0 s",
        "seed 0x8",
        "published: Spiderpool on macvlan v0.8.0, ample: 182 s (Spiderpool v0.8.0, docs",
        "measured: real node, kubelet 5/10 qps",
        "&lt;&amp; more&gt;",
        "prefers-color-scheme:dark",
        ">400</text>",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(
        !svg.contains("href") && !svg.contains("url("),
        "a plot loads nothing"
    );
    assert_eq!(
        svg.matches("class=\"mark\"").count(),
        2 * 6,
        "in the plot and in the legend"
    );
    assert_eq!(
        svg,
        plot(&[&one, &two]),
        "the same records give the same bytes"
    );
}

#[test]
fn a_plot_without_data_is_still_a_plot() {
    let plot = RunningPlot {
        title: "empty",
        records: &[],
        measured: &[],
        marks: &[],
    };
    assert!(plot.svg().ends_with("</svg>\n"));
    let mut nothing = sample::record();
    nothing.pods.clear();
    nothing.running_curve_ns.clear();
    for svg in [
        plot.svg(),
        add_latency("empty", &[&nothing]),
        add_latency("empty", &[]),
    ] {
        assert!(svg.contains("<title>empty</title>"));
    }
}

#[test]
fn published_points_on_the_way_count_pods_that_run() {
    let marks: Vec<_> = WAYPOINTS.iter().filter_map(Mark::of_waypoint).collect();
    let points: Vec<_> = marks
        .iter()
        .map(|mark| (mark.at_ns / SECOND_NS, mark.running))
        .collect();
    assert_eq!(points, [(300, 261), (2280, 845)]);
}

#[test]
fn the_latency_plot_shows_percentiles_and_decades() {
    let run = sample::finished(7, 182 * SECOND_NS);
    let svg = add_latency("ADD latency", &[&run]);
    for part in [
        "99.9 %",
        ">10 ms</text>",
        ">1 s</text>",
        "percentile of Pods",
        "longest 1.69 s",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(
        !svg.contains("99.99 %"),
        "a thousand Pods have no such percentile"
    );
}
