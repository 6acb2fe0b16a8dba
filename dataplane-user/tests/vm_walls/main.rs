//! Both walls at once: a core router and two hypervisors, joined by a trunk, with machines of three tenants.
//!
//! Every frame passes the ports of the sender's hypervisor, a real switch, the router's trunk where it leaves its segment, and the
//! ports of the receiver's hypervisor. Needs root and a kernel with VLAN devices and bridges that filter VLANs, so it runs
//! in the virtual machines.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod site;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use site::{Lab, Machine, Router};
use testkit::forgery::forgeries;
use testkit::frame::{BROADCAST, Frame, tcp_flag};
use testkit::netns::NetNs;
use testkit::raw::RawSocket;
use testkit::site::HOST_LINK;
use testkit::wait::{PATIENCE, wait_at_most};

const API: &str = "grooveiq-api01";
const DB: &str = "grooveiq-db01";
const WEB: &str = "vintronics-web01";
const APP: &str = "moneyrouter-app01";
const LEDGER: &str = "moneyrouter-db01";
/// Services that tenants are granted.
const GRANTED: [&str; 2] = ["logs", "provisioner-ph01"];
/// What everybody listens on: what the sample names, and something that it does not.
const PORTS: [u16; 4] = [443, 3100, 5432, 8883];
/// Everything beyond the uplink, as `show matrix` calls it.
const INTERNET: &str = "internet";
/// So long somebody waits for an answer that does not come.
const DENIED: Duration = Duration::from_secs(3);
/// So long nothing may arrive where nothing should.
const SILENCE: Duration = Duration::from_millis(200);

/// Listens on a port; 0: on any that is free.
fn listen(ns: &NetNs, port: u16) -> Result<TcpListener> {
    let listener = ns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    listener.with_context(|| format!("listening in {}", ns.name()))
}

/// Sends back whatever comes, until the process ends.
fn serve(ns: &NetNs, port: u16) -> Result<()> {
    let listener = listen(ns, port)?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(octets @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..octets]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}

fn connect(from: &NetNs, to: IpAddr, port: u16, patience: Duration) -> Result<TcpStream> {
    let to = SocketAddr::new(to, port);
    let stream = from.run(|| TcpStream::connect_timeout(&to, patience));
    let stream = stream.with_context(|| format!("connecting {} to {to}", from.name()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Says something, and hears it again.
fn echo(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; 5];
    stream.write_all(b"hello")?;
    stream.read_exact(&mut answer)?;
    ensure!(&answer == b"hello", "another answer than the question");
    Ok(())
}

/// Somebody who tries to reach others, and is reached by others.
#[derive(Clone, Copy)]
struct Party<'a> {
    name: &'a str,
    zone: &'a str,
    ns: &'a NetNs,
    addresses: [Option<IpAddr>; 2],
}

/// Everybody in the site, and one in the internet.
fn parties(lab: &Lab) -> Vec<Party<'_>> {
    let machines = lab.machines.iter().map(|machine| Party {
        name: machine.name,
        zone: lab.zone(machine.end.vlan),
        ns: &machine.ns,
        addresses: machine.addresses().map(Some),
    });
    // One of each zone is enough: the processor is emulated.
    let mut zones = BTreeSet::new();
    let hosts = lab.site.hosts();
    let hosts = hosts
        .filter(move |(spec, _)| GRANTED.contains(&spec.name.as_str()) || zones.insert(spec.vlan));
    let hosts = hosts.map(|(spec, ns)| Party {
        name: &spec.name,
        zone: lab.zone(spec.vlan),
        ns,
        addresses: [spec.addresses.first().map(|(address, _)| *address), None],
    });
    let internet = lab.site.internet.iter().map(|ns| Party {
        name: INTERNET,
        zone: INTERNET,
        ns,
        addresses: [Some(testkit::lab::INTERNET[0]), None],
    });
    machines.chain(hosts).chain(internet).collect()
}

/// One attempt to connect, and how it ended.
struct Try<'a> {
    from: Party<'a>,
    to: Party<'a>,
    port: u16,
    reached: bool,
}

