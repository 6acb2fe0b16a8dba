//! Section 11 of `docs/isolation.md`: a connection takes one of its opener's places (ADR 0014).
//!
//! ```text
//!  HOLDERS[holder].tickets ─► 5 6 7 …  modulo quota ─► TICKETS[holder, index] ─► key ─► FLOWS[key].ticket = (holder, index)?
//! ```
//!
//! # Guarantees
//!
//! * **Nobody pushes out another's.** Only an entry of `FLOWS` that says that it has this very ticket goes.
//! * **Nobody has more than its quota.** An entry has one ticket, and a ticket one entry. Two processors never look at the same
//!   one, unless as many as the quota look at once.
//! * **Nobody has to tidy up.** What has ended is found when its ticket's turn comes.

use crate::abi::{FlowEntry, Ticket, flow_state};
use crate::policy::limit;
use crate::policy::tables::{Holder as _, Scratch};
use crate::policy::{Context, Tables};

/// So many tickets are looked at for one that is free, or whose connection nobody has answered.
const LOOKS: u32 = 4;

/// Takes a ticket for [`Scratch::flow`], whose key is [`Scratch::flow_key`]; returns whether it did. The connection that had it is
/// forgotten.
#[inline(never)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a remainder is below the quota, which has 32 bits"
)]
pub(super) fn take<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch) -> bool {
    let quota = limit::quota(context, scratch);
    let number = limit::holder(context, scratch);
    let Some(mut holder) = context.tables.holder(number, &scratch.nothing) else {
        return false;
    };
    let mut looks = 0;
    while looks < LOOKS {
        looks += 1;
        scratch.flow.ticket = Ticket {
            holder: number,
            index: (holder.next_ticket() % quota) as u32,
        };
        if release(context, scratch, looks == LOOKS) {
            break;
        }
    }
    let ticket = &scratch.flow.ticket;
    context.tables.insert_ticket(ticket, &scratch.flow_key)
}

/// Makes the ticket of [`Scratch::flow`] free, unless its connection should stay; returns whether it is.
#[inline(always)]
fn release<T: Tables>(context: &Context<'_, T>, scratch: &mut Scratch, is_last: bool) -> bool {
    let ticket = &scratch.flow.ticket;
    if !context.tables.ticket(ticket, &mut scratch.other_flow) {
        return true;
    }
    let Some(flow) = context.tables.flow(&scratch.other_flow) else {
        return true;
    };
    // guard: foreign-ticket
    // off: let is_its = true;
    let is_its = flow.ticket == scratch.flow.ticket;
    if !is_its {
        return true;
    }
    // guard: second-chance
    // off: let stays = false;
    let stays = !is_last && flow.expires > context.tables.now() && is_answered(&flow);
    drop(flow);
    if stays {
        return false;
    }
    // guard: ticket-released
    // without: context.tables.remove_flow(&scratch.other_flow);
    context.tables.remove_flow(&scratch.other_flow);
    true
}

/// Have both sides sent? It is known of TCP and UDP only; all else goes first.
#[inline(always)]
fn is_answered(flow: &FlowEntry) -> bool {
    matches!(
        flow.sides[0].state,
        flow_state::ESTABLISHED | flow_state::REPLIED
    )
}
