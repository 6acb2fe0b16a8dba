//! Do the two walls agree? What this machine's kernel enforces, against what the same generation is on the others.

use dataplane_common::abi::Generation;
use netmodel::ids::MacAddr;

use super::ports::hypervisor;
use super::{Controller, Desired};
use crate::compile::{RouterFacts, Tables};
use crate::loader::Pins;
use crate::plan::Build;
use crate::plan::agreement::{Agreement, Wall};
use crate::run::RunError;

/// What was compared, and what came of it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The generation that the kernel enforces; `None`: nothing is enforced here, both walls are compiled.
    pub enforced: Option<u32>,
    /// Which wall this machine is.
    pub here: Wall,
    /// What came of it.
    pub agreement: Agreement,
}

impl Controller {
    /// Compares what the kernel enforces with what `desired` compiles to for the other wall.
    ///
    /// # Errors
    ///
    /// If the kernel cannot be read, or the model not be enforced.
    pub fn verify(&self, desired: Desired) -> Result<Verified, RunError> {
        let here = match hypervisor(&desired.model, desired.host) {
            Some(_) => Wall::Hypervisors,
            None => Wall::Router,
        };
        let enforced = Pins::at(&self.options.place.pins).tables()?;
        let generation = enforced.as_ref().map(|(generation, _)| *generation);
        let facts = self.facts_of_inventory(&desired, generation)?;
        let there = Build::new(desired.model, facts)?;
        let this = Build {
            tables: enforced.map_or_else(
                || there.tables.clone(),
                |(_, tables)| explained(tables, &there.tables),
            ),
            ..there.clone()
        };
        let agreement = match here {
            Wall::Router => Agreement::of(&this, &there),
            Wall::Hypervisors => Agreement::of(&there, &this),
        };
        Ok(Verified {
            enforced: generation.map(|generation| generation.number),
            here,
            agreement,
        })
    }

    /// Returns what hypervisors know of the router. Where there are none, the kernel may know better than the inventory.
    fn facts_of_inventory(
        &self,
        desired: &Desired,
        enforced: Option<Generation>,
    ) -> Result<RouterFacts, RunError> {
        match self.router_facts(&desired.model) {
            Err(RunError::NoRouterMac { .. }) if desired.model.hypervisors.is_empty() => {
                let mac = enforced.map(|generation| MacAddr(generation.router_mac.octets()));
                let facts = RouterFacts::from_model(&desired.model);
                Ok(RouterFacts { mac, ..facts })
            }
            other => other,
        }
    }
}

/// The kernel does not know why an entry is there: the compiled tables do.
fn explained(enforced: Tables, compiled: &Tables) -> Tables {
    Tables {
        trace: compiled.trace.clone(),
        internet_rules: compiled.internet_rules.clone(),
        router_host_rules: compiled.router_host_rules.clone(),
        gateway_rule: compiled.gateway_rule,
        ..enforced
    }
}