/// Everybody tries everything, machines over both families.
fn tries(lab: &Lab) -> Vec<Try<'_>> {
    let parties = parties(lab);
    let mut tries = Vec::new();
    for &from in parties.iter().filter(|party| party.name != INTERNET) {
        let others = parties.iter().filter(|to| to.name != from.name);
        let targets = others.flat_map(|&to| {
            let addresses = to.addresses.into_iter().zip(from.addresses);
            let addresses = addresses.filter_map(|(to, from)| to.and(from).and(to));
            let addresses: Vec<_> = addresses.collect();
            PORTS.iter().flat_map(move |&port| {
                let addresses = addresses.clone().into_iter();
                addresses.map(move |address| (to, port, address))
            })
        });
        thread::scope(|scope| {
            let attempts: Vec<_> = targets
                .map(|(to, port, address)| {
                    let attempt = scope.spawn(move || {
                        let connected = connect(from.ns, address, port, DENIED);
                        connected.and_then(|mut stream| echo(&mut stream)).is_ok()
                    });
                    (to, port, attempt)
                })
                .collect();
            tries.extend(attempts.into_iter().map(|(to, port, attempt)| Try {
                from,
                to,
                port,
                reached: attempt.join().unwrap(),
            }));
        });
    }
    tries
}

/// May `from` open a connection to a port of `to`, a machine of the same tenant, by the rules of the sample?
fn is_allowed(from: &str, to: &str, port: u16) -> bool {
    match (from, to) {
        // `tenant_isolate_hosts`, and one rule.
        (APP, LEDGER) => port == 5432,
        (LEDGER, APP) => false,
        // A tenant without a policy for its own hosts.
        _ => true,
    }
}

/// What connects is what `bulkhead show matrix` says, cell by cell, and nothing else; and between hosts of one segment what its
/// tenant's rules say.
fn everybody_reaches_what_the_inventory_allows(lab: &Lab) {
    for party in parties(lab) {
        PORTS
            .iter()
            .try_for_each(|&port| serve(party.ns, port))
            .unwrap();
    }
    let matrix = lab.matrix().unwrap();
    let rows = matrix["allowed"].as_array().unwrap();
    let mut cells: BTreeMap<(&str, &str), Vec<Try<'_>>> = BTreeMap::new();
    for one in tries(lab) {
        cells
            .entry((one.from.zone, one.to.zone))
            .or_default()
            .push(one);
    }
    let mut wrong = Vec::new();
    for (&(from, to), tries) in &cells {
        let row = rows
            .iter()
            .find(|row| row["from"] == from && row["to"] == to);
        let ports: BTreeSet<u16> = tries
            .iter()
            .filter(|one| one.reached)
            .map(|one| one.port)
            .collect();
        let is_right = match row.map(|row| (row["verdict"].as_str().unwrap(), &row["ports"])) {
            _ if from == to => tries.iter().all(|one| {
                let is_tenants = lab
                    .machines
                    .iter()
                    .any(|machine| machine.name == one.from.name);
                !is_tenants || one.reached == is_allowed(one.from.name, one.to.name, one.port)
            }),
            None => ports.is_empty(),
            Some(("allow", _)) => tries.iter().all(|one| one.reached),
            Some((_, listed)) => {
                let listed = listed
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|port| port.as_str().unwrap());
                let listed = listed.filter_map(|port| port.strip_prefix("tcp/")?.parse().ok());
                listed
                    .filter(|port| PORTS.contains(port))
                    .collect::<BTreeSet<u16>>()
                    == ports
            }
        };
        if !is_right {
            let seen = tries.iter().map(|one| {
                format!(
                    "{} to {}:{} {}",
                    one.from.name, one.to.name, one.port, one.reached
                )
            });
            wrong.push(format!(
                "{from} to {to}: {row:?}; {:#?}",
                seen.collect::<Vec<_>>()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cells: {}",
        wrong.len(),
        cells.len(),
        wrong.join("\n")
    );
    assert!(cells.len() > 50, "{} cells", cells.len());
}

/// The internet, which here would find the way back to any address, sees the router's: `apply` has made the masquerade.
fn internet_sees_only_the_uplink(lab: &Lab) {
    let listener = listen(lab.site.internet.as_ref().unwrap(), 0).unwrap();
    let port = listener.local_addr().unwrap().port();
    let internet = testkit::lab::INTERNET[0];
    let _stream = connect(&lab.machine(API).ns, internet, port, PATIENCE).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_canonical(), lab.uplink);
}

/// Everything that arrives anywhere.
struct Ears<'a>(Vec<(&'a str, RawSocket)>);

