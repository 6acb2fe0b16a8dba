//! What is tried, and what must come of it: written down by hand from the sample inventory, not
//! computed, so that it can disagree with bulkhead.

use std::net::IpAddr;

use anyhow::{Context, Result};
use testkit::lab::INTERNET;
use testkit::site::SiteSpec;

use crate::services::Probe;

/// The tenants, each by the machine that speaks for it.
pub(crate) const TENANTS: [(&str, &str); 3] = [
    ("grooveiq", "grooveiq-api01"),
    ("vintronics", "vintronics-web01"),
    ("moneyrouter", "moneyrouter-app01"),
];

/// Connections that stay open for a while: from, to, TCP port.
pub(crate) const CONVERSATIONS: &[(&str, &str, u16)] = &[
    ("vintronics-web01", "grooveiq-api01", 443),
    ("sensor", "grooveiq-mqtt01", 8883),
    ("hv01", "moneyrouter-db01", 5432),
    ("workstation", "logs", 3100),
];

/// What must happen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// The question arrives and so does the answer.
    Allowed,
    /// bulkhead drops it, for this reason.
    Dropped(&'static str),
}

/// One thing to try.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) from: String,
    pub(crate) to: IpAddr,
    pub(crate) probe: Probe,
    pub(crate) expected: Expected,
}

/// Things to try, as a table.
pub(crate) struct Grid {
    pub(crate) title: &'static str,
    pub(crate) note: &'static str,
    pub(crate) columns: Vec<String>,
    /// Name of the row, and one cell for each column; `None` where there is nothing to try.
    pub(crate) rows: Vec<(String, Vec<Option<Cell>>)>,
}

/// A destination, and how to ask it.
struct Column {
    head: &'static str,
    to: To,
    probe: Probe,
}

/// Where a column leads.
#[derive(Clone, Copy)]
enum To {
    /// A machine of the site.
    Host(&'static str),
    /// The gateway of the row's own segment.
    Gateway,
    /// The gateway of another machine's segment.
    GatewayOf(&'static str),
    /// The host on the internet.
    Internet,
    /// An address of nobody.
    Nobody(&'static str),
}

use Expected::{Allowed, Dropped};
use Probe::{Echo, Tcp, Udp};

/// Everything, in the order in which it is shown.
pub(crate) fn grids(spec: &SiteSpec) -> Result<Vec<Grid>> {
    Ok(vec![
        tenants(spec)?,
        platform(spec)?,
        gateway(spec)?,
        internet(spec)?,
        operators(spec)?,
        ipv6(spec)?,
    ])
}

fn tenants(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("grooveiq api :443", To::Host("grooveiq-api01"), Tcp(443)),
        column("grooveiq api :22", To::Host("grooveiq-api01"), Tcp(22)),
        column(
            "vintronics web :443",
            To::Host("vintronics-web01"),
            Tcp(443),
        ),
        column(
            "moneyrouter db :5432",
            To::Host("moneyrouter-db01"),
            Tcp(5432),
        ),
        column("moneyrouter db ping", To::Host("moneyrouter-db01"), Echo),
    ];
    let denied = || Some(Dropped("other-tenant"));
    let rows = [
        (
            "grooveiq-db01",
            vec![None, None, denied(), denied(), denied()],
        ),
        // grooveiq offers its API to vintronics, and vintronics uses the offer.
        (
            "vintronics-web01",
            vec![Some(Allowed), denied(), None, denied(), denied()],
        ),
        (
            "moneyrouter-app01",
            vec![denied(), denied(), denied(), None, None],
        ),
    ];
    let title = "Tenant × tenant";
    grid(
        spec,
        (title, "nothing, but for what one offers and the other uses"),
        &columns,
        rows,
    )
}

fn platform(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("artifacts :443", To::Host("provisioner-ph01"), Tcp(443)),
        column("logs :3100", To::Host("logs"), Tcp(3100)),
        column("metrics :9090", To::Host("metrics"), Tcp(9090)),
        column("artifacts :22", To::Host("provisioner-ph01"), Tcp(22)),
        column("hypervisor :22", To::Host("hv01"), Tcp(22)),
        column("storage :443", To::Host("nas"), Tcp(443)),
    ];
    let denied = || Some(Dropped("platform-address"));
    let allowed = || Some(Allowed);
    let rows = [
        (
            "grooveiq-api01",
            vec![
                allowed(),
                allowed(),
                allowed(),
                denied(),
                denied(),
                denied(),
            ],
        ),
        (
            "vintronics-web01",
            vec![denied(), allowed(), allowed(), denied(), denied(), denied()],
        ),
        (
            "moneyrouter-app01",
            vec![denied(), allowed(), denied(), denied(), denied(), denied()],
        ),
    ];
    let title = "Tenant × platform service";
    grid(
        spec,
        (
            title,
            "what the registry grants by name, and no other port of it",
        ),
        &columns,
        rows,
    )
}

fn gateway(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("DNS", To::Gateway, Udp(53)),
        column("DNS over TCP", To::Gateway, Tcp(53)),
        column("NTP", To::Gateway, Udp(123)),
        column("ping", To::Gateway, Echo),
        column("SSH", To::Gateway, Tcp(22)),
        column("other's DNS", To::GatewayOf("visitor"), Udp(53)),
        column("management", To::GatewayOf("hv01"), Tcp(22)),
    ];
    let row = || {
        let mut row = vec![Some(Allowed); 4];
        row.extend(
            ["gateway-service", "router-address", "platform-address"].map(|r| Some(Dropped(r))),
        );
        row
    };
    let rows = TENANTS.map(|(_, host)| (host, row()));
    let title = "Tenant × gateway service";
    grid(
        spec,
        (
            title,
            "on the segment's own gateway address, and on no other address of the router",
        ),
        &columns,
        rows,
    )
}

