//! `bulkhead status`.

use std::collections::HashMap;

use netmodel::Model;
use netmodel::model::Owner;
use serde_json::{Value, json};

use super::args::{Common, Format, StatusArgs};
use super::place::place;
use super::report::{CliError, NO, Paint, Report, YES};
use super::run::settings;
use crate::run::block_on;
use crate::run::status::{PortStatus, Status, status};

/// Names of segments, by VLAN id.
pub(super) type Names = HashMap<u16, String>;

/// Tells what is enforced.
pub(super) fn run(common: &Common, args: &StatusArgs) -> Result<Report, CliError> {
    let (place, model) = place(common, &args.place)?;
    let names = model.as_ref().map(segment_names).unwrap_or_default();
    let status = block_on(status(&settings(common, place)?))?;
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
        "ports": status.ports,
    })
}

fn to_text(status: &Status, names: &Names, paint: Paint) -> String {
    let state = match status.enforcing {
        true => paint.good("enforcing"),
        false if status.held => paint.middling("HELD"),
        false => paint.bad("NOT ENFORCING"),
    };
    let interface = &status.interface;
    let mut text = format!("interface   {interface}: {state}\n");
    let mode = match (status.mode, &status.ports) {
        (Some(mode), _) => format!("{mode} ({})", status.why),
        (None, Some(_)) => status.why.clone(),
        (None, None) => "none".to_owned(),
    };
    text.push_str(&format!("mode        {mode}\n"));
    match &status.ports {
        Some(_) => text.push_str(&format!("generation  {}\n", status.generation)),
        None => text.push_str(&of_trunk(status)),
    }
    if let Some(notice) = &status.notice {
        text.push_str(&format!("notice      {}\n", paint.middling(notice)));
    }
    if let Some(ports) = &status.ports {
        let rows: Vec<[String; 4]> = ports.iter().map(port_row).collect();
        let head = ["PORT", "VLAN", "PROGRAMS", "MACHINE"];
        text.push('\n');
        text.push_str(&columns(head, &rows, [1].as_slice()));
    }
    let rows: Vec<[String; 5]> = status.counters.iter().map(|c| row(names, c)).collect();
    if !rows.is_empty() {
        text.push('\n');
        let head = ["SEGMENT", "VLAN", "DIR", "OUTCOME", "FRAMES"];
        text.push_str(&columns(head, &rows, [1, 4].as_slice()));
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

/// What is known of a trunk.
fn of_trunk(status: &Status) -> String {
    let offload = match status.rx_vlan_offload {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let program = status.program.as_ref().map_or("none".to_owned(), |p| {
        format!("{} (id {})", p.name.as_deref().unwrap_or("?"), p.id)
    });
    format!(
        "rxvlan      {offload}\ngeneration  {}\nprogram     {program}\n",
        status.generation
    )
}

fn port_row(port: &PortStatus) -> [String; 4] {
    let who = match (&port.endpoint, &port.unknown) {
        (Some(endpoint), _) => endpoint.clone(),
        (None, Some(why)) => format!("unknown, nothing passes: {why}"),
        (None, None) if port.kind == "uplink" => "(uplink)".to_owned(),
        (None, None) => "not bound yet".to_owned(),
    };
    [
        port.port.clone(),
        port.vlan_id
            .map_or("-".to_owned(), |vlan_id| vlan_id.to_string()),
        if port.attached { "attached" } else { "NONE" }.to_owned(),
        who,
    ]
}

/// A table; the columns of these numbers are aligned to the right.
fn columns<const N: usize>(head: [&str; N], rows: &[[String; N]], right: &[usize]) -> String {
    let head = head.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|i| {
        let cells = rows.iter().chain([&head]).map(|row| row[i].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().zip(widths).enumerate();
        let cells = cells.map(|(i, (cell, width))| match right.contains(&i) {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
