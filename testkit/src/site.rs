//! A whole site out of a description: router, trunk, switch, hosts with real sockets.
//!
//! ```text
//!   host      host      host            internet
//!    |eth0     |eth0     |eth0             |eth0
//!  ==+=========+=========+==  switch       |
//!            |  trunk, tagged              |
//!          eth0                          UPLINK
//!  +---------+--- router -------------------+----+
//!  |   one device per segment, with the gateway's|
//!  |   addresses: vlan100, vlan101, …            |
//!  +---------------------------------------------+
//! ```
//!
//! Where the kernel has VLAN devices and VLAN-filtering bridges, the switch is such a bridge and the
//! router's devices are VLAN devices ([`Wiring::Kernel`]). Where it has not, both are made of the
//! [`Switch`] ([`Wiring::Userspace`]): one between the hosts and the trunk, one inside of the router
//! between the trunk and a veth pair per segment. The router's one takes frames off the trunk by a
//! packet socket: behind XDP, but before TC. So a test of TC in that wiring must look at counters
//! and at the hosts, not at the router's own sockets.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::kernel_vlan::{BridgeVlan, vlan_devices_available, vlan_filtering_available};
use crate::netns::NetNs;
use crate::switch::Switch;
use crate::xdp::XdpPass;

/// Name of the one interface of every host.
pub const HOST_LINK: &str = "eth0";

/// An address and the length of its prefix.
pub type Address = (IpAddr, u8);

/// What to build.
#[derive(Clone, Debug)]
pub struct SiteSpec {
    /// Name of the router's trunk interface.
    pub trunk: String,
    /// Hardware address of the router, on the trunk and on every segment.
    pub router_mac: [u8; 6],
    /// Segments, each with the router's addresses on it.
    pub segments: Vec<SegmentSpec>,
    /// Hosts on the segments.
    pub hosts: Vec<HostSpec>,
    /// The way out, if the site has one.
    pub uplink: Option<UplinkSpec>,
}

/// A VLAN.
#[derive(Clone, Debug)]
pub struct SegmentSpec {
    /// Its id.
    pub vlan: u16,
    /// The router's addresses on it; none for a VLAN that is not routed.
    pub gateways: Vec<Address>,
}

/// A machine with one interface on one segment.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Name, unique in the site.
    pub name: String,
    /// VLAN id of its segment.
    pub vlan: u16,
    /// Hardware address.
    pub mac: [u8; 6],
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Its default routes.
    pub gateways: Vec<IpAddr>,
}

/// The router's uplink, and a host behind it that stands for the internet.
#[derive(Clone, Debug)]
pub struct UplinkSpec {
    /// Name of the router's interface.
    pub interface: String,
    /// The router's addresses on it.
    pub router: Vec<Address>,
    /// Addresses of the host behind it; it has a default route through the router.
    pub internet: Vec<Address>,
}

/// How the switch and the router's devices are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wiring {
    /// A VLAN-filtering bridge and VLAN devices.
    Kernel,
    /// A VLAN-filtering bridge; the router has its trunk, down, and its uplink, and nothing else: bulkhead makes the rest.
    EmptyRouter,
    /// Threads that copy frames.
    Userspace,
}

impl Wiring {
    /// Returns the best that this kernel can do.
    ///
    /// # Errors
    ///
    /// If the process may not make namespaces.
    pub fn best() -> Result<Self> {
        let both = vlan_devices_available()? && vlan_filtering_available()?;
        Ok(if both { Self::Kernel } else { Self::Userspace })
    }
}

/// A built site. Everything goes away when it is dropped.
#[derive(Debug)]
pub struct Site {
    // Switches first: their threads end before the namespaces do.
    switches: Vec<Switch>,
    /// The core router: where `bulkhead run` belongs.
    pub router: NetNs,
    /// The internet's namespace, if the site has an uplink.
    pub internet: Option<NetNs>,
    hosts: Vec<(HostSpec, NetNs)>,
    _wakes_far_end: XdpPass,
    /// Namespace of the switch, with the far end of the trunk in it.
    pub middle: NetNs,
}

/// Name of the far end of the trunk, in the switch's namespace.
pub const TRUNK_FAR_END: &str = "trunk";

