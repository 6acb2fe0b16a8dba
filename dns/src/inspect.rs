//! What is served, for people: read from the daemon's own files, whether it runs or not.
//!
//! `bulkhead dns keys|list|explain|export` (or `bulkhead-dns`, which that runs) change nothing; `test-key` and `import` ask the running server. No secret is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use netmodel::published::{self, PublishedError};
use thiserror::Error;

use crate::client::ClientError;
use crate::dnssec::folder::KeyFolder;
use crate::import::{self, ImportError};
use crate::journal::{JournalError, Store};
use crate::keys::{Holder, Keyring, KeysError, Secrets};
use crate::leases;
use crate::lookup;
use crate::name::{Name, NameError};
use crate::plan::{self, PlanError};
use crate::rdata::{self, rtype};
use crate::test_key;
use crate::view::{View, ZoneId};
use crate::world::World;
use crate::zone::RrSet;

/// What is wanted.
#[derive(Clone, Debug, Subcommand)]
pub enum Show {
    /// Who answers for a name, with what, whose it is, and which segments see it
    Explain {
        /// The name
        name: String,
        /// Only as a client of this address sees it
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
    },
    /// Print a zone as a master file (RFC 1035, 5), as a client of an address sees it
    Export {
        /// The zone
        zone: String,
        /// An address in a segment that sees it; without one, the first view that does
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
    },
    /// Add a master file's records to a tenant's zone, all of them or none, with the tenant's key
    Import {
        /// The file (RFC 1035, 5); names without a final dot are in the tenant's zone
        file: PathBuf,
        /// The tenant's key
        #[arg(long)]
        key: String,
        /// The server, ADDRESS:PORT; without one, port 53 of the tenant's gateway
        #[arg(long, value_name = "ADDRESS:PORT")]
        server: Option<SocketAddr>,
    },
    /// Keys, and what each of them may do; no secrets
    Keys,
    /// Ask the running server whether it takes a tenant's key, as Terraform would; nothing is changed
    TestKey {
        /// The key
        name: String,
        /// The server, ADDRESS:PORT; without one, port 53 of the tenant's gateway
        #[arg(long, value_name = "ADDRESS:PORT")]
        server: Option<SocketAddr>,
    },
    /// All zones: serial, records, tenant, and how many views see them
    List,
}

