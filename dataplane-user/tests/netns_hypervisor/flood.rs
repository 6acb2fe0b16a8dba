//! A machine that floods takes from its neighbours neither an answer nor a connection: one of the same tenant, and one of another.
//!
//! The frames of the neighbours are made here, so that no retransmission hides a loss. `BULKHEAD_FLOOD_SECONDS` is how long each
//! of the floods lasts.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::frame::{BROADCAST, Frame, tcp_flag};
use testkit::raw::RawSocket;

use super::host::{Lab, Machine, UPLINK, receives};
use super::{API, DB, WEB};

/// A third machine of the first tenant.
const MQTT: &str = "grooveiq-mqtt01";
/// Somebody on the internet.
const SERVER: Ipv4Addr = Ipv4Addr::new(3, 232, 0, 53);
/// So few that a flood is through all of them in a second. Each port has 256: enough for what the neighbours make here.
const CONNECTIONS: &str = "16384";
/// Connections of each neighbour, made before and used after.
const KEPT: u16 = 20;
/// Frames between two pauses of a millisecond: about 20,000 a second.
const BURST: u32 = 20;
/// Between two rounds of pings.
const PAUSE: Duration = Duration::from_millis(50);
/// VLAN ids of the flooding machine's tenant and of another.
const OWN: u16 = 100;
const OTHER: u16 = 101;

/// Makes the `n`th frame of a flood.
type Flood = fn(&Scene, u32) -> Vec<u8>;
const FLOODS: [(&str, Flood); 7] = [
    ("broadcast", broadcast),
    ("ARP", arp),
    ("DHCP", dhcp),
    ("SYN to random ports", syn),
    ("flows to the internet", flow),
    ("flows to a neighbour", flow_to_neighbour),
    ("random MACs", random_macs),
];

/// One machine floods; the others are its neighbours, and an end of their pings.
struct Scene {
    lab: Lab,
    attacker: Machine,
    at_attacker: RawSocket,
    friend: (Machine, RawSocket),
    friends_peer: (Machine, RawSocket),
    stranger: (Machine, RawSocket),
    trunk: RawSocket,
    router_mac: [u8; 6],
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        let (attacker, at_attacker) = lab.start_machine(API, 101);
        let friend = lab.start_machine(DB, 102);
        let friends_peer = lab.start_machine(MQTT, 103);
        let stranger = lab.start_machine(WEB, 104);
        lab.bulkhead(&["apply", "--yes", "--connections", CONNECTIONS], 0);
        Self {
            trunk: lab.socket(UPLINK),
            router_mac: lab.router_mac(),
            lab,
            attacker,
            at_attacker,
            friend,
            friends_peer,
            stranger,
        }
    }

    /// A neighbour's packet to the server. (Not every kernel's bridge can add the tag that it needs on the trunk, so what counts is
    /// the verdict.)
    fn send(&self, (from, socket): &(Machine, RawSocket), packet: impl Fn(Frame) -> Frame) {
        let frame = Frame::new(from.mac, self.router_mac).ipv4(from.ipv4, SERVER);
        socket.send(&packet(frame).build()).unwrap();
    }

    /// The server's packet to a neighbour, as the router passes it on. It opens nothing.
    fn answer(&self, (to, _): &(Machine, RawSocket), vlan: u16, packet: impl Fn(Frame) -> Frame) {
        let frame = Frame::new(self.router_mac, to.mac)
            .vlan(vlan)
            .ipv4(SERVER, to.ipv4);
        self.trunk.send(&packet(frame).build()).unwrap();
    }

    /// Frames that were let through, from each of the two VLANs' machines and from the trunk.
    fn passed(&self) -> [[u64; 2]; 2] {
        let status = self.lab.status();
        let rows = status["counters"].as_array().unwrap();
        [OWN, OTHER].map(|vlan| {
            ["from_tenant", "from_uplink"].map(|direction| {
                let rows = rows.iter().filter(|row| {
                    row["vlan_id"] == vlan
                        && row["direction"] == direction
                        && row["outcome"] == "to-kernel"
                });
                rows.map(|row| row["packets"].as_u64().unwrap()).sum()
            })
        })
    }

    /// Makes connections of the neighbours to the server, from this port on.
    fn connect(&self, first: u16) {
        for port in first..first + KEPT {
            for (who, vlan) in [(&self.friend, OWN), (&self.stranger, OTHER)] {
                self.send(who, |frame| frame.tcp(port, 443, tcp_flag::SYN));
                self.answer(who, vlan, |frame| {
                    frame.tcp(443, port, tcp_flag::SYN | tcp_flag::ACK)
                });
                self.send(who, |frame| frame.tcp(port, 443, tcp_flag::ACK));
            }
        }
    }

    /// Do packets of the server pass in each of those connections?
    #[track_caller]
    fn expect_connected(&self, first: u16, what: &str) {
        let [[_, own], [_, other]] = self.passed();
        for port in first..first + KEPT {
            for (who, vlan) in [(&self.friend, OWN), (&self.stranger, OTHER)] {
                self.answer(who, vlan, |frame| frame.tcp(443, port, tcp_flag::ACK));
            }
        }
        let [[_, own_after], [_, other_after]] = self.passed();
        let passed = [own_after - own, other_after - other];
        assert_eq!(
            passed,
            [u64::from(KEPT); 2],
            "{what}: of {KEPT} connections each"
        );
    }

    /// Pings of both neighbours for as long as a flood lasts; returns how many the same tenant's made, and the slowest answer.
    fn ping(&self, what: &str) -> (u16, Duration) {
        let (mut count, mut slowest) = (0, Duration::ZERO);
        let [_, before] = self.passed();
        let end = Instant::now() + seconds();
        while Instant::now() < end {
            count += 1;
            let start = Instant::now();
            let ((friend, at_friend), (peer, at_peer)) = (&self.friend, &self.friends_peer);
            let ping = Frame::new(friend.mac, peer.mac).ipv4(friend.ipv4, peer.ipv4);
            let pong = Frame::new(peer.mac, friend.mac).ipv4(peer.ipv4, friend.ipv4);
            let (ping, pong) = (
                ping.echo_request(7, count).build(),
                pong.echo_reply(7, count).build(),
            );
            at_friend.send(&ping).unwrap();
            assert!(receives(at_peer, &ping), "{what}: ping {count} was lost");
            at_peer.send(&pong).unwrap();
            assert!(
                receives(at_friend, &pong),
                "{what}: the answer to ping {count} was lost"
            );
            slowest = slowest.max(start.elapsed());
            self.send(&self.stranger, |frame| frame.echo_request(8, count));
            self.answer(&self.stranger, OTHER, |frame| frame.echo_reply(8, count));
            std::thread::park_timeout(PAUSE);
        }
        let [_, after] = self.passed();
        let passed = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(
            passed,
            [u64::from(count); 2],
            "{what}: of another tenant's {count} pings"
        );
        (count, slowest)
    }
}

