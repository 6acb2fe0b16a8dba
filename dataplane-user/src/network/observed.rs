//! What the kernel has.
//!
//! Three dumps tell everything, however many devices there are: links (the kernel puts each device's sysctls into
//! the same message), addresses, and the VLANs of bridge ports. Only the sysctls of `all` are files.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use rtnetlink::packet_route::link::{
    AfSpecBridge, AfSpecInet, AfSpecInet6, AfSpecUnspec, BridgeVlanInfoFlags, Inet6DevConf,
    InetDevConf, InfoBridge, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage, Prop, VlanProtocol,
};
use serde::Serialize;

use super::sysctl::{ALL, ALL_DEVICES, DEVICE, FORWARDING, Family, Key};
use super::{GROUP, NetlinkError, Network, NetworkError, PROTOCOL, rx_vlan_offload};

/// What the kernel has, in one network namespace.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Observed {
    /// Every link, by index.
    pub links: BTreeMap<u32, Link>,
    /// The sysctls of `all` that are managed, those that exist.
    #[serde(serialize_with = "as_list")]
    pub sysctls: BTreeMap<Key, i32>,
    /// Does the trunk's NIC take VLAN tags out of frames? `None` if it does not say, or is not there.
    pub rx_vlan_offload: Option<bool>,
}

/// A link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its other names.
    pub altnames: BTreeSet<String>,
    /// What an administrator noted of it (`ip link set … alias`).
    pub alias: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// The bridge (or bond, …) that it is a port of.
    pub controller: Option<u32>,
    /// Its group; [`GROUP`] is our mark.
    pub group: u32,
    /// Its hardware address, if it has an Ethernet one.
    pub mac: Option<[u8; 6]>,
    /// Largest packet in octets.
    pub mtu: u32,
    /// Is it set up?
    pub up: bool,
    /// Is it set up and can send? Then the kernel has given it its link-local address.
    pub running: bool,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its sysctls that are managed. Those of IPv6 are not there if the link has no IPv6.
    #[serde(serialize_with = "as_list")]
    pub sysctls: BTreeMap<Key, i32>,
    /// VLANs of a bridge's port, or of the bridge's own side.
    pub vlans: BTreeMap<u16, BridgeVlan>,
}

/// What a link is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An 802.1Q VLAN device.
    Vlan {
        /// Index of what it is on; `None` if that is in another namespace.
        parent: Option<u32>,
        /// VLAN id.
        vlan_id: u16,
    },
    /// A bridge.
    Bridge {
        /// Does it filter VLANs?
        vlan_filtering: bool,
        /// VLAN that a new port gets by itself; 0 is none.
        default_pvid: u16,
    },
    /// One end of a pair.
    Veth {
        /// Index of the other end; `None` if that is in another namespace.
        peer: Option<u32>,
    },
    /// A device of which a process, as a rule a virtual machine, has the other end.
    Tap,
    /// Anything else: a network card, a bond, a tunnel.
    Other,
}

/// Who made an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// We, by its mark ([`PROTOCOL`]).
    Ours,
    /// The kernel: link-local, loopback.
    Kernel,
    /// The kernel, out of a router advertisement.
    RouterAdvertisement,
    /// Somebody else.
    Foreign,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Address {
    /// Address and prefix length.
    pub net: IpNet,
    /// Who made it.
    pub origin: Origin,
}

/// How a bridge's port carries a VLAN.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct BridgeVlan {
    /// Untagged frames that come in belong to it.
    pub pvid: bool,
    /// Frames leave without a tag.
    pub untagged: bool,
}

impl Link {
    /// Is that its name, or one of its other names?
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.contains(name)
    }

    /// Did we make it?
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.group == GROUP && matches!(self.kind, Kind::Vlan { .. })
    }
}

/// Returns the link-local address that RFC 4291 appendix A derives from a MAC, as the kernel does.
#[must_use]
pub fn link_local([a, b, c, d, e, f]: [u8; 6]) -> Ipv6Addr {
    let octets = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Addr::from_bits((0xfe80 << 112) | u128::from(u64::from_be_bytes(octets)))
}

impl Network {
    /// Reads what the kernel has. `trunk` is the link whose offloads are read; it need not exist.
    ///
    /// # Errors
    ///
    /// If the kernel refuses to tell, or this thread is in another network namespace.
    pub async fn observe(&self, trunk: &str) -> Result<Observed, NetworkError> {
        self.check_namespace()?;
        let mut observed = Observed {
            links: self.links().await?,
            ..Observed::default()
        };
        self.read_addresses(&mut observed.links).await?;
        self.read_bridge_vlans(&mut observed.links).await?;
        for (key, _) in ALL.iter().chain(FORWARDING) {
            let value = key.read(ALL_DEVICES);
            let value = value.map_err(|source| NetworkError::Sysctl {
                path: key.path(ALL_DEVICES).display().to_string(),
                source,
            })?;
            observed.sysctls.extend(value.map(|value| (*key, value)));
        }
        observed.rx_vlan_offload = rx_vlan_offload(trunk).ok();
        Ok(observed)
    }

