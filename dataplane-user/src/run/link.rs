//! The pinned attachment: is it still on the interface?

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};

use crate::loader::{Mode, Pins, PortHook};
use crate::network::Netlink;

/// What is known of a pinned attachment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Attachment {
    /// Kernel's number of the program.
    pub(crate) program: Option<u32>,
    /// Interface it is attached to; 0 if that interface is gone. `None`: not known.
    pub(crate) ifindex: Option<u32>,
    /// The program is the hold, not a generation's.
    pub(crate) is_hold: bool,
}

/// Looks at the attachment of a mode. `ifindex` is the trunk's, which a clsact filter is looked for on.
pub(crate) async fn attachment(
    pins: &Pins,
    mode: Mode,
    ifindex: u32,
    netlink: &Netlink,
) -> Attachment {
    let path = pins.link(mode);
    if mode == Mode::Clsact {
        let on_trunk = netlink.has_our_filter(ifindex).await;
        let program = ProgramInfo::from_pin(&path).map(|info| info.id()).ok();
        return Attachment {
            program,
            ifindex: on_trunk.map(|on| if on { ifindex } else { 0 }).ok(),
            is_hold: program.is_some_and(|id| pins.is_hold(id)),
        };
    }
    let mut found = look(&path).unwrap_or_default();
    found.is_hold = found.program.is_some_and(|id| pins.is_hold(id));
    found
}

/// Are the programs of a port attached to it, and still are? `hooks`: which.
pub(crate) async fn is_port_attached(
    pins: &Pins,
    ifindex: u32,
    hooks: [PortHook; 2],
    netlink: &Netlink,
) -> bool {
    let links = hooks.map(|hook| pins.port_link(ifindex, hook));
    if links.iter().any(|path| path.exists()) {
        let is_there = |path: &PathBuf| look(path).and_then(|found| found.ifindex) == Some(ifindex);
        return links.iter().all(is_there);
    }
    netlink.has_port_filters(ifindex).await.unwrap_or(false)
}

fn look(path: &Path) -> Option<Attachment> {
    let link = FdLink::from(PinnedLink::from_pin(path).ok()?);
    let info = link.info().ok()?;
    Some(Attachment {
        program: Some(info.program_id()),
        ifindex: ifindex_of(info.id()),
        is_hold: false,
    })
}

/// Reads a link's interface out of `/proc/self/fdinfo`: the link is open in this process.
fn ifindex_of(link_id: u32) -> Option<u32> {
    let id = link_id.to_string();
    for entry in fs::read_dir("/proc/self/fdinfo").ok()?.flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else {
            continue;
        };
        if field(&text, "link_id") == Some(&id) {
            return field(&text, "ifindex")?.parse().ok();
        }
    }
    None
}

fn field<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(found, value)| (found == key).then(|| value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_of_fdinfo_is_found_by_its_whole_name() {
        let text = "pos:\t0\nlink_type:\txdp\nlink_id:\t7\nprog_id:\t31\nifindex:\t4\n";
        assert_eq!(field(text, "link_id"), Some("7"));
        assert_eq!(field(text, "ifindex"), Some("4"));
        assert_eq!(field(text, "index"), None);
    }
}