fn internet(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("web", To::Internet, Tcp(443)),
        column("DNS", To::Internet, Udp(53)),
        column("ping", To::Internet, Echo),
        column("192.168.1.1", To::Nobody("192.168.1.1"), Tcp(443)),
        column("100.64.0.1", To::Nobody("100.64.0.1"), Tcp(443)),
    ];
    let excluded = || Some(Dropped("not-internet"));
    let open = || {
        vec![
            Some(Allowed),
            Some(Allowed),
            Some(Allowed),
            excluded(),
            excluded(),
        ]
    };
    let denied = || Some(Dropped("internet-denied"));
    let rows = [
        ("grooveiq-api01", open()),
        ("vintronics-web01", open()),
        ("moneyrouter-app01", open()),
        ("visitor", open()),
        (
            "nas",
            vec![denied(), denied(), denied(), excluded(), excluded()],
        ),
    ];
    let title = "Internet";
    grid(
        spec,
        (
            title,
            "never means private networks; storage may not go out at all",
        ),
        &columns,
        rows,
    )
}

fn operators(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("grooveiq api :22", To::Host("grooveiq-api01"), Tcp(22)),
        column(
            "grooveiq mqtt :8883",
            To::Host("grooveiq-mqtt01"),
            Tcp(8883),
        ),
        column(
            "moneyrouter db :5432",
            To::Host("moneyrouter-db01"),
            Tcp(5432),
        ),
        column("logs :3100", To::Host("logs"), Tcp(3100)),
        column("hypervisor :22", To::Host("hv01"), Tcp(22)),
    ];
    let no = || Some(Dropped("no-policy"));
    let yes = || Some(Allowed);
    let rows = [
        ("hv01", vec![yes(), yes(), yes(), no(), None]),
        ("workstation", vec![yes(), yes(), yes(), yes(), no()]),
        // The sensor's MQTT has both halves: the tenant's request and the platform's consent.
        ("sensor", vec![no(), yes(), no(), no(), no()]),
        ("visitor", vec![no(), no(), no(), no(), no()]),
    ];
    let title = "Platform zone × tenant";
    grid(
        spec,
        (title, "trusted operators come in, everybody else stays out"),
        &columns,
        rows,
    )
}

