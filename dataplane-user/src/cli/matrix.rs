//! `bulkhead show matrix`: who reaches whom.

use netmodel::Model;
use netmodel::model::{Owner, PeerKind, SegmentId, ServiceId, Zone};
use serde_json::{Value, json};

use super::args::{Common, Format};
use super::inventory::{Inventory, compiled};
use super::report::{CliError, Paint, Report, YES};
use crate::can::{
    Answer, AskError, Member, Party, PartyKind, Service, Site, is_everything, joined,
};

/// With more segments than this, the tenants are one row and one column.
const MAX_SEGMENTS: usize = 32;

const LEGEND: &str = "\
+ everything (a service: its ports)   ~ a part (ask `bulkhead can`)   . nothing   = same segment\n";

/// How much of a cell is allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reach {
    Everything,
    Some,
    Nothing,
    Same,
    Unknown,
}

struct Cell {
    reach: Reach,
    services: Vec<Service>,
}

struct Row {
    name: String,
    segments: Vec<Cell>,
    services: Vec<Cell>,
    internet: Cell,
}

struct Matrix {
    rows: Vec<Row>,
    services: Vec<String>,
    gateway: Vec<&'static str>,
    is_collapsed: bool,
}

/// Prints the matrix.
pub(super) fn run(common: &Common) -> Result<Report, CliError> {
    let Inventory { model, tables } = match compiled(common)? {
        Ok(inventory) => inventory,
        Err(refusal) => return Ok(refusal),
    };
    let matrix = matrix(&Site {
        model: &model,
        tables: &tables,
    });
    Ok(match common.format {
        Format::Text => Report::text(matrix.to_text(Paint::for_stdout()), YES),
        Format::Json => Report::json(&matrix.to_json(), YES),
    })
}

/// A segment (or zone) and its members in both roles.
struct Side {
    party: Party,
    sources: Vec<Member>,
    destinations: Vec<Member>,
}

fn matrix(site: &Site<'_>) -> Matrix {
    let model = site.model;
    let is_collapsed = model.segments.len() > MAX_SEGMENTS;
    let sides: Vec<_> = parties(model, is_collapsed)
        .into_iter()
        .filter_map(|party| {
            let (sources, destinations) = (site.sources(&party), site.destinations(&party));
            Some(Side {
                sources: sources.ok()?,
                destinations: destinations.ok()?,
                party,
            })
        })
        .collect();
    let rows = sides.iter().map(|from| row(site, from, &sides)).collect();
    let offered = model.gateway_services;
    let gateway = [
        (offered.dhcp, "dhcp"),
        (offered.dns, "dns"),
        (offered.ntp, "ntp"),
        (offered.icmp, "icmp"),
    ];
    Matrix {
        rows,
        services: model
            .services
            .iter()
            .map(|service| service.name.clone())
            .collect(),
        gateway: gateway
            .iter()
            .filter(|(is_on, _)| *is_on)
            .map(|(_, name)| *name)
            .collect(),
        is_collapsed,
    }
}

fn parties(model: &Model, is_collapsed: bool) -> Vec<Party> {
    let routed = model.segments.iter().enumerate().filter(|(_, segment)| {
        let is_routed = segment.ipv4.is_some() || segment.ipv6.is_some();
        is_routed && (!is_collapsed || segment.owner == Owner::Platform)
    });
    let mut parties: Vec<Party> = routed
        .map(|(i, segment)| {
            let text = match segment.owner {
                Owner::Platform => segment.name.to_string(),
                Owner::Tenant(id) => match segment.name.as_str() {
                    "main" => model.tenant(id).name.to_string(),
                    name => format!("{}/{name}", model.tenant(id).name),
                },
            };
            Party {
                text,
                kind: PartyKind::Segment(SegmentId(i)),
            }
        })
        .collect();
    if is_collapsed {
        let kind = PartyKind::Peer(PeerKind::Zone(Zone::Tenants));
        parties.push(Party {
            text: "tenants".to_owned(),
            kind,
        });
    }
    parties
}

fn row(site: &Site<'_>, from: &Side, sides: &[Side]) -> Row {
    let model = site.model;
    let segments = sides.iter().map(|to| {
        let is_same = from.party == to.party && matches!(from.party.kind, PartyKind::Segment(_));
        match is_same {
            true => Cell {
                reach: Reach::Same,
                services: Vec::new(),
            },
            false => cell(&site.ask_members(&from.sources, &to.destinations, &[])),
        }
    });
    let services = (0..model.services.len()).map(|i| {
        let kind = PartyKind::Service(ServiceId(i));
        let party = Party {
            text: model.services[i].name.clone(),
            kind,
        };
        let to = site.destinations(&party).unwrap_or_default();
        cell(&site.ask_members(&from.sources, &to, &model.services[i].ports))
    });
    let kind = PartyKind::Peer(PeerKind::Internet);
    let internet = site.destinations(&Party {
        text: "internet".to_owned(),
        kind,
    });
    Row {
        name: from.party.text.clone(),
        segments: segments.collect(),
        services: services.collect(),
        internet: cell(&site.ask_members(&from.sources, &internet.unwrap_or_default(), &[])),
    }
}

