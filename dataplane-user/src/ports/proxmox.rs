//! What Proxmox VE says about the machine behind `tap101i0` or `veth101i0`.
//!
//! Its folder has a file for each machine of this node, and one with the pools:
//!
//! ```text
//! /etc/pve/qemu-server/101.conf   net0: virtio=BC:24:11:00:00:07,bridge=vmbr0,tag=100
//! /etc/pve/lxc/102.conf           net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:08,tag=100
//! /etc/pve/user.cfg               pool:grooveiq:what it is for:101,102:storage:
//! ```
//!
//! `tag` is what the tenant's Terraform claims; it is not read. <https://pve.proxmox.com/wiki/Manual:_qm.conf>

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use netmodel::ids::MacAddr;

use super::Unknown;
use super::claim::{Claim, Pool};

/// Longest file that is read, in octets; Proxmox' own limit is 1 MiB.
const MOST: u64 = 1 << 20;

/// The configuration of this node.
pub(super) struct Proxmox {
    folder: PathBuf,
    pools: Result<HashMap<u32, String>, String>,
    /// Is there anything? While Proxmox' cluster file system is down, the folder is empty.
    is_there: bool,
}

/// A port's place in the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Card {
    is_container: bool,
    machine: u32,
    number: u32,
}

impl Proxmox {
    pub(super) fn at(folder: &Path) -> Self {
        let pools = match read(&folder.join("user.cfg")) {
            Ok(text) => Ok(text.as_deref().map(pools).unwrap_or_default()),
            Err(why) => Err(why),
        };
        let mut parts = ["user.cfg", "qemu-server", "lxc"].into_iter();
        Self {
            folder: folder.to_owned(),
            pools,
            is_there: parts.any(|part| folder.join(part).exists()),
        }
    }

    /// Returns what it says of a port; `None` if the port is not one of its.
    pub(super) fn claim(&self, port: &str) -> Option<Result<Claim, Unknown>> {
        let card = card(port)?;
        let kind = if card.is_container {
            "lxc"
        } else {
            "qemu-server"
        };
        let path = self
            .folder
            .join(kind)
            .join(format!("{}.conf", card.machine));
        let unreadable = |what| Err(Unknown::Unreadable { what });
        let unavailable = |what| Err(Unknown::Unavailable { what });
        let text = match read(&path) {
            Ok(None) if !self.is_there => {
                let what = format!("{} is empty, or not there", self.folder.display());
                return Some(unavailable(what));
            }
            Ok(text) => text?,
            Err(what) => return Some(unavailable(what)),
        };
        let by = format!("{}, net{}", path.display(), card.number);
        let Some(mac) = mac(&text, card) else {
            return Some(unreadable(format!("{by}: there is no hardware address")));
        };
        let pool = match &self.pools {
            Ok(pools) => match pools.get(&card.machine) {
                Some(pool) => Pool::Named(pool.clone()),
                None => Pool::None,
            },
            // Whose it is cannot be told.
            Err(what) => return Some(unavailable(what.clone())),
        };
        Some(Ok(Claim { mac, pool, by }))
    }
}

/// `tap101i0`, `veth101i0`.
fn card(port: &str) -> Option<Card> {
    let (is_container, rest) = match port.strip_prefix("tap") {
        Some(rest) => (false, rest),
        None => (true, port.strip_prefix("veth")?),
    };
    let (machine, number) = rest.split_once('i')?;
    Some(Card {
        is_container,
        machine: digits(machine)?,
        number: digits(number)?,
    })
}

fn digits(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// The MAC of a card as it is now: sections after the first are snapshots and what is to be after the next start.
fn mac(text: &str, card: Card) -> Option<[u8; 6]> {
    let key = format!("net{}", card.number);
    let now = text.lines().take_while(|line| !line.starts_with('['));
    let mut lines = now.filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim() == key)?;
    let mut options = value.split(',').filter_map(|option| option.split_once('='));
    // The first option of a virtual machine's card is its model, and its value the MAC.
    let (_, mac) = match card.is_container {
        true => options.find(|(name, _)| name.trim() == "hwaddr")?,
        false => options.next()?,
    };
    Some(mac.trim().parse::<MacAddr>().ok()?.0)
}