fn ipv6(spec: &SiteSpec) -> Result<Grid> {
    let columns = [
        column("gateway DNS", To::Gateway, Udp(53)),
        column("gateway ping", To::Gateway, Echo),
        column("gateway SSH", To::Gateway, Tcp(22)),
        column("logs :3100", To::Host("logs"), Tcp(3100)),
        column("logs :22", To::Host("logs"), Tcp(22)),
        column("grooveiq api :443", To::Host("grooveiq-api01"), Tcp(443)),
        column(
            "vintronics web :443",
            To::Host("vintronics-web01"),
            Tcp(443),
        ),
        column("internet", To::Internet, Tcp(443)),
    ];
    let gateway = || {
        vec![
            Some(Allowed),
            Some(Allowed),
            Some(Dropped("gateway-service")),
        ]
    };
    let no = |reason| Some(Dropped(reason));
    let tenant = |api, web| {
        let services = vec![
            Some(Allowed),
            no("platform-address"),
            api,
            web,
            Some(Allowed),
        ];
        [gateway(), services].concat()
    };
    let rows = [
        ("grooveiq-db01", tenant(None, no("other-tenant"))),
        // The API's offer names a host; its IPv6 address is not in the inventory, so it is not it.
        ("vintronics-web01", tenant(no("other-tenant"), None)),
    ];
    let title = "The same over IPv6";
    grid_of(
        spec,
        (title, "for the tenants that have it"),
        (&columns, false),
        rows,
    )
}

fn column(head: &'static str, to: To, probe: Probe) -> Column {
    Column { head, to, probe }
}

fn grid<const N: usize>(
    spec: &SiteSpec,
    heading: (&'static str, &'static str),
    columns: &[Column],
    rows: [(&str, Vec<Option<Expected>>); N],
) -> Result<Grid> {
    grid_of(spec, heading, (columns, true), rows)
}

fn grid_of<const N: usize>(
    spec: &SiteSpec,
    (title, note): (&'static str, &'static str),
    (columns, is_v4): (&[Column], bool),
    rows: [(&str, Vec<Option<Expected>>); N],
) -> Result<Grid> {
    let row = |(from, expected): (&str, Vec<Option<Expected>>)| {
        let cells = columns.iter().zip(expected).map(|(column, expected)| {
            let Some(expected) = expected else {
                return Ok(None);
            };
            let to = resolve(spec, from, column.to, is_v4)?;
            Ok(Some(Cell {
                from: from.to_owned(),
                to,
                probe: column.probe,
                expected,
            }))
        });
        Ok((from.to_owned(), cells.collect::<Result<_>>()?))
    };
    let rows = rows.into_iter().map(row).collect::<Result<_>>()?;
    let columns = columns
        .iter()
        .map(|column| column.head.to_owned())
        .collect();
    Ok(Grid {
        title,
        note,
        columns,
        rows,
    })
}

/// Returns the IPv4 address of a machine.
pub(crate) fn address(spec: &SiteSpec, name: &'static str) -> Result<IpAddr> {
    resolve(spec, name, To::Host(name), true)
}

fn resolve(spec: &SiteSpec, from: &str, to: To, is_v4: bool) -> Result<IpAddr> {
    let host = |name: &str| {
        let found = spec.hosts.iter().find(|host| host.name == name);
        found.with_context(|| format!("the site has no host {name}"))
    };
    let of_family = |mut all: Box<dyn Iterator<Item = IpAddr> + '_>| {
        let found = all.find(|address| address.is_ipv4() == is_v4);
        found.with_context(|| format!("no address of the family, from {from}"))
    };
    match to {
        To::Host(name) => of_family(Box::new(host(name)?.addresses.iter().map(|(a, _)| *a))),
        To::Gateway => of_family(Box::new(host(from)?.gateways.iter().copied())),
        To::GatewayOf(name) => of_family(Box::new(host(name)?.gateways.iter().copied())),
        To::Internet => of_family(Box::new(INTERNET.into_iter())),
        To::Nobody(address) => Ok(address.parse()?),
    }
}
