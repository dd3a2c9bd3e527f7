//! What a comparison comes to: the profile that is looked into, and what it misses of all that was
//! published.

use super::judge::{Judgement, best};
use super::waypoints::missed_waypoints;
use super::{Comparison, ProfileRuns};

/// The best profile, or the only one, with its runs. With one profile there is no choice, even if
/// none of its cells is timed.
fn looked_into(comparison: &Comparison) -> Option<(Judgement, &ProfileRuns)> {
    let judgements: Vec<Judgement> = comparison.profiles.iter().map(Judgement::of).collect();
    let best = best(&judgements).or(judgements.first())?;
    let runs = comparison
        .profiles
        .iter()
        .find(|runs| runs.profile == best.profile)
        .expect("a judgement is of a profile of the comparison");
    Some((best.clone(), runs))
}

/// The profile that a page looks into: the best one, or the only one.
pub fn chosen(comparison: &Comparison) -> Option<&ProfileRuns> {
    looked_into(comparison).map(|(_, runs)| runs)
}

/// Published cells and points that the best profile of a comparison misses, in words.
pub fn outside(comparison: &Comparison) -> Vec<String> {
    let Some((best, runs)) = looked_into(comparison) else {
        return Vec::new();
    };
    let cells = best.outside().map(|judged| {
        let (cell, profile) = (judged.cell, &best.profile);
        format!(
            "{}, {} addresses, profile {profile}",
            cell.title,
            cell.spare.as_str()
        )
    });
    cells.chain(missed_waypoints(runs)).collect()
}
