//! An 802.1Q switch in userspace, for kernels without VLAN-filtering bridges.
//!
//! One trunk, tagged for every VLAN, and any number of access ports with one VLAN each.
//!
//! # Guarantees
//!
//! * Frames never leave their VLAN. Addresses are learnt per VLAN (802.1Q-2022 section 8.8,
//!   independent learning); unknown, broadcast and multicast destinations are flooded in the VLAN.
//! * An access port admits untagged frames, priority-tagged frames and frames tagged with its own
//!   VLAN, as a Linux bridge does whose port has one VLAN, untagged; a tag of another VLAN is
//!   refused. A tag of another TPID is contents.
//! * The thread stops when the switch is dropped.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::frame::ether_type;
use crate::netns::NetNs;
use crate::raw::RawSocket;

/// The VLAN id part of a tag.
const VLAN_ID: u16 = 0x0fff;
/// Frames taken from one port before the others get their turn.
const BURST: usize = 64;

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    stop: Arc<EventFd>,
    refused: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// Starts a switch between links of one namespace, all of them up: `trunk`, and for each access
    /// port its link and VLAN id.
    ///
    /// Frames of real sockets must carry right checksums (`set_tx_checksum(.., false)` at the far
    /// end of each access port), for the switch copies bytes.
    ///
    /// # Errors
    ///
    /// If a link does not exist.
    pub fn start(ns: &NetNs, trunk: &str, access: &[(&str, u16)]) -> Result<Self> {
        let mut sockets = vec![RawSocket::open(ns, trunk)?];
        for (link, _) in access {
            sockets.push(RawSocket::open(ns, link)?);
        }
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK)?);
        let refused = Arc::new(AtomicU64::new(0));
        let vlans = access.iter().map(|(_, vlan)| *vlan).collect();
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&refused));
        let run = move || forward_until(&stopped, &sockets, Table::new(vlans), &counter);
        let thread = std::thread::Builder::new().name(format!("switch {}", ns.name()));
        let thread = thread.spawn(run).context("starting the switch")?;
        Ok(Self {
            stop,
            refused,
            thread: Some(thread),
        })
    }

    /// Returns how many frames no port admitted: other VLANs' tags on access ports, untagged frames
    /// on the trunk.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let told = self.stop.write(1);
        if let (Ok(_), Some(thread)) = (told, self.thread.take()) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn forward_until(stop: &EventFd, sockets: &[RawSocket], mut table: Table, refused: &AtomicU64) {
    loop {
        let mut waits: Vec<PollFd<'_>> = sockets
            .iter()
            .map(AsFd::as_fd)
            .chain([stop.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut waits, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("the switch cannot wait for frames: {error}"),
        }
        if waits[sockets.len()].any().unwrap_or(false) {
            return;
        }
        let ready: Vec<bool> = waits
            .iter()
            .map(|wait| wait.any().unwrap_or(false))
            .collect();
        for (port, socket) in sockets.iter().enumerate().filter(|(port, _)| ready[*port]) {
            for _ in 0..BURST {
                // An interface that goes down is an error once; a switch port waits for the cable.
                let Ok(Some(frame)) = socket.try_receive() else {
                    break;
                };
                if !table.forward(port, &frame, |to, frame| drop(sockets[to].send(frame))) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// What the switch knows: the VLAN of every access port, and behind which port each address is.
#[derive(Debug)]
struct Table {
    /// VLAN of each port; the trunk has all of them, said as `None`.
    vlans: Vec<Option<u16>>,
    learnt: HashMap<(u16, [u8; 6]), usize>,
}

impl Table {
    fn new(access: Vec<u16>) -> Self {
        let vlans = [None]
            .into_iter()
            .chain(access.into_iter().map(Some))
            .collect();
        Self {
            vlans,
            learnt: HashMap::new(),
        }
    }

    /// Gives `send` each port that gets the frame, and the frame as it goes out there. Returns
    /// whether the frame was admitted.
    fn forward(&mut self, from: usize, frame: &[u8], mut send: impl FnMut(usize, &[u8])) -> bool {
        let Some((vlan, inner)) = self.admit(from, frame) else {
            return false;
        };
        let (Some(destination), Some(source)) = (inner.first_chunk(), inner[6..].first_chunk())
        else {
            return false;
        };
        if source[0] & 1 == 0 {
            self.learnt.insert((vlan, *source), from);
        }
        let tagged = tag(&inner, vlan);
        let known = self.learnt.get(&(vlan, *destination)).copied();
        for (port, of) in self.vlans.iter().enumerate() {
            if port == from || known.is_some_and(|known| known != port) {
                continue;
            }
            match of {
                None => send(port, &tagged),
                Some(of) if *of == vlan => send(port, &inner),
                Some(_) => {}
            }
        }
        true
    }

    /// Returns the VLAN of a received frame, and the frame without the tag that said so.
    fn admit(&self, from: usize, frame: &[u8]) -> Option<(u16, Vec<u8>)> {
        let own = self.vlans[from];
        let octets = frame.get(12..16)?;
        if u16::from_be_bytes([octets[0], octets[1]]) != ether_type::VLAN {
            return Some((own?, frame.to_vec()));
        }
        let inner = [&frame[..12], &frame[16..]].concat();
        let said = u16::from_be_bytes([octets[2], octets[3]]) & VLAN_ID;
        match (own, said) {
            (Some(own), 0) => Some((own, inner)),
            (Some(own), said) => (own == said).then_some((own, inner)),
            (None, 0) => None,
            (None, said) => self.vlans.contains(&Some(said)).then_some((said, inner)),
        }
    }
}

fn tag(frame: &[u8], vlan: u16) -> Vec<u8> {
    let ([a, b], [c, d]) = (ether_type::VLAN.to_be_bytes(), vlan.to_be_bytes());
    [&frame[..12], &[a, b, c, d], &frame[12..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::role::{ROUTER_MAC, TENANT_A, TENANT_B};
    use crate::frame::{BROADCAST, Frame};

    const TRUNK: usize = 0;

    /// Ports: the trunk, two in VLAN 100, one in VLAN 101.
    fn table() -> Table {
        Table::new(vec![100, 100, 101])
    }

    fn to_router() -> Frame {
        Frame::new(TENANT_A.mac, ROUTER_MAC).payload(&[0; 46])
    }

    fn out(table: &mut Table, from: usize, frame: &Frame) -> Option<Vec<(usize, Vec<u8>)>> {
        let mut sent = Vec::new();
        let admitted = table.forward(from, &frame.build(), |to, frame| {
            sent.push((to, frame.to_vec()))
        });
        admitted.then_some(sent)
    }

    #[test]
    fn unknown_and_broadcast_destinations_are_flooded_in_the_vlan_only() {
        for destination in [ROUTER_MAC, BROADCAST, [0x33, 0x33, 0, 0, 0, 1]] {
            let frame = to_router().destination_mac(destination);
            let tagged = frame.clone().vlan(100).build();
            let expected = vec![(TRUNK, tagged), (2, frame.build())];
            assert_eq!(out(&mut table(), 1, &frame), Some(expected));
        }
    }

    #[test]
    fn learnt_destination_gets_the_frame_alone() {
        let mut table = table();
        let answer = Frame::new(ROUTER_MAC, TENANT_A.mac).payload(&[0; 46]);
        out(&mut table, 1, &to_router()).unwrap();
        let sent = out(&mut table, TRUNK, &answer.clone().vlan(100)).unwrap();
        assert_eq!(sent, vec![(1, answer.build())]);
        let known = out(&mut table, 2, &to_router()).unwrap();
        assert_eq!(known, vec![(TRUNK, to_router().vlan(100).build())]);
    }

    #[test]
    fn addresses_are_learnt_per_vlan() {
        let mut table = table();
        out(&mut table, 1, &to_router()).unwrap();
        let other = Frame::new(TENANT_B.mac, TENANT_A.mac).payload(&[0; 46]);
        let sent = out(&mut table, 3, &other).unwrap();
        assert_eq!(sent, vec![(TRUNK, other.vlan(101).build())]);
    }

    #[test]
    fn access_port_admits_its_own_vlan_and_no_other() {
        let rows = [
            (to_router().vlan(100), true),
            (to_router().vlan(0), true),
            (to_router().tag(ether_type::SERVICE_VLAN, 101), true),
            (to_router().vlan(101), false),
            (to_router().vlan(4095), false),
        ];
        for (frame, admitted) in rows {
            assert_eq!(
                out(&mut table(), 1, &frame).is_some(),
                admitted,
                "{frame:?}"
            );
        }
        let service = to_router().tag(ether_type::SERVICE_VLAN, 7);
        let sent = out(&mut table(), 1, &service).unwrap();
        assert_eq!(sent[0].1[12..18], [0x81, 0, 0, 100, 0x88, 0xa8]);
    }

    #[test]
    fn trunk_admits_known_vlans_and_no_untagged_frames() {
        for (frame, admitted) in [
            (to_router(), false),
            (to_router().vlan(0), false),
            (to_router().vlan(102), false),
            (to_router().vlan(101), true),
        ] {
            assert_eq!(
                out(&mut table(), TRUNK, &frame).is_some(),
                admitted,
                "{frame:?}"
            );
        }
    }

    #[test]
    fn frame_too_short_for_ethernet_is_refused() {
        for length in 0..16 {
            let admitted = table().forward(1, &vec![0; length], |_, _| panic!("sent"));
            assert!(!admitted, "{length} octets");
        }
    }
}