fn cell(answer: &Result<Answer, AskError>) -> Cell {
    let Ok(answer) = answer else {
        return Cell {
            reach: Reach::Unknown,
            services: Vec::new(),
        };
    };
    let reach = if !answer.direct.is_empty() {
        Reach::Same
    } else if answer.is_allow() {
        Reach::Everything
    } else if answer.is_deny() {
        Reach::Nothing
    } else {
        Reach::Some
    };
    let services = joined(answer.allowed.iter().map(|case| case.service.clone()));
    Cell { reach, services }
}

impl Cell {
    fn mark(&self) -> &'static str {
        match self.reach {
            Reach::Everything => "+",
            Reach::Some => "~",
            Reach::Nothing => ".",
            Reach::Same => "=",
            Reach::Unknown => "?",
        }
    }

    fn painted(&self, paint: Paint, width: usize) -> String {
        let mark = format!("{:>width$}", self.mark());
        match self.reach {
            Reach::Everything => paint.good(&mark),
            Reach::Some => paint.middling(&mark),
            Reach::Nothing | Reach::Same | Reach::Unknown => mark,
        }
    }

    fn to_json(&self, from: &str, to: &str) -> Option<Value> {
        let ports = match is_everything(&self.services) {
            true => vec!["any".to_owned()],
            false => self.services.iter().map(Service::label).collect(),
        };
        let verdict = match self.reach {
            Reach::Everything => "allow",
            Reach::Some => "partly",
            Reach::Unknown => "unknown",
            Reach::Nothing | Reach::Same => return None,
        };
        Some(json!({ "from": from, "to": to, "verdict": verdict, "ports": ports }))
    }
}

impl Matrix {
    /// Columns of segments have the numbers of their rows.
    fn to_text(&self, paint: Paint) -> String {
        let corner = "FROM \\ TO";
        let names = self
            .rows
            .iter()
            .map(|row| row.name.as_str())
            .chain([corner]);
        let name_width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        let width = self.rows.len().to_string().len().max(2);
        let mut text = format!("{:width$} {corner:name_width$} ", "");
        for number in 1..=self.rows.len() {
            text.push_str(&format!(" {number:>width$}"));
        }
        text.push_str("  internet");
        for service in &self.services {
            text.push_str(&format!("  {service}"));
        }
        text.push('\n');
        for (row, number) in self.rows.iter().zip(1..) {
            text.push_str(&format!("{number:>width$} {:name_width$} ", row.name));
            for cell in &row.segments {
                text.push_str(&format!(" {}", cell.painted(paint, width)));
            }
            text.push_str(&format!("  {}", row.internet.painted(paint, 8)));
            for (cell, service) in row.services.iter().zip(&self.services) {
                text.push_str(&format!(
                    "  {}",
                    cell.painted(paint, service.chars().count())
                ));
            }
            text.push('\n');
        }
        text.push('\n');
        text.push_str(LEGEND);
        let cells = self.rows.iter().flat_map(|row| row.segments.iter());
        if cells.clone().any(|cell| cell.reach == Reach::Unknown) {
            text.push_str("? too many to ask for at once\n");
        }
        if !self.gateway.is_empty() {
            let offered = self.gateway.join(", ");
            text.push_str(&format!(
                "Every segment reaches {offered} on its own gateway.\n"
            ));
        }
        text
    }

    /// Only what is allowed; what is not listed is denied.
    fn to_json(&self) -> Value {
        let names: Vec<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        let allowed: Vec<Value> = self
            .rows
            .iter()
            .flat_map(|row| {
                let segments = row.segments.iter().zip(names.iter().copied());
                let services = row
                    .services
                    .iter()
                    .zip(self.services.iter().map(String::as_str));
                let cells = segments
                    .chain(services)
                    .chain([(&row.internet, "internet")]);
                cells
                    .filter_map(|(cell, to)| cell.to_json(&row.name, to))
                    .collect::<Vec<_>>()
            })
            .collect();
        json!({
            "format_version": 1,
            "segments": names,
            "services": self.services,
            "gateway_services": self.gateway,
            "tenants_are_one": self.is_collapsed,
            "allowed": allowed,
        })
    }
}