fn seconds() -> Duration {
    let seconds = std::env::var("BULKHEAD_FLOOD_SECONDS");
    Duration::from_secs(seconds.map_or(5, |seconds| seconds.parse().unwrap()))
}

#[test]
fn flooding_machine_takes_no_answer_and_no_connection_from_its_neighbours() {
    let scene = Scene::new();
    scene.connect(1000);
    scene.expect_connected(1000, "before");
    for (at, (what, flood)) in FLOODS.into_iter().enumerate() {
        let stop = AtomicBool::new(false);
        let first = 2000 + 100 * u16::try_from(at).unwrap();
        let (sent, count, slowest) = std::thread::scope(|threads| {
            let flooding = threads.spawn(|| send_flood(&scene, flood, &stop));
            let (count, slowest) = scene.ping(what);
            // Those that are made meanwhile are theirs, too.
            scene.connect(first);
            stop.store(true, Ordering::Relaxed);
            (flooding.join().unwrap(), count, slowest)
        });
        assert!(sent > 1000, "{what}: only {sent} frames were sent");
        eprintln!(
            "{what}: {sent} frames; of {count} pings none was lost, the slowest took {slowest:?}"
        );
        scene.expect_connected(1000, what);
        scene.expect_connected(first, what);
    }
    assert!(
        scene.lab.dropped("rate-limited") > 1000,
        "{}",
        scene.lab.status()
    );
}

/// Sends until it is told to stop; returns how many frames.
fn send_flood(scene: &Scene, flood: Flood, stop: &AtomicBool) -> u32 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            let frame = flood(scene, sent);
            // The queue may be full.
            sent += u32::from(scene.at_attacker.send(&frame).is_ok());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    sent
}

/// A port for the `n`th frame: 251 is coprime to the number of ports, so each comes before any comes again.
fn port(n: u32) -> u16 {
    u16::try_from(n.wrapping_mul(251) % 60_000).unwrap() + 1024
}

fn broadcast(scene: &Scene, n: u32) -> Vec<u8> {
    let attacker = scene.attacker;
    let frame = Frame::new(attacker.mac, BROADCAST).ipv4(attacker.ipv4, Ipv4Addr::BROADCAST);
    frame.udp(port(n), 9).build()
}

fn arp(scene: &Scene, n: u32) -> Vec<u8> {
    let attacker = scene.attacker;
    let [.., last] = n.to_be_bytes();
    let target = Ipv4Addr::from([10, 100, 0, last]);
    Frame::new(attacker.mac, BROADCAST)
        .arp_request(attacker.ipv4, target)
        .build()
}

fn dhcp(scene: &Scene, _: u32) -> Vec<u8> {
    Frame::new(scene.attacker.mac, BROADCAST)
        .dhcp_discover()
        .build()
}

fn syn(scene: &Scene, n: u32) -> Vec<u8> {
    let (from, (to, _)) = (scene.attacker, &scene.friend);
    let frame = Frame::new(from.mac, to.mac).ipv4(from.ipv4, to.ipv4);
    frame.tcp(port(n / 7), port(n), tcp_flag::SYN).build()
}

fn flow(scene: &Scene, n: u32) -> Vec<u8> {
    let from = scene.attacker;
    let frame = Frame::new(from.mac, scene.router_mac).ipv4(from.ipv4, SERVER);
    frame.udp(port(n), 443).build()
}

fn flow_to_neighbour(scene: &Scene, n: u32) -> Vec<u8> {
    let (from, (to, _)) = (scene.attacker, &scene.friend);
    let frame = Frame::new(from.mac, to.mac).ipv4(from.ipv4, to.ipv4);
    frame.udp(port(n), port(n / 7)).build()
}

fn random_macs(scene: &Scene, n: u32) -> Vec<u8> {
    let [a, b, c, d] = n.to_be_bytes();
    Frame::new([2, 9, a, b, c, d], BROADCAST)
        .arp_request(scene.attacker.ipv4, scene.friend.0.ipv4)
        .build()
}