    async fn links(&self) -> Result<BTreeMap<u32, Link>, NetlinkError> {
        let request = self.handle.link().get();
        let mask = vec![LinkExtentMask::SkipStats];
        let answers = request.set_filter_mask(AddressFamily::Unspec, mask);
        let links = answers.execute().map_ok(|message| {
            let link = link_of(message);
            (link.index, link)
        });
        links.try_collect().await.map_err(asking("list the links"))
    }

    async fn read_addresses(&self, links: &mut BTreeMap<u32, Link>) -> Result<(), NetlinkError> {
        let mut answers = std::pin::pin!(self.handle.address().get().execute());
        let wrap = asking("list the addresses");
        while let Some(message) = answers.try_next().await.map_err(&wrap)? {
            if let (Some(link), Some(address)) =
                (links.get_mut(&message.header.index), address_of(&message))
            {
                link.addresses.push(address);
            }
        }
        Ok(())
    }

    async fn read_bridge_vlans(&self, links: &mut BTreeMap<u32, Link>) -> Result<(), NetlinkError> {
        let request = self.handle.link().get();
        let mask = vec![LinkExtentMask::BrvlanCompressed];
        let answers = request.set_filter_mask(AddressFamily::Bridge, mask);
        let mut answers = std::pin::pin!(answers.execute());
        let wrap = asking("list the VLANs of bridges");
        while let Some(message) = answers.try_next().await.map_err(&wrap)? {
            if let Some(link) = links.get_mut(&message.header.index) {
                link.vlans.extend(bridge_vlans_of(&message));
            }
        }
        Ok(())
    }
}

fn asking(op: &'static str) -> impl Fn(rtnetlink::Error) -> NetlinkError {
    move |source| NetlinkError::Ask { op, source }
}

pub(super) fn link_of(message: LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        altnames: BTreeSet::new(),
        alias: None,
        kind: Kind::Other,
        controller: None,
        group: 0,
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::Running),
        addresses: Vec::new(),
        sysctls: BTreeMap::new(),
        vlans: BTreeMap::new(),
    };
    let mut parent = None;
    let mut in_other_namespace = false;
    let mut info = Vec::new();
    for attribute in message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is open")]
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::PropList(names) => link.altnames = altnames_of(names),
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::Link(index) => parent = Some(index),
            LinkAttribute::LinkNetNsId(_) => in_other_namespace = true,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::Group(group) => link.group = group,
            LinkAttribute::Address(octets) => link.mac = octets.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::LinkInfo(infos) => info = infos,
            LinkAttribute::AfSpecUnspec(specs) => link.sysctls = sysctls_of(&specs),
            _ => {}
        }
    }
    link.kind = kind_of(&info, parent.filter(|_| !in_other_namespace));
    link
}

fn altnames_of(names: Vec<Prop>) -> BTreeSet<String> {
    let names = names.into_iter().filter_map(|name| {
        if let Prop::AltIfName(name) = name {
            Some(name)
        } else {
            None
        }
    });
    names.collect()
}

fn kind_of(infos: &[LinkInfo], parent: Option<u32>) -> Kind {
    let vlan = LinkInfo::Kind(InfoKind::Vlan);
    for info in infos {
        if let LinkInfo::Data(InfoData::Vlan(data)) = info
            && infos.contains(&vlan)
        {
            return vlan_of(data, parent);
        }
        if let LinkInfo::Data(InfoData::Bridge(data)) = info {
            return bridge_of(data);
        }
        if *info == LinkInfo::Kind(InfoKind::Veth) {
            return Kind::Veth { peer: parent };
        }
        if *info == LinkInfo::Kind(InfoKind::Tun) {
            return Kind::Tap;
        }
    }
    Kind::Other
}

/// A device of 802.1ad is another thing.
fn vlan_of(data: &[InfoVlan], parent: Option<u32>) -> Kind {
    let mut id = None;
    for info in data {
        if let InfoVlan::Id(found) = info {
            id = Some(*found);
        } else if *info == InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) {
            return Kind::Other;
        }
    }
    id.map_or(Kind::Other, |vlan_id| Kind::Vlan { parent, vlan_id })
}

