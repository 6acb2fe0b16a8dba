//! Answers that lead through several zones.

use super::At;
use crate::compose::Body;
use crate::dnssec::Unsigned;
use crate::lookup::{self, Answer, MAX_CHAIN};
use crate::message::Query;
use crate::name::Name;
use crate::zone::{Signing, Zone};

/// Makes an answer, following aliases through the zones that the view has, and no others. Tells where the last
/// alias leads to, if that is in none of them.
pub(super) fn resolve(
    at: At<'_>,
    zone: &Zone,
    query: &Query,
) -> Result<(Body, Option<Name>), Unsigned> {
    let view = at.view;
    let (mut answer, mut is_signed) = look_up(at, zone, (query.name(), query))?;
    let mut outside = None;
    let mut here = view.zone_at(zone.origin().as_wire());
    for _ in 0..MAX_CHAIN {
        let Some(target) = answer.leaves.take() else {
            break;
        };
        let is_known = target.as_wire() == query.name() || is_owner(&answer, &target);
        // The zone it is in already has said what there is: a referral to another server.
        let next = view
            .zone_of(target.as_wire())
            .filter(|id| !is_known && Some(*id) != here);
        let Some(next) = next else {
            if !is_known && view.zone_of(target.as_wire()).is_none() {
                outside = Some(target);
            }
            break;
        };
        here = Some(next);
        let found = at
            .world
            .with_zone(next, |zone| look_up(at, zone, (target.as_wire(), query)));
        if let Some(found) = found {
            let (found, is_next_signed) = found?;
            is_signed |= is_next_signed;
            append(&mut answer, found, &target);
        }
    }
    let body = match Name::from_wire(query.name()) {
        Ok(name) => Body::exact(&answer, zone.origin(), &name),
        Err(_) => Body::default(),
    };
    Ok((if is_signed { body.signed() } else { body }, outside))
}

/// Looks into one zone; with signatures if it has them and they are wanted.
fn look_up(
    at: At<'_>,
    zone: &Zone,
    (name, query): (&[u8], &Query),
) -> Result<(Answer, bool), Unsigned> {
    match zone.signing() {
        Signing::NoKey(_) => Err(Unsigned::NoKey),
        Signing::On(signatures) if query.wants_dnssec() => {
            let made = signatures.answer(zone, (name, query.kind), at.moment)?;
            Ok((made.value, true))
        }
        Signing::Off | Signing::On(_) => Ok((lookup::resolve(zone, name, query.kind), false)),
    }
}

fn is_owner(answer: &Answer, name: &Name) -> bool {
    answer
        .answers
        .iter()
        .any(|item| item.owner.as_ref() == Some(name))
}

/// Goes on where an alias leads to.
fn append(answer: &mut Answer, mut next: Answer, target: &Name) {
    for item in next.answers.iter_mut().chain(&mut next.authority) {
        item.owner.get_or_insert_with(|| target.clone());
    }
    answer.answers.append(&mut next.answers);
    answer.rcode = next.rcode;
    answer.authority = next.authority;
    answer.additional = next.additional;
    answer.leaves = next.leaves;
}