impl<'a> Ears<'a> {
    fn open(lab: &'a Lab) -> Result<Self> {
        let machines = lab
            .machines
            .iter()
            .map(|machine| (machine.name, &machine.ns));
        let hosts = lab.site.hosts().map(|(spec, ns)| (spec.name.as_str(), ns));
        let all = machines.chain(hosts);
        let all = all.map(|(name, ns)| Ok((name, RawSocket::open(ns, HOST_LINK)?)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    fn forget(&self) {
        for (_, socket) in &self.0 {
            socket.drain().unwrap();
        }
    }

    /// Who else than `from` got what is in one of these frames?
    fn heard(&self, from: &Machine, frames: &[(&str, Vec<u8>)]) -> Vec<String> {
        let mut heard = Vec::new();
        for (name, socket) in self.0.iter().filter(|(name, _)| *name != from.name) {
            while let Some(got) = socket.try_receive().unwrap() {
                let same = |(_, frame): &&(&str, Vec<u8>)| got.ends_with(contents(frame));
                let found = frames.iter().find(same);
                heard.extend(found.map(|(what, _)| format!("{what}: {name}")));
            }
        }
        heard
    }
}

/// What of a frame is the same wherever it arrives: without tags, MACs, TTL. ARP is not forwarded.
fn contents(frame: &[u8]) -> &[u8] {
    let is_arp = matches!(frame.get(12..14), Some([8, 6] | [0x80, 0x35]));
    let transport = frame.get(34..).filter(|octets| octets.len() >= 8);
    match (is_arp, transport) {
        (true, _) => &frame[12..],
        (false, Some(octets)) => octets,
        (false, None) => frame,
    }
}

/// Forgeries from every port reach nobody, and are counted by their reasons.
fn forgeries_reach_nobody(lab: &Lab) {
    let ears = Ears::open(lab).unwrap();
    let web = lab.machine(WEB);
    for (from, friend, peer) in [
        (API, DB, web),
        (DB, API, web),
        (APP, LEDGER, web),
        (LEDGER, APP, web),
        // It has no friend: everybody is another tenant's.
        (WEB, API, lab.machine(APP)),
    ] {
        let (from, friend) = (lab.machine(from), lab.machine(friend));
        let at = lab.started_at(from);
        let around = lab.around(from, at).unwrap();
        let mut rows = forgeries(&around, from.end, friend.end, peer.end);
        if from.name == WEB {
            // What is about a host of the own segment has another reason here.
            let others = ["friend", "directly", "DHCP server", "source of the other"];
            rows.retain(|(what, ..)| !others.iter().any(|word| what.contains(word)));
        }
        let mut wanted: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, _, reason) in &rows {
            *wanted.entry(reason).or_default() += 1;
        }
        let hypervisor = &lab.hypervisors[at];
        let before = hypervisor.dropped(from.end.vlan).unwrap();
        ears.forget();
        let socket = RawSocket::open(&from.ns, HOST_LINK).unwrap();
        let frames: Vec<_> = rows
            .iter()
            .map(|(what, frame, _)| (*what, frame.build()))
            .collect();
        for (_, frame) in &frames {
            socket.send(frame).unwrap();
        }
        let heard = wait_at_most(SILENCE, "a forgery", || {
            let heard = ears.heard(from, &frames);
            (!heard.is_empty()).then_some(heard)
        });
        assert_eq!(heard.unwrap_or_default(), [""; 0], "{}", from.name);
        let of =
            |counts: &BTreeMap<String, u64>, reason: &str| counts.get(reason).copied().unwrap_or(0);
        // The machine's own kernel answers what it hears of others, and may be refused for the same reason.
        let enough = |now: &BTreeMap<String, u64>| {
            let mut wanted = wanted.iter();
            wanted.all(|(reason, count)| of(now, reason) >= of(&before, reason) + count)
        };
        let mut now = BTreeMap::new();
        let reached = wait_at_most(PATIENCE, "the counters", || {
            now = hypervisor.dropped(from.end.vlan).unwrap();
            enough(&now).then_some(())
        });
        assert!(
            reached.is_ok(),
            "{}: {before:?}, {now:?}, {wanted:?}",
            from.name
        );
        if from.name != WEB {
            honest_frame_arrives(from, friend);
        }
    }
}

/// The control: the same sender's honest frame arrives, over the trunk at the other hypervisor.
fn honest_frame_arrives(from: &Machine, to: &Machine) {
    // The ledger may open nothing to the app; but an ARP request it may send.
    let frame = Frame::new(from.end.mac, BROADCAST).arp_request(from.end.ipv4, to.end.ipv4);
    let (here, there) = (
        RawSocket::open(&from.ns, HOST_LINK).unwrap(),
        RawSocket::open(&to.ns, HOST_LINK).unwrap(),
    );
    let frame = frame.build();
    let same = |got: &[u8]| got.starts_with(&frame).then_some(());
    here.send(&frame).unwrap();
    let found = there
        .receive_where(Instant::now() + PATIENCE, same)
        .unwrap();
    assert!(found.is_some(), "{} is not heard by {}", from.name, to.name);
}

/// Echoes over a connection that must go on after the first of them.
const ECHOES: usize = 100;
/// How often a machine that has come says where it is.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(50);

/// Speaks over a connection that was interrupted; returns when the first answer came.
fn speaks(mut stream: TcpStream) -> Instant {
    echo(&mut stream).unwrap();
    let first = Instant::now();
    for _ in 0..ECHOES {
        echo(&mut stream).unwrap();
    }
    first
}

/// A machine that moves to the other hypervisor takes its connections and its identity with it.
fn machine_moves(lab: &Lab) {
    let (api, db, web) = (lab.machine(API), lab.machine(DB), lab.machine(WEB));
    // One stays in the segment, the other goes by the router.
    let mut near = connect(&db.ns, api.end.ipv4.into(), 443, PATIENCE).unwrap();
    let mut far = connect(&web.ns, api.end.ipv6.into(), 443, PATIENCE).unwrap();
    for stream in [&mut near, &mut far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        echo(stream).unwrap();
    }
    // Its old port stays, in the hands of somebody else; its sockets live on.
    let [old, new] = [&lab.hypervisors[0], &lab.hypervisors[1]];
    let twin = NetNs::new("twin").unwrap();
    api.ns.move_link(HOST_LINK, &twin).unwrap();
    twin.set_mac(HOST_LINK, api.end.mac).unwrap();
    twin.set_up(HOST_LINK).unwrap();
    old.forget(api).unwrap();
    lab.plug(api, 1).unwrap();
    let appeared = Instant::now();
    let announcing = RawSocket::open(&api.ns, HOST_LINK).unwrap();
    let resumed = thread::scope(|scope| {
        let talks = [near, far].map(|stream| scope.spawn(move || speaks(stream)));
        // As a hypervisor does for a machine that has come, and its kernel for an address.
        let announcement = Frame::new(api.end.mac, BROADCAST).gratuitous_arp(api.end.ipv4);
        let is_over = || talks.iter().all(ScopedJoinHandle::is_finished);
        loop {
            announcing.send(&announcement.build()).unwrap();
            if wait_at_most(ANNOUNCE_EVERY, "answers", || is_over().then_some(())).is_ok() {
                break;
            }
        }
        talks.map(|talk| talk.join().unwrap())
    });
    for (what, at) in ["in the segment", "by the router"].iter().zip(resumed) {
        eprintln!(
            "{what}: an answer {:?} after the port appeared",
            at - appeared
        );
    }
    new.wait_until_bound(api, Some(&lab.endpoint(api))).unwrap();
    old.wait_until_bound(api, None).unwrap();
    old_port_is_nobodys(lab, &twin);
}

/// Whoever has the port that a machine moved away from cannot be that machine.
fn old_port_is_nobodys(lab: &Lab, twin: &NetNs) {
    let (api, db) = (lab.machine(API), lab.machine(DB));
    let socket = RawSocket::open(twin, HOST_LINK).unwrap();
    let at_db = RawSocket::open(&db.ns, HOST_LINK).unwrap();
    let honest = Frame::new(api.end.mac, db.end.mac).ipv4(api.end.ipv4, db.end.ipv4);
    let honest = honest.tcp(4000, 5432, tcp_flag::SYN).build();
    let unknown = || {
        let dropped = lab.hypervisors[0].dropped(0).unwrap();
        dropped.get("unknown-port").copied().unwrap_or(0)
    };
    let before = unknown();
    socket.send(&honest).unwrap();
    let counted = wait_at_most(PATIENCE, "the drop", || (unknown() > before).then_some(()));
    assert!(counted.is_ok(), "the old port sends as the machine");
    let same = |got: &[u8]| got.starts_with(&honest).then_some(());
    let got = at_db.receive_where(Instant::now() + SILENCE, same).unwrap();
    assert!(got.is_none(), "the old port reaches its neighbour");
    // The same frame, from where the machine is now.
    let here = RawSocket::open(&api.ns, HOST_LINK).unwrap();
    here.send(&honest).unwrap();
    let got = at_db
        .receive_where(Instant::now() + PATIENCE, same)
        .unwrap();
    assert!(got.is_some(), "the machine is not heard where it is");
}

/// Octets that are sent to measure a connection. The processor may be emulated.
const AMOUNT: usize = 1 << 20;

/// Sends much, and waits until all of it has come back.
fn carry(from: &Machine, to: &Machine, port: u16) -> Result<Duration> {
    let mut stream = connect(&from.ns, to.end.ipv4.into(), port, PATIENCE)?;
    let mut reader = stream.try_clone()?;
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let block = [7; 1 << 16];
            (0..AMOUNT / block.len()).try_for_each(|_| stream.write_all(&block))
        });
        let (mut buffer, mut left) = (vec![0; 1 << 16], AMOUNT);
        while left > 0 {
            let octets = reader.read(&mut buffer)?;
            ensure!(octets > 0, "the connection ended");
            left = left.saturating_sub(octets);
        }
        Ok(begin.elapsed())
    })
}