impl Site {
    /// Builds the site: all links up, all addresses set.
    ///
    /// # Errors
    ///
    /// If the kernel cannot do what the wiring needs, or a name or an address is there twice.
    pub fn build(spec: &SiteSpec, wiring: Wiring) -> Result<Self> {
        let (middle, router) = (NetNs::new("switch")?, NetNs::new("router")?);
        middle.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        let wakes_far_end = add_trunk(&router, &middle, spec)?;
        if wiring != Wiring::EmptyRouter {
            router.set_up(&spec.trunk)?;
        }
        let mut hosts = Vec::new();
        for (number, host) in spec.hosts.iter().enumerate() {
            let ns = add_host(&middle, &port_name(number), host)
                .with_context(|| format!("adding host {}", host.name))?;
            hosts.push((host.clone(), ns));
        }
        let switches = match wiring {
            Wiring::Kernel => {
                add_bridge(&middle, spec)?;
                add_vlan_devices(&router, spec)?;
                Vec::new()
            }
            Wiring::EmptyRouter => {
                add_bridge(&middle, spec)?;
                Vec::new()
            }
            Wiring::Userspace => vec![switch_hosts(&middle, spec)?, switch_router(&router, spec)?],
        };
        if wiring != Wiring::EmptyRouter {
            set_up_router(&router, spec)?;
        }
        let internet = spec
            .uplink
            .as_ref()
            .map(|uplink| add_uplink(&router, uplink))
            .transpose()?;
        let site = Self {
            switches,
            router,
            internet,
            hosts,
            _wakes_far_end: wakes_far_end,
            middle,
        };
        if wiring != Wiring::EmptyRouter {
            site.wait_until_router_is_up(spec)?;
        }
        site.wait_until_up(spec)?;
        Ok(site)
    }

    fn wait_until_router_is_up(&self, spec: &SiteSpec) -> Result<()> {
        self.router.wait_until_up(&spec.trunk)?;
        for segment in spec
            .segments
            .iter()
            .filter(|segment| !segment.gateways.is_empty())
        {
            self.router.wait_until_up(&segment_device(segment.vlan))?;
        }
        Ok(())
    }

    fn wait_until_up(&self, spec: &SiteSpec) -> Result<()> {
        for (_, ns) in &self.hosts {
            ns.wait_until_up(HOST_LINK)?;
        }
        for (uplink, internet) in spec.uplink.iter().zip(&self.internet) {
            self.router.wait_until_up(&uplink.interface)?;
            internet.wait_until_up(HOST_LINK)?;
        }
        Ok(())
    }

    /// Returns the namespace of a host.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn host(&self, name: &str) -> Result<&NetNs> {
        let mut hosts = self.hosts.iter();
        let found = hosts.find(|(spec, _)| spec.name == name).map(|(_, ns)| ns);
        found.with_context(|| format!("the site has no host {name}"))
    }

    /// Returns every host with its namespace, in the order of the description.
    pub fn hosts(&self) -> impl Iterator<Item = (&HostSpec, &NetNs)> {
        self.hosts.iter().map(|(spec, ns)| (spec, ns))
    }

    /// Returns how many frames the switches did not admit: tags that an access port may not carry.
    #[must_use]
    pub fn refused_frames(&self) -> u64 {
        self.switches.iter().map(Switch::refused).sum()
    }
}

/// Name of the router's device on a segment.
#[must_use]
pub fn segment_device(vlan: u16) -> String {
    format!("vlan{vlan}")
}

fn port_name(host: usize) -> String {
    format!("port{host}")
}

fn add_trunk(router: &NetNs, middle: &NetNs, spec: &SiteSpec) -> Result<XdpPass> {
    router.add_veth(&spec.trunk, middle, TRUNK_FAR_END)?;
    // The trunk itself has no addresses: only its segments' devices speak.
    router.sysctl(&format!("net.ipv6.conf.{}.disable_ipv6", spec.trunk), "1")?;
    router.set_mac(&spec.trunk, spec.router_mac)?;
    // Tags stay in the bytes on the way to the router, as they are on a wire, so that native XDP
    // sees them; and what it sends back arrives.
    router.set_rx_vlan_offload(&spec.trunk, false)?;
    middle.set_tx_vlan_offload(TRUNK_FAR_END, false)?;
    middle.set_tx_checksum(TRUNK_FAR_END, false)?;
    middle.set_up(TRUNK_FAR_END)?;
    middle.attach_xdp_pass(TRUNK_FAR_END)
}

