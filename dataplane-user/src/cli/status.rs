//! `bulkhead status`.

use std::collections::HashMap;

use netmodel::Model;
use netmodel::model::Owner;
use serde_json::{Value, json};

use super::args::{Common, Format, StatusArgs};
use super::place::place;
use super::report::{CliError, NO, Paint, Report, YES};
use crate::run::block_on;
use crate::run::status::{Status, status};

/// Names of segments, by VLAN id.
pub(super) type Names = HashMap<u16, String>;

/// Tells what is enforced.
pub(super) fn run(common: &Common, args: &StatusArgs) -> Result<Report, CliError> {
    let (place, model) = place(common, &args.place)?;
    let names = model.as_ref().map(segment_names).unwrap_or_default();
    let status = block_on(status(&place))?;
    let code = if status.enforcing { YES } else { NO };
    let report = match common.format {
        Format::Json => Report::json(&to_json(&status, &names), code),
        Format::Text => Report::text(to_text(&status, &names, Paint::for_stdout()), code),
    };
    Ok(match &status.problem {
        Some(problem) if status.held => report.with_talk(&format!("bulkhead: {problem}")),
        Some(problem) => report.with_talk(&format!("bulkhead: not enforcing: {problem}")),
        None => report,
    })
}

/// Returns the names of the inventory's segments.
pub(super) fn segment_names(model: &Model) -> Names {
    let names = model.segments.iter().map(|segment| {
        let name = match segment.owner {
            Owner::Platform => segment.name.to_string(),
            Owner::Tenant(id) => format!("{}/{}", model.tenant(id).name, segment.name),
        };
        (segment.vlan_id.as_u16(), name)
    });
    names.collect()
}

/// Returns a segment's name, or its VLAN id in words.
pub(super) fn segment_name(names: &Names, vlan_id: u16) -> String {
    match (names.get(&vlan_id), vlan_id) {
        (Some(name), _) => name.clone(),
        (None, 0) => "(no tag)".to_owned(),
        (None, vlan_id) => format!("VLAN {vlan_id}"),
    }
}

fn to_json(status: &Status, names: &Names) -> Value {
    let counters = status.counters.iter().map(|count| {
        json!({
            "vlan_id": count.vlan_id,
            "segment": names.get(&count.vlan_id),
            "direction": count.direction,
            "outcome": count.outcome,
            "packets": count.packets,
        })
    });
    json!({
        "format_version": 1,
        "enforcing": status.enforcing,
        "held": status.held,
        "problem": status.problem,
        "interface": status.interface,
        "mode": status.mode,
        "why": status.why,
        "rx_vlan_offload": status.rx_vlan_offload,
        "generation": status.generation,
        "program": status.program,
        "notice": status.notice,
        "counters": counters.collect::<Vec<_>>(),
    })
}

fn to_text(status: &Status, names: &Names, paint: Paint) -> String {
    let state = match status.enforcing {
        true => paint.good("enforcing"),
        false if status.held => paint.middling("HELD"),
        false => paint.bad("NOT ENFORCING"),
    };
    let mode = match status.mode {
        Some(mode) => format!("{mode} ({})", status.why),
        None => "none".to_owned(),
    };
    let offload = match status.rx_vlan_offload {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let program = status.program.as_ref().map_or("none".to_owned(), |p| {
        format!("{} (id {})", p.name.as_deref().unwrap_or("?"), p.id)
    });
    let mut text = format!(
        "interface   {}: {state}\nmode        {mode}\nrxvlan      {offload}\ngeneration  {}\nprogram     {program}\n",
        status.interface, status.generation
    );
    if let Some(notice) = &status.notice {
        text.push_str(&format!("notice      {}\n", paint.middling(notice)));
    }
    let rows: Vec<[String; 5]> = status.counters.iter().map(|c| row(names, c)).collect();
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&columns(&rows));
    }
    text
}

fn row(names: &Names, count: &crate::run::status::Count) -> [String; 5] {
    [
        segment_name(names, count.vlan_id),
        count.vlan_id.to_string(),
        count.direction.replace("_tenant", ""),
        count.outcome.clone(),
        count.packets.to_string(),
    ]
}

fn columns(rows: &[[String; 5]]) -> String {
    let head = ["SEGMENT", "VLAN", "DIR", "OUTCOME", "FRAMES"].map(str::to_owned);
    let widths: [usize; 5] = std::array::from_fn(|i| {
        let cells = rows.iter().chain([&head]).map(|row| row[i].chars().count());
        cells.max().unwrap_or(0)
    });
    let [segment, vlan, dir, outcome, frames] = widths;
    let mut text = String::new();
    for [a, b, c, d, e] in [&head].into_iter().chain(rows) {
        text.push_str(&format!(
            "{a:segment$}  {b:>vlan$}  {c:dir$}  {d:outcome$}  {e:>frames$}\n"
        ));
    }
    text
}
