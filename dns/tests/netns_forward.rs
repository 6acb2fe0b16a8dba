//! Names of others: real clients, the daemon, and a resolver outside that counts what it is asked. Each in a
//! network namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "conformance/support.rs"]
#[allow(dead_code, reason = "every test program uses its own part")]
mod support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use netmodel::published;
use support::small;
use testkit::netns::NetNs;
use testkit::wait::wait_for;

const GATEWAY_A: &str = "10.1.0.1";
const GATEWAY_B: &str = "10.1.0.65";
const UPSTREAM: &str = "198.51.100.53";
const SITE: &str = "\
site_name: east
site_domain: lab.example
site_segments: {management: {vlan_id: 99, subnet: 10.0.99.0/24}}
firewall_internet_zones: [tenants]
platform_gateway_services: [dhcp, dns]
tenant_pool: {vlan_ids: 100-110}
tenant_defaults: {services: [], internet: none}
tenants:
  a: {vlan_id: 100, subnet: 10.1.0.0/26, internet: nat}
  b: {vlan_id: 101, subnet: 10.1.0.64/26}
";
const TENANT_A: &str = "
tenant_name: a
tenant_dns_records:
  - {name: out, type: CNAME, value: www.example.org.}
";

/// A resolver outside.
#[derive(Clone, Default)]
struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
    over_tcp: Arc<AtomicUsize>,
}

