//! `bulkhead can SRC DST[:PORT[/PROTO]]`.

use netmodel::model::Origin;
use serde_json::{Value, json};

use super::args::{CanArgs, Common, Format};
use super::inventory::{Inventory, compiled};
use super::report::{CliError, NO, Paint, Report, YES};
use crate::can::{
    Answer, Because, Case, Member, Party, Question, Service, Site, because, is_everything, joined,
    parse_destination, resolve,
};

/// How many names, or ranges of ports, are listed before "and N more".
const LISTED: usize = 4;
/// How many groups of cases are told; JSON has all.
const GROUPS: usize = 8;

/// Cases that one rule decides, or that fail for one reason.
struct Group {
    because: Because,
    from: Vec<Member>,
    to: Vec<Member>,
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
    let question = Question { from, to, ports };
    let answer = site.ask(&question)?;
    let groups = groups(&site, &answer);
    let code = if answer.is_allow() { YES } else { NO };
    let told = Told::new(&question, &answer, &groups);
    Ok(match common.format {
        Format::Json => Report::json(&told.to_json(args), code),
        Format::Text => Report::text(told.to_text(args, Paint::for_stdout()), code),
    })
}

/// Groups the cases of an answer by what decides them; allowed ones first.
fn groups(site: &Site<'_>, answer: &Answer) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for case in answer
        .allowed
        .iter()
        .chain(&answer.direct)
        .chain(&answer.denied)
    {
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
        for (members, member) in [(&mut self.from, &case.from), (&mut self.to, &case.to)] {
            if !members.contains(member) {
                members.push(member.clone());
            }
        }
        if !self.services.contains(&case.service) {
            self.services.push(case.service.clone());
        }
    }

    fn is_allow(&self) -> bool {
        self.because.reason.is_none() || self.because.is_direct()
    }

    fn verdict(&self) -> &'static str {
        match self.because.reason {
            None => "allow",
            Some(_) if self.because.is_direct() => "direct",
            Some(_) => "deny",
        }
    }

    fn ports(&self) -> String {
        if is_everything(&self.services) {
            return "every port and protocol".to_owned();
        }
        list(&self.services.iter().map(Service::label).collect::<Vec<_>>())
    }

    fn to_json(&self) -> Value {
        let labels = |members: &[Member]| members.iter().map(Member::label).collect::<Vec<_>>();
        json!({
            "verdict": self.verdict(),
            "from": labels(&self.from),
            "to": labels(&self.to),
            "services": self.services.iter().map(Service::label).collect::<Vec<_>>(),
            "tier": self.because.tier,
            "reason": self.because.reason.map(|reason| reason.name()),
            "why": self.because.text,
            "origins": self.because.origins,
        })
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

/// An answer on its way to the reader.
struct Told<'a> {
    question: &'a Question,
    answer: &'a Answer,
    groups: &'a [Group],
    /// How many different sources and destinations were asked for.
    sources: usize,
    destinations: usize,
}

impl<'a> Told<'a> {
    fn new(question: &'a Question, answer: &'a Answer, groups: &'a [Group]) -> Self {
        let count = |of: fn(&Group) -> &[Member]| {
            let mut members: Vec<&Member> = Vec::new();
            for member in groups.iter().flat_map(of) {
                if !members.contains(&member) {
                    members.push(member);
                }
            }
            members.len()
        };
        let (sources, destinations) = (count(|group| &group.from), count(|group| &group.to));
        Self {
            question,
            answer,
            groups,
            sources,
            destinations,
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.answer.is_allow(), self.answer.is_deny()) {
            (true, _) if !self.answer.direct.is_empty() => "direct",
            (true, _) => "allow",
            (_, true) => "deny",
            _ => "partly",
        }
    }

    /// The verdict, then the rules. Of a mixed answer, the rarer verdict is told in full.
    fn to_text(&self, args: &CanArgs, paint: Paint) -> String {
        let mut text = String::new();
        if self.groups.len() > 1 {
            let verdict = painted(self.verdict(), paint);
            text.push_str(&format!(
                "{verdict} {} -> {}\n",
                args.source, args.destination
            ));
        }
        let is_mixed = self.verdict() == "partly";
        let rare = self.answer.allowed.len() <= self.answer.denied.len();
        let told = self
            .groups
            .iter()
            .filter(|group| !is_mixed || group.is_allow() == rare);
        for group in told.clone().take(GROUPS) {
            text.push_str(&self.group_text(group, paint));
        }
        let count = told.count();
        if count > GROUPS {
            text.push_str(&format!(
                "and {} more; --format json has all\n",
                count - GROUPS
            ));
        }
        if is_mixed {
            text.push_str(&self.rest_text(!rare, paint));
        }
        text
    }

    /// Two or three lines: who to whom on what, why, where that is said.
    fn group_text(&self, group: &Group, paint: Paint) -> String {
        let verdict = painted(group.verdict(), paint);
        let from = party_text(&self.question.from, &group.from, self.sources);
        let to = party_text(&self.question.to, &group.to, self.destinations);
        let mut text = format!("{verdict} {from} -> {to}: {}\n", group.ports());
        text.push_str(&format!("       {}\n", group.because));
        if !group.because.origins.is_empty() {
            let places: Vec<_> = group.because.origins.iter().map(place).collect();
            text.push_str(&format!("       {}\n", places.join(", ")));
        }
        text
    }

    /// One line for the verdict that is the rule rather than the exception.
    fn rest_text(&self, is_allow: bool, paint: Paint) -> String {
        let mut reasons: Vec<String> = Vec::new();
        for group in self
            .groups
            .iter()
            .filter(|group| group.is_allow() == is_allow)
        {
            let reason = match group.because.reason {
                Some(reason) => reason.to_string(),
                None => group.because.text.clone(),
            };
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let verdict = painted(if is_allow { "allow" } else { "deny" }, paint);
        format!("{verdict} everything else ({})\n", list(&reasons))
    }

    fn to_json(&self, args: &CanArgs) -> Value {
        json!({
            "format_version": 1,
            "from": args.source,
            "to": args.destination,
            "verdict": self.verdict(),
            "cases": self.groups.iter().map(Group::to_json).collect::<Vec<_>>(),
        })
    }
}

/// Names all members at once by the party's own name, some of them one by one.
fn party_text(party: &Party, members: &[Member], of: usize) -> String {
    match members {
        [only] if only.others == 0 && !only.is_unbound => only.label(),
        all if all.len() == of => party.text.clone(),
        some => list(&some.iter().map(Member::label).collect::<Vec<_>>()),
    }
}

fn painted(verdict: &str, paint: Paint) -> String {
    let padded = format!("{verdict:<6}");
    match verdict {
        "allow" | "direct" => paint.good(&padded),
        "deny" => paint.bad(&padded),
        _ => paint.middling(&padded),
    }
}
