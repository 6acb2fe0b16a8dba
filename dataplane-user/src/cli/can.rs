//! `bulkhead can SRC DST[:PORT[/PROTO]]`.

use netmodel::model::Origin;
use serde_json::{Value, json};

use super::args::{CanArgs, Common, Format};
use super::inventory::{Inventory, compiled};
use super::report::{CliError, NO, Paint, Report, YES};
use crate::can::{
    Answer, Because, Case, Question, Service, Site, because, is_everything, joined,
    parse_destination, resolve,
};

/// How many names, or ranges of ports, are listed before "and N more".
const LISTED: usize = 4;
/// How many groups of cases are told; JSON has all.
const GROUPS: usize = 8;

/// Cases that one rule decides, or that fail for one reason.
pub(super) struct Group {
    pub(super) because: Because,
    from: Vec<String>,
    to: Vec<String>,
    services: Vec<Service>,
}

/// Answers the question.
pub(super) fn run(common: &Common, args: &CanArgs) -> Result<Report, CliError> {
    let Inventory { model, tables } = match compiled(common)? {
        Ok(inventory) => inventory,
        Err(refusal) => return Ok(refusal),
    };
    let site = Site {
        model: &model,
        tables: &tables,
    };
    let from = resolve(&model, &args.source)?;
    let (to, ports) = parse_destination(&model, &args.destination)?;
    let answer = site.ask(&Question { from, to, ports })?;
    let groups = groups(&site, &answer);
    let code = if answer.is_allow() { YES } else { NO };
    Ok(match common.format {
        Format::Json => Report::json(&to_json(args, &answer, &groups), code),
        Format::Text => Report::text(to_text(args, &answer, &groups, Paint::for_stdout()), code),
    })
}

/// Groups the cases of an answer by what decides them; allowed ones first.
pub(super) fn groups(site: &Site<'_>, answer: &Answer) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for case in answer.allowed.iter().chain(&answer.denied) {
        let because = because(site, case);
        match groups.iter_mut().find(|group| group.because == because) {
            Some(group) => group.add(case),
            None => {
                let (from, to, services) = (Vec::new(), Vec::new(), Vec::new());
                let mut group = Group {
                    because,
                    from,
                    to,
                    services,
                };
                group.add(case);
                groups.push(group);
            }
        }
    }
    for group in &mut groups {
        group.services = joined(std::mem::take(&mut group.services));
    }
    groups
}

impl Group {
    fn add(&mut self, case: &Case) {
        for (names, name) in [
            (&mut self.from, case.from.label()),
            (&mut self.to, case.to.label()),
        ] {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !self.services.contains(&case.service) {
            self.services.push(case.service.clone());
        }
    }

    fn verdict(&self) -> &'static str {
        if self.because.reason.is_none() {
            "allow"
        } else {
            "deny"
        }
    }

    fn ports(&self) -> String {
        if is_everything(&self.services) {
            return "every port and protocol".to_owned();
        }
        list(&self.services.iter().map(Service::label).collect::<Vec<_>>())
    }

    /// Two or three lines: who to whom on what, why, where that is said.
    pub(super) fn to_text(&self, paint: Paint) -> String {
        let verdict = format!("{:<6}", self.verdict());
        let verdict = match self.because.reason {
            None => paint.good(&verdict),
            Some(_) => paint.bad(&verdict),
        };
        let (from, to) = (list(&self.from), list(&self.to));
        let mut text = format!("{verdict} {from} -> {to}: {}\n", self.ports());
        text.push_str(&format!("       {}\n", why(&self.because)));
        if !self.because.origins.is_empty() {
            let places: Vec<_> = self.because.origins.iter().map(place).collect();
            text.push_str(&format!("       {}\n", places.join(", ")));
        }
        text
    }

    fn to_json(&self) -> Value {
        json!({
            "verdict": self.verdict(),
            "from": self.from,
            "to": self.to,
            "services": self.services.iter().map(Service::label).collect::<Vec<_>>(),
            "tier": self.because.tier,
            "reason": self.because.reason.map(|reason| reason.name()),
            "why": self.because.text,
            "origins": self.because.origins,
        })
    }
}

/// Returns `platform tier: zone policy x`, or `no-policy: nothing allows it`.
pub(super) fn why(because: &Because) -> String {
    let Because { tier, text, .. } = because;
    match because.reason {
        None => format!("{tier} tier: {text}"),
        Some(reason) => format!("{tier} tier, {reason}: {text}"),
    }
}

/// Returns `file:line:column`.
pub(super) fn place(origin: &Origin) -> String {
    format!("{}:{}:{}", origin.file, origin.line, origin.column)
}

/// Lists the first few.
fn list(names: &[String]) -> String {
    match names.get(..LISTED) {
        Some(first) if names.len() > LISTED => {
            format!("{} and {} more", first.join(", "), names.len() - LISTED)
        }
        _ => names.join(", "),
    }
}

fn verdict(answer: &Answer) -> &'static str {
    if answer.is_allow() {
        "allow"
    } else if answer.is_deny() {
        "deny"
    } else {
        "partly"
    }
}

fn to_text(args: &CanArgs, answer: &Answer, groups: &[Group], paint: Paint) -> String {
    let mut text = String::new();
    if groups.len() > 1 {
        let verdict = format!("{:<6}", verdict(answer));
        let verdict = match (answer.is_allow(), answer.is_deny()) {
            (true, _) => paint.good(&verdict),
            (_, true) => paint.bad(&verdict),
            _ => paint.middling(&verdict),
        };
        text.push_str(&format!(
            "{verdict} {} -> {}\n",
            args.source, args.destination
        ));
    }
    for group in groups.iter().take(GROUPS) {
        text.push_str(&group.to_text(paint));
    }
    if groups.len() > GROUPS {
        text.push_str(&format!(
            "and {} more; --format json has all\n",
            groups.len() - GROUPS
        ));
    }
    text
}

fn to_json(args: &CanArgs, answer: &Answer, groups: &[Group]) -> Value {
    json!({
        "format_version": 1,
        "from": args.source,
        "to": args.destination,
        "verdict": verdict(answer),
        "cases": groups.iter().map(Group::to_json).collect::<Vec<_>>(),
    })
}
