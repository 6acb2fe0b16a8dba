//! `bulkhead observe`.

use std::io::{ErrorKind, Write, stdout};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dataplane_common::reason::{ANSWERED, FORWARDED, TO_KERNEL, outcome_name};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::args::{Common, Format, ObserveArgs};
use super::place::place;
use super::report::{CliError, Paint, Report, YES};
use super::status::{Names, segment_name, segment_names};
use crate::run::events::{Told, observe};
use crate::run::frame::Frame;
use crate::run::{Place, Rule, RunError, State, block_on};

/// Prints verdicts as they are made.
pub(super) fn run(common: &Common, args: &ObserveArgs) -> Result<Report, CliError> {
    let (place, model) = place(common, &args.place)?;
    let mut observer = Observer {
        format: common.format,
        drops_only: args.drops,
        left: args.count,
        names: model.as_ref().map(segment_names).unwrap_or_default(),
        state: State::read(&place.state),
        place: &place,
        paint: Paint::for_stdout(),
    };
    block_on(observe(&place, |told| observer.tell(&told)))?;
    Ok(Report::text("", YES))
}

struct Observer<'p> {
    format: Format,
    drops_only: bool,
    left: Option<u64>,
    names: Names,
    state: Option<State>,
    place: &'p Place,
    paint: Paint,
}

impl Observer<'_> {
    /// Prints one verdict; `false` if that was the last.
    fn tell(&mut self, told: &Told) -> Result<bool, RunError> {
        if self.drops_only && is_allow(told.outcome) {
            return Ok(true);
        }
        let rule = self.rule(told);
        let frame = Frame::parse(&told.bytes);
        let line = match self.format {
            Format::Json => self.to_json(told, &frame, rule.as_ref()).to_string(),
            Format::Text => self.to_text(told, &frame, rule.as_ref()),
        };
        match writeln!(stdout().lock(), "{line}") {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            written => written.map_err(RunError::io("print an event"))?,
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(self.left != Some(0))
    }

    /// Returns the deciding rule. A generation that is not known yet was published since.
    fn rule(&mut self, told: &Told) -> Option<Rule> {
        if told.rule_id == 0 {
            return None;
        }
        let is_known = |state: &State| state.generation == told.generation;
        if !self.state.as_ref().is_some_and(is_known) {
            self.state = State::read(&self.place.state);
        }
        let state = self.state.as_ref()?;
        state.rule(told.generation, told.rule_id).cloned()
    }

    fn to_text(&self, told: &Told, frame: &Frame, rule: Option<&Rule>) -> String {
        let outcome = format!("{:<22}", outcome(told.outcome));
        let outcome = match is_allow(told.outcome) {
            true => self.paint.good(&outcome),
            false => self.paint.bad(&outcome),
        };
        let segment = segment_name(&self.names, told.vlan_id);
        let mut line = format!("{} {outcome} {segment}: {frame}", clock(told.time));
        match rule {
            Some(rule) if rule.places.is_empty() => line.push_str(&format!("  [{}]", rule.text)),
            Some(rule) => {
                let places = rule.places.join(", ");
                line.push_str(&format!("  [{}, {places}]", rule.text));
            }
            None if told.rule_id != 0 => {
                let (id, generation) = (told.rule_id, told.generation);
                line.push_str(&format!("  [rule {id} of generation {generation}]"));
            }
            None => {}
        }
        line
    }

    fn to_json(&self, told: &Told, frame: &Frame, rule: Option<&Rule>) -> Value {
        json!({
            "format_version": 1,
            "time": since_1970(told.time).as_secs_f64(),
            "verdict": if is_allow(told.outcome) { "allow" } else { "drop" },
            "outcome": outcome(told.outcome),
            "vlan_id": told.vlan_id,
            "segment": self.names.get(&told.vlan_id),
            "generation": told.generation,
            "length": told.length,
            "rule_id": told.rule_id,
            "rule": rule,
            "frame": frame,
        })
    }
}

fn is_allow(outcome: u32) -> bool {
    matches!(outcome, TO_KERNEL | FORWARDED | ANSWERED)
}

fn outcome(number: u32) -> String {
    outcome_name(number).map_or_else(|| format!("outcome-{number}"), str::to_owned)
}

/// Converts the kernel's monotonic time.
fn since_1970(monotonic: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    let age = now_monotonic
        .unwrap_or_default()
        .saturating_sub(Duration::from_nanos(monotonic));
    now.unwrap_or_default().saturating_sub(age)
}

/// `13:04:05.123`, UTC.
fn clock(monotonic: u64) -> String {
    let time = since_1970(monotonic);
    let (seconds, millis) = (time.as_secs() % 86_400, time.subsec_millis());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{millis:03}Z", seconds % 60)
}
