//! What is served, for people: read from the daemon's own files, whether it runs or not.
//!
//! `bulkhead dns keys|list|explain|export` (or `bulkhead-dns`, which that runs) change nothing; `test-key` and `import` ask the running server. No secret is shown.

mod shown;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use netmodel::published::{self, PublishedError};
use thiserror::Error;

use crate::client::ClientError;
use crate::dnssec;
use crate::dnssec::folder::KeyFolder;
use crate::dnssec::folder::shown_ds;
use crate::import::{self, ImportError};
use crate::journal::{JournalError, Store};
use crate::keys::{Holder, Keyring, KeysError, Secrets};
use crate::leases;
use crate::lookup;
use crate::name::{Name, NameError};
use crate::plan::{self, PlanError};
use crate::rdata::rtype;
use crate::test_key;
use crate::view::{View, ZoneId};
use crate::world::World;
use crate::zone::Signing;
use shown::{Answer, Explained, Exported, Key, Keys, Record, SignedZone, Told, Zones};

pub use shown::{Format, Imported, KeyTested};

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

/// Returns what was asked for, as it is printed.
///
/// # Errors
///
/// [`InspectError`] if a name is none, or nothing is called so.
pub fn show(world: &World, what: &Show, format: Format) -> Result<String, InspectError> {
    Ok(match what {
        Show::Explain { name, from } => format.print(&explain(world, name, *from)?),
        Show::Export { zone, from } => format.print(&export(world, zone, *from)?),
        Show::Import { file, key, server } => {
            let imported = import::run(world, file, key, *server);
            format.print(&imported.map_err(InspectError::Import)?)
        }
        Show::Keys => format.print(&keys(world)),
        Show::List => format.print(&list(world)),
        Show::TestKey { name, server } => {
            let tested = test_key::run(world, name, *server);
            format.print(&tested.map_err(InspectError::TestKey)?)
        }
    })
}

fn read_name(text: &str) -> Result<Name, InspectError> {
    Name::absolute(text).map_err(|source| InspectError::Name {
        text: text.to_owned(),
        source,
    })
}

fn keys(world: &World) -> Keys {
    let tsig = world.keys.iter().map(|key| {
        let (secondary, tenant) = match &key.holder {
            Holder::Secondary(name) => (Some(name), None),
            Holder::Tenant(tenant) => (None, Some(tenant)),
        };
        Key {
            name: key.name.to_string(),
            kind: "tsig",
            tenant: tenant.map(ToString::to_string),
            secondary: secondary.map(ToString::to_string),
            address: secondary.and_then(|name| Some(world.secondary(name)?.address)),
        }
    });
    let http = world.keys.api_keys().map(|key| Key {
        name: key.name.to_string(),
        kind: "http",
        tenant: Some(key.tenant.to_string()),
        secondary: None,
        address: None,
    });
    let mut keys: Vec<Key> = tsig.chain(http).collect();
    keys.sort_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
    let signed = world.plan.signed.iter().filter_map(|origin| {
        let key = world.zone_key(origin)?;
        Some(SignedZone {
            zone: origin.to_string(),
            ds: key.as_ref().ok().map(|key| shown_ds(key)),
            problem: key.err(),
        })
    });
    Keys {
        keys,
        signed_zones: signed.collect(),
        refused: world.keys.complaints.clone(),
    }
}

fn list(world: &World) -> Zones {
    let mut seen: BTreeMap<ZoneId, usize> = BTreeMap::new();
    for view in &world.plan.views {
        for (_, id) in view.origins() {
            *seen.entry(id).or_default() += 1;
        }
    }
    let zones = seen.into_iter().filter_map(|(id, views)| {
        let (zone, spec) = (world.zone(id)?, world.plan.zones.get(id.0)?);
        Some(shown::Zone {
            zone: zone.origin().to_string(),
            serial: zone.serial(),
            records: zone.len(),
            views,
            tenant: spec.tenant.as_deref().map(str::to_owned),
            is_signed: spec.is_signed,
        })
    });
    let mut zones: Vec<shown::Zone> = zones.collect();
    zones.sort();
    Zones { zones }
}