fn bridge_of(data: &[InfoBridge]) -> Kind {
    let (mut vlan_filtering, mut default_pvid) = (false, 0);
    for info in data {
        if let InfoBridge::VlanFiltering(on) = info {
            vlan_filtering = *on;
        } else if let InfoBridge::VlanDefaultPvid(vlan) = info {
            default_pvid = *vlan;
        }
    }
    Kind::Bridge {
        vlan_filtering,
        default_pvid,
    }
}

fn sysctls_of(specs: &[AfSpecUnspec]) -> BTreeMap<Key, i32> {
    let mut values = BTreeMap::new();
    let mut fill = |family: Family, read: &dyn Fn(&str) -> Option<i32>| {
        let keys = DEVICE.iter().map(|(key, _)| *key);
        for key in keys.filter(|key| key.family == family) {
            values.extend(read(key.name).map(|value| (key, value)));
        }
    };
    for spec in specs {
        if let AfSpecUnspec::Inet(specs) = spec {
            for spec in specs {
                if let AfSpecInet::DevConf(conf) = spec {
                    fill(Family::V4, &|name| inet(conf, name));
                }
            }
        } else if let AfSpecUnspec::Inet6(specs) = spec {
            for spec in specs {
                if let AfSpecInet6::DevConf(conf) = spec {
                    fill(Family::V6, &|name| inet6(conf, name));
                }
            }
        }
    }
    values
}

fn inet(conf: &InetDevConf, name: &str) -> Option<i32> {
    Some(match name {
        "forwarding" => conf.forwarding,
        "rp_filter" => conf.rp_filter,
        "send_redirects" => conf.send_redirects,
        "accept_redirects" => conf.accept_redirects,
        "secure_redirects" => conf.secure_redirects,
        "accept_source_route" => conf.accept_source_route,
        "arp_ignore" => conf.arp_ignore,
        "arp_announce" => conf.arp_announce,
        "proxy_arp" => conf.proxy_arp,
        "promote_secondaries" => conf.promote_secondaries,
        _ => return None,
    })
}

fn inet6(conf: &Inet6DevConf, name: &str) -> Option<i32> {
    Some(match name {
        "forwarding" => conf.forwarding,
        "accept_ra" => conf.accept_ra,
        "autoconf" => conf.autoconf,
        "accept_redirects" => conf.accept_redirects,
        "accept_source_route" => conf.accept_source_route,
        "proxy_ndp" => conf.proxy_ndp,
        "accept_dad" => conf.accept_dad,
        "addr_gen_mode" => conf.addr_gen_mode,
        "disable_ipv6" => conf.disable_ipv6,
        _ => return None,
    })
}

/// The host's own address: on a point-to-point link, `Address` is the peer's.
pub(super) fn address_of(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut address) = (None, None);
    let mut origin = Origin::Foreign;
    for attribute in &message.attributes {
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip);
        } else if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        } else if let AddressAttribute::Protocol(protocol) = attribute {
            origin = origin_of(*protocol);
        }
    }
    let ip: IpAddr = local.or(address)?;
    let net = IpNet::new(ip, message.header.prefix_len).ok()?;
    Some(Address { net, origin })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is open")]
fn origin_of(protocol: AddressProtocol) -> Origin {
    match protocol {
        AddressProtocol::Other(PROTOCOL) => Origin::Ours,
        AddressProtocol::Loopback | AddressProtocol::LinkLocal => Origin::Kernel,
        AddressProtocol::RouterAnnouncement => Origin::RouterAdvertisement,
        // What later kernels add is not ours either.
        _ => Origin::Foreign,
    }
}

/// A run of VLANs comes as its two ends.
fn bridge_vlans_of(message: &LinkMessage) -> Vec<(u16, BridgeVlan)> {
    let mut vlans = Vec::new();
    let mut first = None;
    for attribute in &message.attributes {
        let LinkAttribute::AfSpecBridge(specs) = attribute else {
            continue;
        };
        for spec in specs {
            let AfSpecBridge::VlanInfo(info) = spec else {
                continue;
            };
            if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                first = Some(info.vid);
                continue;
            }
            let how = BridgeVlan {
                pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
                untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
            };
            let begin = first.take().unwrap_or(info.vid);
            vlans.extend((begin..=info.vid).map(|id| (id, how)));
        }
    }
    vlans
}

/// JSON has no keys but strings.
fn as_list<S: serde::Serializer>(
    values: &BTreeMap<Key, i32>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let texts = values.iter().map(|(key, value)| (key.to_string(), value));
    serializer.collect_map(texts)
}
