//! Cells of the matrix that are known to fail. They are ignored with the reason, so that they count neither as passed nor as done;
//! each one is work to do.

use lab::topology::Software;

use crate::scenarios::Scenario;
use crate::speaker::Speaker;

const GAPS: &[(Software, &str, &str)] = &[(
    Software::Frr,
    "silence_ends_the_session_after_the_hold_time",
    "now and then the routes of the scenario before it are not withdrawn in time; the cause is not found yet",
)];

/// Why the cell is known to fail.
pub fn known_gap(speaker: Speaker, scenario: &Scenario) -> Option<&'static str> {
    let cell = GAPS
        .iter()
        .find(|(software, name, _)| *software == speaker.0 && *name == scenario.name)?;
    Some(cell.2)
}
