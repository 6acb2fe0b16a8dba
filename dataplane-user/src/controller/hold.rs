//! Holding a trunk that no generation is enforced on.

use dataplane_common::hold::Needs;
use tracing::warn;

use super::apply::check_bpf_fs;
use crate::loader::{Attached, Hold, Pins, WantedMode};
use crate::network::{Netlink, rx_vlan_offload};
use crate::run::{Place, RunError, attachment};

/// What became of a hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held {
    /// Nothing was attached; now the hold is.
    Attached(Attached),
    /// The hold was attached already.
    Already,
    /// A generation is enforced, which is more: nothing was done.
    Enforced,
}

/// Attaches the hold to a trunk that nothing of bulkhead is attached to. The caller holds the lock of [`Place::lock`].
///
/// # Errors
///
/// The kernel's refusal; [`RunError::OtherInterface`] if what is pinned is attached elsewhere.
pub async fn hold(place: &Place, needs: &Needs, wanted: WantedMode) -> Result<Held, RunError> {
    check_bpf_fs(place)?;
    let netlink = Netlink::connect()?;
    let ifindex = netlink.interface(&place.interface).await?.ifindex;
    let pins = Pins::at(&place.pins);
    if let Some(mode) = pins.mode() {
        let found = attachment(&pins, mode, ifindex, &netlink).await;
        match found.ifindex {
            Some(0) => {
                warn!("the interface that {mode} was attached to is gone: attaching anew");
                pins.remove_dead_link(mode)?;
            }
            Some(other) if other != ifindex => {
                return Err(RunError::OtherInterface {
                    path: place.pins.clone(),
                    found: other,
                    wanted: ifindex,
                    interface: place.interface.clone(),
                });
            }
            // What cannot be found out is left alone.
            Some(_) | None if found.is_hold => return Ok(Held::Already),
            Some(_) | None => return Ok(Held::Enforced),
        }
    }
    let rx_vlan = rx_vlan_offload(&place.interface)?;
    let mut hold = Hold::load(&place.pins, needs)?;
    Ok(Held::Attached(hold.attach(
        &place.interface,
        wanted,
        rx_vlan,
    )?))
}
