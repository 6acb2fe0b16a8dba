//! An interface that is served, also after it was removed and made anew.

use netmodel::ids::VlanId;
use tracing::{info, warn};

use super::socket::Socket;
use super::{InterfaceArg, ServerError};

/// An interface that is served.
pub(super) struct Port {
    pub(super) name: String,
    /// The VLAN of untagged frames; none on a trunk.
    pub(super) vlan: Option<VlanId>,
    pub(super) socket: Socket,
    /// What is to be sent.
    pub(super) out: Vec<Vec<u8>>,
    /// Was it there when it was looked for last?
    is_there: bool,
}

impl Port {
    pub(super) fn open(interface: &InterfaceArg) -> Result<Self, ServerError> {
        let name = interface.name.clone();
        let socket = Socket::open(&name).map_err(|source| ServerError::Interface {
            interface: name.clone(),
            source,
        })?;
        Ok(Self {
            name,
            vlan: interface.vlan,
            socket,
            out: Vec::new(),
            is_there: true,
        })
    }

    /// An interface that is removed and made anew is another one, of which the old socket hears nothing.
    pub(super) fn follow(&mut self) {
        if self.socket.is_of(&self.name) {
            return;
        }
        let was_there = std::mem::replace(&mut self.is_there, false);
        match Socket::open(&self.name) {
            Ok(socket) => {
                (self.socket, self.is_there) = (socket, true);
                info!(
                    interface = self.name,
                    "the interface was made anew: it is served again"
                );
            }
            Err(error) if was_there => {
                warn!(interface = self.name, %error, "the interface is gone: it is served again once it is back");
            }
            Err(_) => {}
        }
    }
}