/// It cannot be shown.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The generation.
    #[error("there is no generation to serve (remedy: `bulkhead apply`)")]
    Generation(#[source] PublishedError),
    /// The journal.
    #[error("cannot read the updates")]
    Journal(#[source] JournalError),
    /// The keys.
    #[error("cannot read the keys")]
    Keys(#[source] KeysError),
    /// A name is none.
    #[error("`{text}` is no DNS name")]
    Name {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// The generation's names.
    #[error("the generation has a zone that is none")]
    Plan(#[source] PlanError),
    /// The key does not work.
    #[error(transparent)]
    TestKey(ClientError),
    /// Nothing was imported.
    #[error(transparent)]
    Import(ImportError),
    /// The address is in no segment.
    #[error("{0} is in no segment: its questions are refused")]
    Stranger(IpAddr),
    /// No such zone.
    #[error("no view has the zone {0} (remedy: `bulkhead dns list`)")]
    Zone(Name),
}

/// Reads the daemon's files.
///
/// # Errors
///
/// [`InspectError`] if one of them cannot be read.
pub fn load(
    generation: &Path,
    keys: &Path,
    (journal, zone_keys): (&Path, &Path),
    leases: &leases::Config,
) -> Result<World, InspectError> {
    let published = published::read(generation).map_err(InspectError::Generation)?;
    let plan = plan::plan(&published).map_err(InspectError::Plan)?;
    let secrets = Secrets::read(keys).map_err(InspectError::Keys)?;
    let mut store = Store::read(journal).map_err(InspectError::Journal)?;
    store.set_zone_keys(Arc::new(KeyFolder::read(zone_keys)));
    if !leases.tenants.is_empty() {
        store.set_leases(leases::Follower::new(leases).table());
    }
    let keys = Keyring::new(&secrets, &plan.tenants);
    Ok(World::new(plan, keys, &store))
}

/// Returns what was asked for, as text.
///
/// # Errors
///
/// [`InspectError`] if a name is none, or nothing is called so.
pub fn show(world: &World, what: &Show) -> Result<String, InspectError> {
    match what {
        Show::Explain { name, from } => explain(world, name, *from),
        Show::Export { zone, from } => export(world, zone, *from),
        Show::Import { file, key, server } => {
            import::run(world, file, key, *server).map_err(InspectError::Import)
        }
        Show::Keys => Ok(keys(world)),
        Show::List => Ok(list(world)),
        Show::TestKey { name, server } => {
            test_key::run(world, name, *server).map_err(InspectError::TestKey)
        }
    }
}

fn read_name(text: &str) -> Result<Name, InspectError> {
    Name::absolute(text).map_err(|source| InspectError::Name {
        text: text.to_owned(),
        source,
    })
}

fn keys(world: &World) -> String {
    let mut lines: Vec<String> = world
        .keys
        .iter()
        .map(|key| {
            let holder = match &key.holder {
                Holder::Secondary(name) => match world.secondary(name) {
                    Some(secondary) => {
                        format!("secondary {name}: transfers to {}", secondary.address)
                    }
                    None => format!("secondary {name}: in no segment, gets nothing"),
                },
                Holder::Tenant(tenant) => {
                    format!("tenant {tenant}: changes and transfers its own zones")
                }
            };
            format!("{:<24} {holder}\n", key.name)
        })
        .collect();
    let api = world.keys.api_keys().map(|key| {
        let name = format!("{} (HTTP)", key.name);
        format!("{name:<24} tenant {}: changes its own zones\n", key.tenant)
    });
    lines.extend(api);
    lines.sort();
    lines.extend(
        world
            .keys
            .complaints
            .iter()
            .map(|complaint| format!("refused: {complaint}\n")),
    );
    if lines.is_empty() {
        "no keys\n".to_owned()
    } else {
        lines.concat()
    }
}

fn list(world: &World) -> String {
    let mut seen: BTreeMap<ZoneId, usize> = BTreeMap::new();
    for view in &world.plan.views {
        for (_, id) in view.origins() {
            *seen.entry(id).or_default() += 1;
        }
    }
    let mut rows: Vec<(String, String)> = Vec::new();
    for (id, views) in seen {
        let Some(zone) = world.zone(id) else { continue };
        let tenant = world
            .plan
            .zones
            .get(id.0)
            .and_then(|spec| spec.tenant.as_deref());
        let row = format!(
            "{:>10} {:>8} {:>6}  {}\n",
            zone.serial(),
            zone.len(),
            views,
            tenant.unwrap_or("platform")
        );
        rows.push((zone.origin().to_string(), row));
    }
    rows.sort();
    let width = rows
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!(
        "{:<width$} {:>10} {:>8} {:>6}  OWNER\n",
        "ZONE", "SERIAL", "RECORDS", "VIEWS"
    );
    for (name, row) in rows {
        let _ = write!(text, "{name:<width$} {row}");
    }
    text
}

/// The views that are meant: of one address, or all.
fn views(world: &World, from: Option<IpAddr>) -> Result<Vec<&View>, InspectError> {
    let Some(address) = from else {
        return Ok(world.plan.views.iter().collect());
    };
    let id = world
        .plan
        .clients
        .view_of(address)
        .ok_or(InspectError::Stranger(address))?;
    Ok(world.plan.views.get(id.0).into_iter().collect())
}

fn explain(world: &World, name: &str, from: Option<IpAddr>) -> Result<String, InspectError> {
    let name = read_name(name)?;
    // Views that are told the same are told of together.
    let mut told: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for view in views(world, from)? {
        told.entry(explain_to(world, view, &name))
            .or_default()
            .push(&view.label);
    }
    let mut text = String::new();
    for (what, mut who) in told {
        who.sort_unstable();
        let count = who.len();
        who.truncate(12);
        let more = if count > who.len() {
            format!(" and {} more", count - who.len())
        } else {
            String::new()
        };
        let _ = write!(text, "to {}{more}:\n{what}", who.join(", "));
    }
    Ok(text)
}

/// What a view is told of a name: the code, and the sets with their owners.
fn explain_to(world: &World, view: &View, name: &Name) -> String {
    let zone = view.zone_of(name.as_wire()).and_then(|id| world.zone(id));
    let Some(zone) = zone else {
        let is_asked = view.may_resolve && !world.plan.is_local(name.as_wire());
        return if is_asked {
            "  in no zone of theirs: asked upstream if there is one, otherwise REFUSED\n".to_owned()
        } else {
            "  REFUSED: in no zone of theirs, and not asked upstream\n".to_owned()
        };
    };
    let mut text = format!("  zone {} serial {}\n", zone.origin(), zone.serial());
    let mut sets: Vec<&RrSet> = zone
        .iter()
        .filter(|(at, _)| *at == name)
        .map(|(_, set)| set)
        .collect();
    sets.sort_by_key(|set| set.rtype);
    for set in &sets {
        for data in &set.rdata {
            let _ = writeln!(text, "  {}  ({})", record(name, set, data), set.owner);
        }
    }
    if sets.is_empty() {
        let answer = lookup::resolve(&zone, name.as_wire(), rtype::ANY);
        text += match (
            answer.rcode,
            answer.answers.is_empty(),
            answer.authority.is_empty(),
        ) {
            (lookup::NXDOMAIN, ..) => "  NXDOMAIN: there is no such name\n",
            (_, false, _) => "  by a wildcard\n",
            (_, true, _) if !answer.is_authoritative => "  below a delegation\n",
            (_, true, _) => "  there are only names below it\n",
        };
    }
    text
}

fn export(world: &World, zone: &str, from: Option<IpAddr>) -> Result<String, InspectError> {
    let origin = read_name(zone)?;
    let views = views(world, from)?;
    let zone = views
        .iter()
        .find_map(|view| world.zone(view.zone_at(origin.as_wire())?));
    let zone = zone.ok_or(InspectError::Zone(origin))?;
    let mut lines: Vec<(bool, String)> = Vec::new();
    for (name, set) in zone.iter() {
        let lines_of = set
            .rdata
            .iter()
            .map(|data| (set.rtype != rtype::SOA, record(name, set, data)));
        lines.extend(lines_of);
    }
    // The SOA comes first.
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line + "\n").collect())
}

/// A record in presentation form.
fn record(name: &Name, set: &RrSet, data: &[u8]) -> String {
    let (kind, shown) = (rdata::type_name(set.rtype), rdata::show(set.rtype, data));
    format!("{name} {} IN {kind} {shown}", set.ttl)
}
