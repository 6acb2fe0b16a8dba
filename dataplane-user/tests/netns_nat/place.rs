//! A router between two segments and an uplink, each a namespace of its own.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dataplane_user::nat::{self, Observed, Ruleset};
use netmodel::Model;
use netmodel::model::Subnet6;
use testkit::netns::NetNs;
use testkit::wait::{PATIENCE, wait_for};
use testkit::{fixtures, lab};

/// The router's interface to the internet, as the sample names it.
pub(crate) const UPLINK: &str = "eth1";
/// A host of the tenant grooveiq, which may reach the internet.
pub(crate) const TENANT: [&str; 2] = ["10.100.0.10", "fd00:100::10"];
/// A host of the segment storage, which may not.
pub(crate) const STORAGE: [&str; 2] = ["10.20.20.10", "fd00:20::10"];
/// The router on its uplink.
pub(crate) const ROUTER: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
/// A host on the internet.
pub(crate) const PEER: [&str; 2] = ["198.51.100.80", "2001:db8::80"];
/// The same host under private addresses.
pub(crate) const PRIVATE: [&str; 2] = ["172.16.9.9", "fd99::9"];
/// The same host under addresses of the site: a forger.
pub(crate) const FORGED: [&str; 2] = ["10.20.99.5", "fd00:99::5"];

pub(crate) struct Place {
    pub(crate) router: NetNs,
    pub(crate) tenant: NetNs,
    pub(crate) storage: NetNs,
    pub(crate) peer: NetNs,
}

impl Place {
    /// Builds it. Nothing filters yet, and every route that an attacker could wish for is there.
    pub(crate) fn build() -> Result<Self> {
        let place = Self {
            router: NetNs::new("router")?,
            tenant: NetNs::new("tenant")?,
            storage: NetNs::new("storage")?,
            peer: NetNs::new("peer")?,
        };
        let router = &place.router;
        for key in ["ipv4.conf.all.forwarding", "ipv6.conf.all.forwarding"] {
            router.sysctl(&format!("net.{key}"), "1")?;
        }
        for key in ["all", "default"] {
            router.sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "0")?;
        }
        place.segment(
            &place.tenant,
            "seg100",
            ["10.100.0.1", "fd00:100::1"],
            TENANT,
        )?;
        place.segment(
            &place.storage,
            "seg20",
            ["10.20.20.1", "fd00:20::1"],
            STORAGE,
        )?;
        connect(router, UPLINK, ROUTER, &place.peer, PEER)?;
        for family in 0..2 {
            let prefixes = [("10.0.0.0", 8), ("fd00::", 16)];
            let (prefix, length) = prefixes[family];
            let to_site = (ip(prefix), length);
            place.peer.add_route(to_site, ip(ROUTER[family]))?;
            for address in [PRIVATE[family], FORGED[family]] {
                let length = if family == 0 { 32 } else { 128 };
                place.peer.add_address("lo", ip(address), length)?;
            }
            router.add_route((ip(PRIVATE[family]), [32, 128][family]), ip(PEER[family]))?;
        }
        Ok(place)
    }

    fn segment(&self, host: &NetNs, link: &str, gateways: [&str; 2], own: [&str; 2]) -> Result<()> {
        connect(&self.router, link, gateways, host, own)?;
        for gateway in gateways {
            host.add_default_route(ip(gateway))?;
        }
        Ok(())
    }

    pub(crate) fn apply(&self, ruleset: &Ruleset) -> Result<()> {
        Ok(self.router.run(|| nat::apply(ruleset))?)
    }

    pub(crate) fn observe(&self) -> Result<Observed> {
        Ok(self.router.run(nat::observe)?)
    }

    /// Returns what is to be done, as it is shown.
    pub(crate) fn plan(&self, ruleset: &Ruleset) -> Result<Vec<String>> {
        let changes = nat::plan(ruleset, &self.observe()?);
        Ok(changes.iter().map(ToString::to_string).collect())
    }

    /// Runs `nft` in the router's namespace.
    pub(crate) fn nft(&self, arguments: &str) -> Result<String> {
        let mut command: Command = self.router.command("nft");
        let output = command.args(arguments.split_whitespace()).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "nft {arguments}: {errors}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns how many packets a guard has dropped.
    pub(crate) fn dropped(&self, guard: &str) -> Result<u64> {
        Ok(self.observe()?.drops().get(guard).copied().unwrap_or(0))
    }

    /// Sends; asserts that the guard drops it and that it does not arrive.
    pub(crate) fn assert_dropped(
        &self,
        guard: &str,
        from: &UdpSocket,
        to: SocketAddr,
        listener: &UdpSocket,
    ) -> Result<()> {
        let before = self.dropped(guard)?;
        match from.peer_addr() {
            Ok(_) => from.send(b"forbidden").context("sending")?,
            Err(_) => from.send_to(b"forbidden", to).context("sending")?,
        };
        wait_for(
            &format!("{guard} to drop a packet to {to}"),
            || match self.dropped(guard) {
                Ok(count) if count == before => None,
                other => Some(other),
            },
        )??;
        listener.set_nonblocking(true)?;
        let received = listener.recv_from(&mut [0; 64]);
        listener.set_nonblocking(false)?;
        let is_nothing = matches!(&received, Err(error) if error.kind() == ErrorKind::WouldBlock);
        ensure!(is_nothing, "it arrived: {received:?}");
        Ok(())
    }
}

fn connect(a: &NetNs, name: &str, at_a: [&str; 2], b: &NetNs, at_b: [&str; 2]) -> Result<()> {
    a.add_veth(name, b, "eth0")?;
    a.set_up(name)?;
    b.set_up("eth0")?;
    for (family, length) in [24, 64].into_iter().enumerate() {
        a.add_address(name, ip(at_a[family]), length)?;
        b.add_address("eth0", ip(at_b[family]), length)?;
    }
    a.wait_until_up(name)?;
    b.wait_until_up("eth0")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address of the test")
}

/// Opens a socket on an address of a namespace; receiving ends with an error when nothing comes.
pub(crate) fn udp(ns: &NetNs, address: &str) -> Result<UdpSocket> {
    let address = SocketAddr::new(ip(address), 0);
    let socket = ns.run(|| UdpSocket::bind(address)).context("binding")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends from one socket to the other; returns whom the other sees.
pub(crate) fn seen(from: &UdpSocket, to: &UdpSocket) -> Result<SocketAddr> {
    from.send_to(b"hello", to.local_addr()?)
        .context("sending")?;
    let mut data = [0; 64];
    let (length, source) = received(to, &mut data).context("it did not arrive")?;
    ensure!(&data[..length] == b"hello", "something else arrived");
    Ok(source)
}

/// Receives a datagram. A socket with a time limit says EINTR when something interrupts the thread, also without a handler
/// (`signal(7)`): that is no answer.
pub(crate) fn received(
    socket: &UdpSocket,
    data: &mut [u8],
) -> std::io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(data) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The sample inventory.
pub(crate) fn model() -> Result<Model> {
    let mut model = lab::load(&fixtures::sample())?;
    // A segment with IPv6 that may not reach the internet.
    let storage = model
        .segments
        .iter_mut()
        .find(|s| s.name.as_str() == "storage");
    storage.context("the sample has storage")?.ipv6 = Some(Subnet6 {
        net: "fd00:20::/64".parse()?,
        gateway: "fd00:20::1".parse()?,
    });
    Ok(model)
}

/// What the inventory wants of its only router.
pub(crate) fn ruleset(model: &Model) -> Ruleset {
    nat::desired(model, model.routers[0].host)
}