/// Pools by machine.
fn pools(text: &str) -> HashMap<u32, String> {
    let mut pools = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if fields.next() != Some("pool") {
            continue;
        }
        let (Some(name), Some(machines)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let machines = machines.split(',').filter_map(digits);
        pools.extend(machines.map(|machine| (machine, name.to_owned())));
    }
    pools
}

/// Returns the text of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("cannot read {}: {why}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let mut text = String::new();
    let read = file.take(MOST + 1).read_to_string(&mut text);
    read.map_err(|error| wrong(&error))?;
    if text.len() as u64 > MOST {
        return Err(wrong(&format!("it is longer than {MOST} octets")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_ports_are_those_of_proxmox() {
        let machine = Card {
            is_container: false,
            machine: 101,
            number: 2,
        };
        assert_eq!(card("tap101i2"), Some(machine));
        assert!(card("veth7i0").unwrap().is_container);
        for other in [
            "tap101",
            "tapi0",
            "tap1i",
            "tap-1i0",
            "tap+1i0",
            "fwpr101p0",
            "tap99999999999i0",
        ] {
            assert_eq!(card(other), None, "{other}");
        }
    }

    #[test]
    fn address_is_that_of_the_card_as_it_is_now() {
        let text = "#net0: a note\nboot: order=scsi0\n\
                    net0: virtio=BC:24:11:00:00:07,bridge=vmbr0,firewall=1,tag=100\n\
                    net1: e1000=BC:24:11:00:00:09,bridge=vmbr0\n\
                    [before]\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\nnet2: virtio=BC:24:11:00:00:02\n";
        let card = |number| Card {
            is_container: false,
            machine: 101,
            number,
        };
        assert_eq!(mac(text, card(0)), Some([0xbc, 0x24, 0x11, 0, 0, 7]));
        assert_eq!(mac(text, card(1)), Some([0xbc, 0x24, 0x11, 0, 0, 9]));
        assert_eq!(mac(text, card(2)), None, "a snapshot is not what runs");
        let container = Card {
            is_container: true,
            ..card(0)
        };
        let text =
            "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:08,ip=dhcp,tag=100,type=veth\n";
        assert_eq!(mac(text, container), Some([0xbc, 0x24, 0x11, 0, 0, 8]));
    }

    #[test]
    fn pools_have_machines() {
        let text = "user:root@pam:1:0:::::\npool:grooveiq:what%3a it is:101,102:local:\n\
                    pool:vintronics:::\npool:moneyrouter:of the bank:7:local:\npool:\n";
        let found = pools(text);
        assert_eq!(found.get(&7).map(String::as_str), Some("moneyrouter"));
        assert_eq!(found.get(&102).map(String::as_str), Some("grooveiq"));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_no_claim() {
        let folder = tempfile::tempdir().unwrap();
        let claim = |port| Proxmox::at(folder.path()).claim(port);
        let is_unavailable = |port| matches!(claim(port), Some(Err(Unknown::Unavailable { .. })));
        assert!(is_unavailable("tap101i0"), "nothing is mounted");
        let machines = folder.path().join("qemu-server");
        std::fs::create_dir(&machines).unwrap();
        let proxmox = Proxmox::at(folder.path());
        assert_eq!(proxmox.claim("tap101i0"), None, "it is nobody's yet");
        std::fs::write(machines.join("101.conf"), "net0: virtio=nonsense\n").unwrap();
        let wrong = proxmox.claim("tap101i0").unwrap().unwrap_err().to_string();
        assert!(wrong.contains("101.conf, net0"), "{wrong}");
        let text = "net0: virtio=BC:24:11:00:00:07\n";
        std::fs::write(machines.join("101.conf"), text).unwrap();
        assert_eq!(proxmox.claim("tap101i0").unwrap().unwrap().pool, Pool::None);
        // Pools that cannot be read could say that it is somebody else's.
        std::fs::create_dir(folder.path().join("user.cfg")).unwrap();
        assert!(is_unavailable("tap101i0"));
    }
}
