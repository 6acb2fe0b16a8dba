//! What is sent to the kernel: all of it or nothing happens, in one step.

use nftables::batch::Batch;
use nftables::schema::{Element, FlushObject, NfCmd, NfListObject};
use nftables::types::NfFamily;

use super::TABLE;
use super::desired::Ruleset;
use super::observed::Found;
use super::table::{SetName, chains, element, objects, rules, table};

/// Removes the table. One that is not there cannot be deleted, so it is made first.
pub(super) fn remove() -> Batch<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch
}

/// Removes the table and makes it anew.
pub(super) fn replace(ruleset: &Ruleset) -> Batch<'static> {
    let mut batch = remove();
    batch.add(table());
    for object in objects(ruleset) {
        batch.add(object);
    }
    batch
}

/// Changes rules and elements of a table that has all of our sets and chains; `None` if it has not, or others.
///
/// This is better than [`replace`], where a packet can meet an old rule and find the set of that rule empty: rules are
/// those of the moment when the packet entered the chain, elements those of the moment of the lookup. Drops that
/// compare by "not in the set" then hit packets of running connections.
pub(super) fn update(ruleset: &Ruleset, found: &Found) -> Option<Batch<'static>> {
    let wanted = Found::wanted(ruleset);
    if wanted.frame() != found.frame() {
        return None;
    }
    let mut batch = Batch::new();
    for set in SetName::ALL {
        let extra: Vec<_> = found.elements_beyond(&wanted, set).map(element).collect();
        if !extra.is_empty() {
            batch.delete(elements(set, extra));
        }
        let missing: Vec<_> = wanted.elements_beyond(found, set).map(element).collect();
        if !missing.is_empty() {
            batch.add(elements(set, missing));
        }
    }
    if wanted.rules() != found.rules() {
        for chain in chains() {
            batch.add_cmd(NfCmd::Flush(FlushObject::Chain(chain)));
        }
        for rule in rules() {
            batch.add(NfListObject::Rule(rule));
        }
    }
    Some(batch)
}

fn elements(
    set: SetName,
    elements: Vec<nftables::expr::Expression<'static>>,
) -> NfListObject<'static> {
    NfListObject::Element(Element {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: set.name().into(),
        elem: elements.into(),
    })
}
