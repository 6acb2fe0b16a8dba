//! Making a failing scenario small.

use super::Scenario;

/// Removes steps for as long as `fails` stays true: halves first, single steps last.
///
/// Returns the scenario as it is if it does not fail.
#[must_use]
pub fn shrink(scenario: &Scenario, mut fails: impl FnMut(&Scenario) -> bool) -> Scenario {
    let mut smallest = scenario.clone();
    if !fails(scenario) {
        return smallest;
    }
    let mut size = smallest.steps.len().div_ceil(2);
    while size > 0 {
        let mut removed_any = false;
        let mut start = 0;
        while start < smallest.steps.len() {
            let end = (start + size).min(smallest.steps.len());
            let mut candidate = smallest.clone();
            candidate.steps.drain(start..end);
            if fails(&candidate) {
                smallest = candidate;
                removed_any = true;
            } else {
                start = end;
            }
        }
        if !(removed_any && size == 1) {
            size /= 2;
        }
    }
    smallest
}