/// Throughput with the programs of both walls, and without those of the hypervisors.
fn print_throughput(mut lab: Lab) {
    let measure = |lab: &Lab| -> [Duration; 2] {
        let api = lab.machine(API);
        [DB, WEB].map(|from| {
            let times = (0..3).map(|_| carry(lab.machine(from), api, 443).unwrap());
            times.min().unwrap()
        })
    };
    let with = measure(&lab);
    lab.detach_hypervisors().unwrap();
    let without = measure(&lab);
    let ways = ["in the segment", "by the router"];
    for (what, (with, without)) in ways.iter().zip(with.iter().zip(without)) {
        let ratio = without.as_secs_f64() / with.as_secs_f64();
        eprintln!(
            "{what}: {AMOUNT} octets there and back in {with:?}, without in {without:?}: throughput {ratio:.2} times"
        );
    }
}

// To build a site takes a minute of an emulated processor: one for each way to attach the router's program.

#[test]
fn both_walls_hold_and_follow_a_machine_that_moves_with_native_xdp_on_the_router() {
    let lab = Lab::build(Router::Xdp).unwrap();
    lab.is_as_it_should_be().unwrap();
    internet_sees_only_the_uplink(&lab);
    everybody_reaches_what_the_inventory_allows(&lab);
    forgeries_reach_nobody(&lab);
    machine_moves(&lab);
}

#[test]
fn both_walls_hold_with_tc_on_the_router_and_segmentation_left_to_the_receiver() {
    let lab = Lab::build(Router::Tc).unwrap();
    forgeries_reach_nobody(&lab);
    serve(&lab.machine(API).ns, 443).unwrap();
    print_throughput(lab);
}