/// Lets the router forward, with its gateways' addresses.
fn set_up_router(router: &NetNs, spec: &SiteSpec) -> Result<()> {
    router.sysctl("net.ipv4.ip_forward", "1")?;
    router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    for segment in &spec.segments {
        if !segment.gateways.is_empty() {
            set_gateway(router, segment)?;
        }
    }
    Ok(())
}

fn add_host(middle: &NetNs, port: &str, host: &HostSpec) -> Result<NetNs> {
    let ns = NetNs::new(&host.name)?;
    middle.add_veth(port, &ns, HOST_LINK)?;
    ns.set_mac(HOST_LINK, host.mac)?;
    ns.set_tx_checksum(HOST_LINK, false)?;
    ns.set_up(HOST_LINK)?;
    middle.set_up(port)?;
    for (address, prefix) in &host.addresses {
        ns.add_address(HOST_LINK, *address, *prefix)?;
    }
    for gateway in &host.gateways {
        ns.add_default_route(*gateway)?;
    }
    Ok(ns)
}

fn add_bridge(middle: &NetNs, spec: &SiteSpec) -> Result<()> {
    const BRIDGE: &str = "bridge";
    middle.add_vlan_bridge(BRIDGE)?;
    middle.set_controller(TRUNK_FAR_END, BRIDGE)?;
    for segment in &spec.segments {
        middle.add_bridge_vlan(TRUNK_FAR_END, segment.vlan, BridgeVlan::Tagged)?;
    }
    for (number, host) in spec.hosts.iter().enumerate() {
        middle.set_controller(&port_name(number), BRIDGE)?;
        middle.add_bridge_vlan(&port_name(number), host.vlan, BridgeVlan::Untagged)?;
    }
    middle.set_up(BRIDGE)
}

fn add_vlan_devices(router: &NetNs, spec: &SiteSpec) -> Result<()> {
    for segment in spec
        .segments
        .iter()
        .filter(|segment| !segment.gateways.is_empty())
    {
        router.add_vlan_device(&spec.trunk, segment.vlan, &segment_device(segment.vlan))?;
    }
    Ok(())
}

fn switch_hosts(middle: &NetNs, spec: &SiteSpec) -> Result<Switch> {
    let names: Vec<_> = (0..spec.hosts.len()).map(port_name).collect();
    let ports: Vec<_> = names
        .iter()
        .zip(&spec.hosts)
        .map(|(name, host)| (name.as_str(), host.vlan))
        .collect();
    Switch::start(middle, TRUNK_FAR_END, &ports)
}

/// Makes what stands in for VLAN devices: a veth pair per segment, whose near end has the address
/// of the router and whose far end is an access port of a switch on the trunk.
fn switch_router(router: &NetNs, spec: &SiteSpec) -> Result<Switch> {
    let mut names = Vec::new();
    for segment in spec
        .segments
        .iter()
        .filter(|segment| !segment.gateways.is_empty())
    {
        let (near, far) = (
            segment_device(segment.vlan),
            format!("port{}", segment.vlan),
        );
        router.add_veth(&near, router, &far)?;
        router.sysctl(&format!("net.ipv6.conf.{far}.disable_ipv6"), "1")?;
        router.set_mac(&near, spec.router_mac)?;
        router.set_tx_checksum(&near, false)?;
        router.set_up(&near)?;
        router.set_up(&far)?;
        names.push((far, segment.vlan));
    }
    let ports: Vec<_> = names
        .iter()
        .map(|(name, vlan)| (name.as_str(), *vlan))
        .collect();
    Switch::start(router, &spec.trunk, &ports)
}

fn set_gateway(router: &NetNs, segment: &SegmentSpec) -> Result<()> {
    let device = segment_device(segment.vlan);
    router.set_up(&device)?;
    for (address, prefix) in &segment.gateways {
        router.add_address(&device, *address, *prefix)?;
    }
    Ok(())
}

fn add_uplink(router: &NetNs, uplink: &UplinkSpec) -> Result<NetNs> {
    let internet = NetNs::new("internet")?;
    router.add_veth(&uplink.interface, &internet, HOST_LINK)?;
    for (ns, link, addresses) in [
        (router, uplink.interface.as_str(), &uplink.router),
        (&internet, HOST_LINK, &uplink.internet),
    ] {
        ns.set_up(link)?;
        for (address, prefix) in addresses {
            ns.add_address(link, *address, *prefix)?;
        }
    }
    for (address, _) in &uplink.router {
        internet.add_default_route(*address)?;
    }
    Ok(internet)
}
