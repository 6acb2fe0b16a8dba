//! Loading the inventory that the command line and `bulkhead.toml` name.

use netmodel::finding::{Audience, Style, to_json, to_text};
use netmodel::model::{HostId, Router};
use netmodel::{Loaded, Model, Options};

use super::args::{Common, Format};
use super::report::{CliError, NO, Paint, Report};
use crate::compile::{RouterFacts, Tables, compile};
use crate::config::Config;
use crate::controller::Desired;

/// A model that loaded, and its tables.
pub(super) struct Inventory {
    pub(super) model: Model,
    pub(super) tables: Tables,
}

/// Returns what to load. `--site` alone is a site without tenants.
pub(super) fn options(common: &Common) -> Result<Options, CliError> {
    let config = Config::load(common.config.as_deref())?;
    let mut options = Options::default();
    if let Some(site) = common.site.clone().or(config.site) {
        options.site = site;
        options.tenants = None;
    }
    if let Some(tenants) = common.tenants.clone().or(config.tenants) {
        options.tenants = Some(tenants);
    }
    options.aliases = config.aliases;
    options.router = config.router;
    options.hypervisor = config.hypervisor;
    if let Some(connections) = config.connections {
        options.connections = connections.get();
    }
    Ok(options)
}

/// Loads the inventory.
pub(super) fn load(common: &Common) -> Result<(Options, Loaded), CliError> {
    let options = options(common)?;
    let loaded = netmodel::load(&options);
    Ok((options, loaded))
}

/// Loads what should be; `Err` is the report of an inventory that has errors.
pub(super) fn desired(common: &Common) -> Result<Result<(Desired, Options), Report>, CliError> {
    let (options, loaded) = load(common)?;
    let Some(model) = loaded.model else {
        return Ok(Err(refusal(common, &loaded)));
    };
    let desired = Desired {
        host: chosen_host(&model, &options),
        inventory: loaded.sources.digest(),
        model,
    };
    Ok(Ok((desired, options)))
}

/// Loads and compiles; `Err` is the report of an inventory that has errors.
pub(super) fn compiled(common: &Common) -> Result<Result<Inventory, Report>, CliError> {
    let (options, loaded) = load(common)?;
    let Some(model) = loaded.model else {
        return Ok(Err(refusal(common, &loaded)));
    };
    let tables = compile(&model, &router_facts(&model, &options))?;
    Ok(Ok(Inventory { model, tables }))
}

/// Returns the host that the settings say this machine is.
pub(super) fn chosen_host(model: &Model, options: &Options) -> Option<HostId> {
    let name = options.hypervisor.as_ref().or(options.router.as_ref())?;
    let mut hosts = model.hosts.iter();
    hosts
        .position(|host| host.name.as_str() == name)
        .map(HostId)
}

/// Returns what the inventory says about the router that is chosen.
pub(super) fn router_facts(model: &Model, options: &Options) -> RouterFacts {
    let mut facts = RouterFacts::from_model(model);
    let named = options.router.as_deref();
    let is_named = |router: &&Router| Some(model.host(router.host).name.as_str()) == named;
    if let Some(router) = model.routers.iter().find(is_named) {
        facts.host = Some(router.host);
        facts.trunk = router.trunk.clone();
    }
    facts
}

/// Returns the interface that is enforced on: a hypervisor's bridge, else the router's trunk; empty if there is none.
pub(super) fn enforced_interface(model: &Model, options: &Options) -> String {
    let host = chosen_host(model, options);
    let mut hypervisors = model.hypervisors.iter();
    let hypervisor = hypervisors.find(|h| options.hypervisor.is_some() && Some(h.host) == host);
    match hypervisor {
        Some(hypervisor) => hypervisor.bridge.clone(),
        None => router_facts(model, options).trunk,
    }
}

pub(super) fn refusal(common: &Common, loaded: &Loaded) -> Report {
    let (findings, sources) = (&loaded.findings, &loaded.sources);
    match common.format {
        Format::Json => Report::json(&to_json(findings, sources, Audience::Platform), NO),
        Format::Text => {
            let text = to_text(findings, sources, Audience::Platform, Style::Plain);
            let report = Report::text("", NO).with_talk(text.trim_end());
            report.with_talk("bulkhead: the inventory has errors")
        }
    }
}

/// Returns the style of findings on standard output.
pub(super) fn style(paint: Paint) -> Style {
    if paint.is_on() {
        Style::Colour
    } else {
        Style::Plain
    }
}