impl Upstream {
    /// Answers until the process ends; its sockets are in the namespace.
    fn start(&self, ns: &NetNs) {
        let (udp, tcp) = ns.run(|| {
            let udp = UdpSocket::bind((UPSTREAM, 53)).unwrap();
            (udp, TcpListener::bind((UPSTREAM, 53)).unwrap())
        });
        let own = self.clone();
        std::thread::spawn(move || {
            let mut octets = [0; 512];
            while let Ok((length, peer)) = udp.recv_from(&mut octets) {
                let _ = udp.send_to(&own.reply(&octets[..length], false), peer);
            }
        });
        let own = self.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                own.over_tcp.fetch_add(1, Ordering::Relaxed);
                let reply = own.reply(&question, true);
                let length = u16::try_from(reply.len()).unwrap().to_be_bytes();
                stream.write_all(&[&length[..], &reply].concat()).unwrap();
            }
        });
    }

    fn reply(&self, question: &[u8], is_tcp: bool) -> Vec<u8> {
        let mut message = Message::from_vec(question).unwrap();
        let query = message.queries.first().unwrap().clone();
        let name = query.name().to_string();
        self.asked.lock().unwrap().push(name.clone());
        message.metadata.message_type = MessageType::Response;
        message.edns = None;
        let mut add = |data: &str| {
            let data = RData::try_from_str(RecordType::A, data).unwrap();
            message
                .answers
                .push(Record::from_rdata(query.name().clone(), 60, data));
        };
        match name.as_str() {
            "www.example.org." => add("198.18.0.1"),
            "rebind.example.org." => ["10.0.99.1", "127.0.0.1", "198.18.0.2"]
                .into_iter()
                .for_each(add),
            "big.example.org." if !is_tcp => message.metadata.truncation = true,
            "big.example.org." => (0..200).for_each(|octet| add(&format!("198.18.1.{octet}"))),
            _ => message.metadata.response_code = ResponseCode::NXDomain,
        }
        message.to_vec().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

struct Lab {
    daemon: Child,
    upstream: Upstream,
    _folder: tempfile::TempDir,
    _router: NetNs,
    a: NetNs,
    b: NetNs,
    _outside: NetNs,
}

impl Lab {
    fn new() -> Self {
        let ns = |role| NetNs::new(role).expect("root can make a namespace");
        let (router, a, b, outside) = (ns("router"), ns("a"), ns("b"), ns("outside"));
        let links = [
            (&a, "a", GATEWAY_A, "10.1.0.10", 26),
            (&b, "b", GATEWAY_B, "10.1.0.70", 26),
            (&outside, "wan", "198.51.100.1", UPSTREAM, 24),
        ];
        for (client, name, gateway, address, length) in links {
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            router.add_veth(name, client, "eth0").unwrap();
            router.set_up(name).unwrap();
            client.set_up("eth0").unwrap();
            router.add_address(name, ip(gateway), length).unwrap();
            client.add_address("eth0", ip(address), length).unwrap();
            client.wait_until_up("eth0").unwrap();
        }
        let upstream = Upstream::default();
        upstream.start(&outside);
        let folder = tempfile::tempdir().unwrap();
        let published = small(SITE, &[("a", TENANT_A), ("b", "tenant_name: b\n")]);
        let path = |name: &str| folder.path().join(name);
        published::write(&path("generation"), &published.to_bytes(), 0o640).unwrap();
        let mut command = router.command(env!("CARGO_BIN_EXE_bulkhead-dns"));
        for option in ["generation", "keys", "journal"] {
            command.arg(format!("--{option}")).arg(path(option));
        }
        command
            .args(["--workers", "1", "--upstream", UPSTREAM])
            .stderr(Stdio::null());
        let lab = Self {
            daemon: command.spawn().unwrap(),
            upstream,
            _folder: folder,
            _router: router,
            a,
            b,
            _outside: outside,
        };
        wait_for("the daemon to answer", || {
            lab.dig(&lab.a, GATEWAY_A, &["a.east.lab.example", "SOA"])
                .contains("NOERROR")
                .then_some(())
        })
        .unwrap();
        lab
    }

    fn dig(&self, client: &NetNs, server: &str, arguments: &[&str]) -> String {
        let mut command = client.command("dig");
        command.args([&format!("@{server}"), "+time=5", "+tries=1"]);
        let output = command
            .args(arguments)
            .output()
            .expect("dig (Debian: bind9-dnsutils)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn names_of_others_are_answered_kept_and_cleaned_and_only_for_who_may() {
    let lab = Lab::new();
    let from_a = |arguments: &[&str]| lab.dig(&lab.a, GATEWAY_A, arguments);
    let reply = from_a(&["www.example.org", "A"]);
    assert!(
        reply.contains("198.18.0.1") && reply.contains(" ra") && !reply.contains(" aa"),
        "{reply}"
    );
    let again = from_a(&["WWW.example.org", "A"]);
    assert!(again.contains("198.18.0.1"), "{again}");
    assert_eq!(
        lab.upstream.asked(),
        ["www.example.org."],
        "the second answer is from the cache"
    );

    let alias = from_a(&["out.a.east.lab.example", "A"]);
    assert!(
        alias.contains("CNAME\twww.example.org.") && alias.contains("198.18.0.1"),
        "{alias}"
    );
    assert_eq!(
        lab.upstream.asked().len(),
        1,
        "and so is what an alias leads to"
    );

    let rebind = from_a(&["rebind.example.org", "A", "+short"]);
    assert_eq!(
        rebind.trim(),
        "198.18.0.2",
        "private addresses are taken out"
    );
    let absent = from_a(&["nowhere.example.org", "A"]);
    assert!(absent.contains("NXDOMAIN"), "{absent}");

    // A tenant without the internet asks nobody, and neither does anybody about the site.
    let count = lab.upstream.asked().len();
    let closed = lab.dig(&lab.b, GATEWAY_B, &["www.example.org", "A"]);
    assert!(closed.contains("REFUSED"), "{closed}");
    from_a(&["-x", "10.0.99.1"]);
    from_a(&["nowhere.east.lab.example", "A"]);
    assert_eq!(lab.upstream.asked().len(), count);
}

#[test]
fn what_does_not_fit_udp_goes_over_tcp_on_both_sides() {
    let lab = Lab::new();
    let reply = lab.dig(&lab.a, GATEWAY_A, &["big.example.org", "A", "+short"]);
    assert_eq!(reply.lines().count(), 200, "{reply}");
    // What is so long is not kept: the client has asked over UDP first, and then over TCP.
    assert_eq!(lab.upstream.over_tcp.load(Ordering::Relaxed), 2);
    let cut = lab.dig(&lab.a, GATEWAY_A, &["big.example.org", "A", "+ignore"]);
    assert!(cut.contains(" tc ") && cut.contains("ANSWER: 0"), "{cut}");
}