/// The views that are meant: of one address, or all.
fn views(world: &World, from: Option<IpAddr>) -> Result<Vec<&View>, InspectError> {
    let Some(address) = from else {
        return Ok(world.plan.views.iter().collect());
    };
    let view = world.plan.view_of(address);
    Ok(vec![view.ok_or(InspectError::Stranger(address))?])
}

fn explain(world: &World, name: &str, from: Option<IpAddr>) -> Result<Explained, InspectError> {
    let name = read_name(name)?;
    // Views that are told the same are told of together.
    let mut told: BTreeMap<Answer, Vec<String>> = BTreeMap::new();
    for view in views(world, from)? {
        let answer = explain_to(world, view, &name);
        told.entry(answer).or_default().push(view.owner.to_string());
    }
    let told = told.into_iter().map(|(answer, mut views)| {
        views.sort_unstable();
        Told { views, answer }
    });
    let mut told: Vec<Told> = told.collect();
    // As they are read: what says something of a zone comes first.
    told.sort_by_key(|told| told.answer.to_string());
    Ok(Explained {
        name: name.to_string(),
        told,
    })
}

/// What a view is told of a name: the code, and the sets with their owners.
fn explain_to(world: &World, view: &View, name: &Name) -> Answer {
    let zone = view.zone_of(name.as_wire()).and_then(|id| world.zone(id));
    let Some(zone) = zone else {
        let is_asked = view.may_resolve && !world.plan.is_local(name.as_wire());
        let instead = if is_asked {
            "in no zone of theirs: asked upstream if there is one, otherwise REFUSED"
        } else {
            "REFUSED: in no zone of theirs, and not asked upstream"
        };
        return Answer {
            zone: None,
            serial: None,
            records: Vec::new(),
            instead: Some(instead.into()),
        };
    };
    if let Signing::NoKey(why) = zone.signing() {
        return Answer {
            zone: Some(zone.origin().to_string()),
            serial: Some(zone.serial()),
            records: Vec::new(),
            instead: Some(format!("SERVFAIL: the zone cannot be signed: {why}").into()),
        };
    }
    let mut sets: Vec<_> = zone.iter().filter(|(at, _)| *at == name).collect();
    sets.sort_by_key(|(_, set)| set.rtype);
    let records: Vec<Record> = sets
        .into_iter()
        .flat_map(|(name, set)| Record::all(name, set))
        .collect();
    let instead = records.is_empty().then(|| {
        let answer = lookup::resolve(&zone, name.as_wire(), rtype::ANY);
        match (
            answer.rcode,
            answer.answers.is_empty(),
            answer.authority.is_empty(),
        ) {
            (lookup::NXDOMAIN, ..) => "NXDOMAIN: there is no such name",
            (_, false, _) => "by a wildcard",
            (_, true, _) if !answer.is_authoritative => "below a delegation",
            (_, true, _) => "there are only names below it",
        }
        .into()
    });
    Answer {
        zone: Some(zone.origin().to_string()),
        serial: Some(zone.serial()),
        records,
        instead,
    }
}

fn export(world: &World, zone: &str, from: Option<IpAddr>) -> Result<Exported, InspectError> {
    let origin = read_name(zone)?;
    let views = views(world, from)?;
    let zone = views
        .iter()
        .find_map(|view| world.zone(view.zone_at(origin.as_wire())?));
    let zone = zone.ok_or(InspectError::Zone(origin))?;
    let mut records: Vec<(bool, String, Record)> = Vec::new();
    // What the server makes is no import's.
    for (name, set) in zone.iter().filter(|(_, set)| !dnssec::is_made(set.rtype)) {
        let is_soa = set.rtype == rtype::SOA;
        let of_set = Record::all(name, set);
        records.extend(of_set.map(|record| (!is_soa, record.to_string(), record)));
    }
    // The SOA comes first.
    records.sort();
    Ok(Exported {
        zone: zone.origin().to_string(),
        records: records.into_iter().map(|(.., record)| record).collect(),
    })
}
