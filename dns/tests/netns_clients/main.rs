//! Real clients (dig, kdig, nsupdate, knsupdate, octodns, lexicon, certbot, unbound) of two tenants, each in a network namespace of its own,
//! and the daemon on the router between them. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod api;
mod dnssec;
mod dot;
mod keys;
mod lab;
mod leases;
mod resolver;
#[path = "../conformance/support.rs"]
#[allow(dead_code, reason = "every test program uses its own part")]
mod support;
mod updaters;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use lab::{GATEWAY_A, GATEWAY_B, Lab, RECORDS, ZONE, run, text};
use support::{SECRET, question, two_tenants};
use testkit::netns::NetNs;
use testkit::peers;
use testkit::wait::{PATIENCE, wait_for};

/// Types that the lab's own records do not have.
const MORE_RECORDS: &str = "
  - {name: six, type: AAAA, value: 'fd00:1::66'}
  - {name: ptr, type: PTR, value: web}
  - {name: _dns, type: SVCB, value: 1 web port=853}
  - {name: https, type: HTTPS, value: 1 . port=8443}
  - {name: _443._tcp.web, type: TLSA, value: 3 1 1 0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9}
  - {name: web, type: SSHFP, value: 4 1 0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d}
";

#[test]
fn dig_and_kdig_read_every_type_over_udp_and_tcp_in_both_families() {
    let lab = Lab::started();
    let at = format!("@{GATEWAY_A}");
    lab.publish_with(2, |model| {
        *model = two_tenants(&format!("{RECORDS}{MORE_RECORDS}")).model;
    });
    wait_for("the new generation", || {
        let soa = lab.dig(&lab.a, &[&at, "+short", ZONE, "SOA"]);
        soa.contains("example. 2 ").then_some(())
    })
    .unwrap();
    let rows = [
        ("six", "AAAA", "fd00:1::66"),
        ("ptr", "PTR", "web.a.east.lab.example."),
        ("_dns", "SVCB", "1 web.a.east.lab.example. port=853"),
        ("https", "HTTPS", "1 . port=8443"),
        ("_443._tcp.web", "TLSA", "3 1 1 0a1b2c3d4e5f6071"),
        ("web", "SSHFP", "4 1 0a1b2c3d4e5f6071"),
        ("web", "A", "10.1.0.10"),
        ("www", "A", "web.a.east.lab.example."),
        ("", "MX", "10 web.a.east.lab.example."),
        ("txt", "TXT", "\"hello world\""),
        ("_sip._tcp", "SRV", "0 5 5060 web.a.east.lab.example."),
        ("", "CAA", "0 issue \"ca.example\""),
        ("", "NS", "ns.east.lab.example."),
        (
            "",
            "SOA",
            "ns.east.lab.example. hostmaster.east.lab.example. 2 ",
        ),
    ];
    for program in ["dig", "kdig"] {
        for server in [GATEWAY_A, "fd00:1::1"] {
            for transport in ["+notcp", "+tcp"] {
                for (name, kind, expected) in rows {
                    let name = format!("{name}.{ZONE}");
                    let name = name.trim_start_matches('.');
                    let at = format!("@{server}");
                    let output = run(
                        lab.a
                            .command(program)
                            .args([&at, transport, "+short", name, kind]),
                        "",
                    );
                    let found = text(&output);
                    assert!(
                        found.to_lowercase().contains(&expected.to_lowercase()),
                        "{program} {server} {transport} {name} {kind}: {found}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_client_sees_by_its_segment_and_not_by_the_address_that_it_asks() {
    let lab = Lab::started();
    let full = |client: &NetNs, server: &str, name: &str| {
        lab.dig(
            client,
            &[
                &format!("@{server}"),
                "+norecurse",
                "+noall",
                "+comments",
                "+answer",
                name,
                "A",
            ],
        )
    };
    let own = full(&lab.a, GATEWAY_A, &format!("web.{ZONE}"));
    assert!(
        own.contains("status: NOERROR") && own.contains(" aa;"),
        "{own}"
    );
    let foreign = full(&lab.b, GATEWAY_B, &format!("web.{ZONE}"));
    assert!(foreign.contains("status: NXDOMAIN"), "{foreign}");
    let other = full(&lab.a, GATEWAY_A, "only-b.b.east.lab.example");
    assert!(other.contains("status: NXDOMAIN"), "{other}");
    let outside = full(&lab.a, GATEWAY_A, "www.example.org");
    assert!(outside.contains("status: REFUSED"), "{outside}");
    let transfer = lab.dig(&lab.a, &[&format!("@{GATEWAY_A}"), ZONE, "AXFR"]);
    assert!(transfer.contains("Transfer failed"), "{transfer}");
}

#[test]
fn nsupdate_and_knsupdate_change_their_own_zone_and_read_it_back() {
    let lab = Lab::started();
    let at = format!("@{GATEWAY_A}");
    for (program, label) in [("nsupdate", "one"), ("knsupdate", "two")] {
        let name = format!("{label}.{ZONE}");
        let script = format!(
            "server {GATEWAY_A}\nzone {ZONE}.\nupdate add {name}. 77 A 10.1.0.20\n\
             update add _acme-challenge.{name}. 60 TXT \"token\"\nsend\n"
        );
        let (is_good, output) = lab.update(program, &lab.a, "a-tf", &script);
        assert!(is_good, "{program}: {output}\n{}", lab.log());
        let answer = lab.dig(&lab.a, &[&at, "+noall", "+answer", &name, "A"]);
        assert!(answer.contains("77\tIN\tA\t10.1.0.20"), "{answer}");
        let signed = format!("hmac-sha256:a-tf:{SECRET}");
        let answer = lab.dig(
            &lab.a,
            &[
                &at,
                "-y",
                &signed,
                "+norecurse",
                &format!("_acme-challenge.{name}"),
                "TXT",
            ],
        );
        assert!(
            answer.contains("\"token\"") && answer.contains("TSIG PSEUDOSECTION"),
            "{answer}"
        );
        assert!(!answer.contains("ould"), "dig could verify it: {answer}");
        let script = format!(
            "server {GATEWAY_A}\nzone {ZONE}.\nprereq yxrrset {name}. A\nupdate delete {name}. A\nsend\n"
        );
        let (is_good, output) = lab.update(program, &lab.a, "a-tf", &script);
        assert!(is_good, "{program}: {output}");
        let answer = lab.dig(&lab.a, &[&at, "+noall", "+comments", &name, "A"]);
        // The name stays: its challenge is below it.
        assert!(
            answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"),
            "{answer}"
        );
        let (is_good, output) = lab.update(program, &lab.a, "a-tf", &script);
        assert!(
            !is_good && output.contains("NXRRSET"),
            "{program}: {output}"
        );
    }
    // Its own reverse zone, of a /26.
    let script = format!(
        "server {GATEWAY_A}\nzone 0/26.0.1.10.in-addr.arpa.\n\
         update add 20.0/26.0.1.10.in-addr.arpa. 60 PTR one.{ZONE}.\nsend\n"
    );
    let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script);
    assert!(is_good, "{output}");
    let answer = lab.dig(&lab.a, &[&at, "+short", "-x", "10.1.0.20"]);
    assert!(answer.contains(&format!("one.{ZONE}.")), "{answer}");
}

/// The key of tenant `a` with a secret that is not its own.
const OTHER_SECRET: &str = "hmac-sha256:a-tf:YW5vdGhlciBzZWNyZXQgb2YgMzIgb2N0ZXRzICEhISE=";

#[test]
fn updates_out_of_scope_are_refused_with_the_code_that_says_why() {
    let lab = Lab::started();
    let add = |zone: &str, name: &str| {
        format!("server {GATEWAY_A}\nzone {zone}.\nupdate add {name}. 60 A 10.1.0.20\nsend\n")
    };
    let good = add(ZONE, &format!("x.{ZONE}"));
    let rows = [
        ("an unknown key", "nobody", good.clone(), "BADKEY"),
        ("the key of another tenant", "b-tf", good.clone(), "REFUSED"),
        (
            "a zone that it does not see",
            "a-tf",
            add("b.east.lab.example", "x.b.east.lab.example"),
            "NOTAUTH",
        ),
        (
            "the site's zone",
            "a-tf",
            add("east.lab.example", "x.east.lab.example"),
            "REFUSED",
        ),
        (
            "another's reverse",
            "a-tf",
            format!(
                "server {GATEWAY_A}\nzone 64/26.0.1.10.in-addr.arpa.\n\
                 update add 70.64/26.0.1.10.in-addr.arpa. 60 PTR x.{ZONE}.\nsend\n"
            ),
            "NOTAUTH",
        ),
        (
            "a name of another zone",
            "a-tf",
            add(ZONE, "x.b.east.lab.example"),
            "NOTZONE",
        ),
        (
            "a name of the inventory",
            "a-tf",
            add(ZONE, &format!("web.{ZONE}")),
            "REFUSED",
        ),
        (
            "the apex",
            "a-tf",
            format!(
                "server {GATEWAY_A}\nzone {ZONE}.\nupdate add {ZONE}. 60 NS x.example.\nsend\n"
            ),
            "REFUSED",
        ),
    ];
    for program in ["nsupdate", "knsupdate"] {
        for (what, key, script, code) in &rows {
            let (is_good, output) = lab.update(program, &lab.a, key, script);
            let is_refused = !is_good && output.contains(code);
            assert!(is_refused, "{program}, {what}: {output}");
        }
        let (is_good, output) = lab.update_with(program, &lab.a, OTHER_SECRET, &good);
        let is_refused = !is_good && output.contains("BADSIG");
        assert!(is_refused, "{program}, another secret: {output}");
        let mut unsigned = lab.a.command(program);
        let output = run(&mut unsigned, &good);
        assert!(text(&output).contains("REFUSED"), "{}", text(&output));
    }
    let answer = lab.dig(
        &lab.a,
        &[
            &format!("@{GATEWAY_A}"),
            "+noall",
            "+comments",
            &format!("x.{ZONE}"),
            "A",
        ],
    );
    assert!(answer.contains("NXDOMAIN"), "nothing was changed: {answer}");
}

#[test]
fn an_update_that_was_signed_ten_minutes_ago_is_badtime() {
    let mut lab = Lab::new();
    // The daemon's clock is ahead, since nsupdate's allocator and the library do not go together. Time that is waited for is
    // as it was: Rust hands it to the kernel as it is.
    lab.environment = vec![
        ("LD_PRELOAD", peers::faketime().unwrap()),
        ("FAKETIME", "+10m".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    lab.start();
    let script =
        format!("server {GATEWAY_A}\nzone {ZONE}.\nupdate add x.{ZONE}. 60 A 10.1.0.20\nsend\n");
    for program in ["nsupdate", "knsupdate"] {
        let (is_good, output) = lab.update(program, &lab.a, "a-tf", &script);
        let is_refused = !is_good && output.contains("BADTIME");
        assert!(is_refused, "{program}: {output}\n{}", lab.log());
    }
    let at = format!("@{GATEWAY_A}");
    let answer = lab.dig(&lab.a, &[&at, "+short", &format!("x.{ZONE}"), "A"]);
    assert_eq!(answer, "", "nothing was changed");
}

#[test]
fn a_new_generation_is_taken_over_without_a_lost_query() {
    let lab = Lab::started();
    let socket = lab.a.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((GATEWAY_A, 53)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        socket
    });
    let is_done = AtomicBool::new(false);
    let asked = AtomicU32::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let message = question(&format!("web.{ZONE}"), 1);
            let mut reply = [0; 512];
            while !is_done.load(Ordering::Relaxed) {
                socket.send(&message).unwrap();
                let length = socket.recv(&mut reply).expect("every query is answered");
                assert_eq!(
                    Message::from_vec(&reply[..length]).unwrap().answers.len(),
                    1
                );
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let switched: Vec<_> = (2..12u32)
            .map(|number| {
                lab.publish(number);
                let at = format!("@{GATEWAY_A}");
                wait_for("the new serial", || {
                    let soa = lab.dig(&lab.a, &[&at, "+short", ZONE, "SOA"]);
                    soa.contains(&format!("example. {number} ")).then_some(())
                })
            })
            .collect();
        // What cannot be read leaves the old one.
        std::fs::write(lab.path("generation"), "{}").unwrap();
        let complained = wait_for("the complaint", || {
            lab.log().contains("is damaged").then_some(())
        });
        is_done.store(true, Ordering::Relaxed);
        assert!(
            switched.iter().all(Result::is_ok) && complained.is_ok(),
            "{}",
            lab.log()
        );
    });
    assert!(asked.load(Ordering::Relaxed) > 100);
    let soa = lab.dig(&lab.a, &[&format!("@{GATEWAY_A}"), "+short", ZONE, "SOA"]);
    assert!(soa.contains("example. 11 "), "{soa}");
}

/// An update that adds `n<number>`, signed now.
fn signed_update(number: u32) -> Vec<u8> {
    let zone = Name::from_ascii(format!("{ZONE}.")).unwrap();
    let mut message = Message::new(7, MessageType::Query, OpCode::Update);
    message.add_query(Query::query(zone.clone(), RecordType::SOA));
    let name = zone.prepend_label(format!("n{number}").as_str()).unwrap();
    let data = RData::try_from_str(RecordType::A, "10.1.0.33").unwrap();
    message.authorities = vec![Record::from_rdata(name, 60, data)];
    let secret = b"not a secret, only an example !!".to_vec();
    let key = Name::from_ascii("a-tf.").unwrap();
    let signer = TSigner::new(secret, TsigAlgorithm::HmacSha256, key, 300).unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    message.finalize(&signer, now).unwrap();
    message.to_vec().unwrap()
}

/// Sends over a TCP connection; the reply, unless the connection ended.
fn exchange(stream: &mut TcpStream, message: &[u8]) -> Option<Message> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Message::from_vec(&reply).ok()
}

/// How many updates the test of kill -9 sends; others by this variable of the environment.
const UPDATES_VARIABLE: &str = "BULKHEAD_DNS_UPDATES";

/// Sends updates, each number once, over connections that end whenever the daemon does; gives the
/// numbers that were answered NOERROR.
fn send_updates(client: &NetNs, next: &AtomicU32, answered: &AtomicU32, last: u32) -> Vec<u32> {
    let mut good = Vec::new();
    let mut stream = None;
    while next.load(Ordering::Relaxed) < last {
        if stream.is_none() {
            stream = client.run(|| TcpStream::connect((GATEWAY_A, 53))).ok();
        }
        let Some(open) = &mut stream else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let number = next.fetch_add(1, Ordering::Relaxed);
        match exchange(open, &signed_update(number)) {
            Some(reply) => {
                assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
                good.push(number);
                answered.fetch_add(1, Ordering::Relaxed);
            }
            // It may have been done, and may not: nobody was told.
            None => stream = None,
        }
    }
    good
}

#[test]
fn no_update_that_was_answered_is_lost_when_the_daemon_is_killed() {
    const CLIENTS: u32 = 8;
    const KILLS: u32 = 5;
    let all = std::env::var(UPDATES_VARIABLE).map_or(10_000, |text| text.parse().unwrap());
    let lab = Lab::started();
    let (next, answered) = (AtomicU32::new(0), AtomicU32::new(0));
    let good: Vec<u32> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| send_updates(&lab.a, &next, &answered, all)))
            .collect();
        for kill in 1..=KILLS {
            let sent = kill * all / (KILLS + 1);
            while next.load(Ordering::Relaxed) < sent {
                std::thread::sleep(Duration::from_micros(100));
            }
            lab.kill();
            lab.start();
        }
        let good = clients.into_iter().map(|client| client.join().unwrap());
        good.flatten().collect()
    });
    assert!(
        good.len() + 100 > usize::try_from(all).unwrap(),
        "{} of {all}",
        good.len()
    );
    lab.kill();
    lab.start();
    let mut stream = lab.a.run(|| TcpStream::connect((GATEWAY_A, 53)).unwrap());
    for number in good {
        let reply = exchange(&mut stream, &question(&format!("n{number}.{ZONE}"), 1)).unwrap();
        assert_eq!(
            reply.answers.len(),
            1,
            "n{number} was answered NOERROR and is lost"
        );
    }
}

#[test]
fn rfc_7766_section_6_2_1_1_questions_in_one_segment_are_all_answered_in_their_order() {
    let lab = Lab::started();
    let mut stream = lab.a.run(|| TcpStream::connect((GATEWAY_A, 53)).unwrap());
    let mut octets = Vec::new();
    for id in 0..200u16 {
        let mut message = question(&format!("web.{ZONE}"), 1);
        message[..2].copy_from_slice(&id.to_be_bytes());
        octets.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        octets.extend(message);
    }
    stream.write_all(&octets).unwrap();
    for id in 0..200u16 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(Message::from_vec(&reply).unwrap().metadata.id, id);
    }
}

/// Waits until the server ends a connection.
fn is_left(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn rfc_7766_section_6_2_3_who_says_nothing_or_half_a_question_is_left() {
    let lab = Lab::started();
    let connect = || lab.a.run(|| TcpStream::connect((GATEWAY_A, 53)).unwrap());
    let web = question(&format!("web.{ZONE}"), 1);
    let (silent, mut half, mut done, slow) = (connect(), connect(), connect(), connect());
    half.write_all(&[0, 40, 1, 2, 3]).unwrap();
    assert!(exchange(&mut done, &web).is_some());
    let mut drip = slow.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Octet by octet is no way to stay either. It ends when the server has left.
            while drip.write_all(&[1]).is_ok() {
                std::thread::park_timeout(Duration::from_millis(500));
            }
        });
        let all = [
            ("silent", silent),
            ("half", half),
            ("done", done),
            ("slow", slow),
        ];
        for (what, mut stream) in all {
            let is_left = is_left(&mut stream);
            let _ = stream.shutdown(Shutdown::Both);
            assert!(is_left, "{what}: it is still open");
        }
    });
    assert!(exchange(&mut connect(), &web).is_some());
}

#[test]
fn a_tenant_that_opens_many_connections_keeps_out_only_itself() {
    let lab = Lab::started();
    let connect = |client: &NetNs, to: &'static str| {
        client.run(move || TcpStream::connect((to, 53)).unwrap())
    };
    let ask = |stream: &mut TcpStream| exchange(stream, &question("east.lab.example", 6)).is_some();
    let mut held: Vec<TcpStream> = (0..64).map(|_| connect(&lab.a, GATEWAY_A)).collect();
    assert!(held.iter_mut().all(ask), "64 are served at once");
    assert!(!ask(&mut connect(&lab.a, GATEWAY_A)), "one more is not");
    assert!(ask(&mut connect(&lab.b, GATEWAY_B)), "the neighbour is");
    held.truncate(10);
    wait_for("a place to be free", || {
        ask(&mut connect(&lab.a, GATEWAY_A)).then_some(())
    })
    .unwrap();
}

#[test]
fn dig_and_kdig_get_cookies_and_have_them_taken() {
    let lab = Lab::started();
    let at = format!("@{GATEWAY_A}");
    let web = format!("web.{ZONE}");
    // dig says so itself when a server gives its own cookie back.
    let first = lab.dig(&lab.a, &[&at, "+cookie", &web, "A"]);
    assert!(first.contains("(good)"), "{first}");
    let cookie = first.split("COOKIE: ").nth(1).unwrap();
    let cookie = cookie.split_whitespace().next().unwrap();
    assert_eq!(cookie.len(), 48, "{first}");
    let again = lab.dig(&lab.a, &[&at, &format!("+cookie={cookie}"), &web, "A"]);
    assert!(again.contains(&format!("{cookie} (good)")), "{again}");
    let over_tcp = lab.dig(&lab.a, &[&at, "+tcp", "+cookie", &web, "A"]);
    assert!(over_tcp.contains("(good)"), "{over_tcp}");
    // RFC 7873, 5.4: no question.
    let header = lab.dig(&lab.a, &[&at, "+header-only", "+cookie", &web]);
    assert!(
        header.contains("NOERROR") && header.contains("QUERY: 0"),
        "{header}"
    );
    assert!(header.contains("(good)"), "{header}");
    let foreign = format!("+cookie={}{}", &cookie[..16], "00".repeat(16));
    let bad = lab.dig(
        &lab.a,
        &[&at, "+header-only", "+nobadcookie", &foreign, &web],
    );
    assert!(bad.contains("BADCOOKIE"), "{bad}");
    let kdig = text(&run(
        lab.a.command("kdig").args([&at, "+cookie", &web, "A"]),
        "",
    ));
    assert!(
        kdig.contains("COOKIE") && kdig.contains("10.1.0.10"),
        "{kdig}"
    );
    assert!(!kdig.contains("WARNING"), "{kdig}");
    let plain = lab.dig(&lab.a, &[&at, "+nocookie", &web, "A"]);
    assert!(!plain.contains("COOKIE"), "{plain}");
}

#[test]
fn over_its_rate_a_client_is_sent_to_tcp_unless_it_shows_a_cookie() {
    let lab = Lab::started_with(&["--replies-per-client=5", "--replies-per-segment=1000"]);
    let at = format!("@{GATEWAY_A}");
    let web = format!("web.{ZONE}");
    let socket = lab.a.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect((GATEWAY_A, 53)).unwrap();
        let patience = Some(Duration::from_millis(200));
        socket.set_read_timeout(patience).unwrap();
        socket
    });
    for _ in 0..40 {
        socket.send(&question(&web, 1)).unwrap();
    }
    let (mut whole, mut truncated, mut reply) = (0, 0, [0; 512]);
    while let Ok(length) = socket.recv(&mut reply) {
        let reply = Message::from_vec(&reply[..length]).unwrap();
        if reply.metadata.truncation {
            assert!(reply.answers.is_empty());
            truncated += 1;
        } else {
            whole += 1;
        }
    }
    assert!((1..=8).contains(&whole), "{whole} whole replies");
    assert!(
        (12..25).contains(&truncated),
        "{truncated} truncated replies"
    );
    // A client that follows the flag is answered all the same.
    for _ in 0..5 {
        let short = lab.dig(
            &lab.a,
            &[&at, "+short", "+nocookie", "+retry=5", "+time=1", &web],
        );
        assert!(short.contains("10.1.0.10"), "{short}");
    }
    let over_tcp = lab.dig(&lab.a, &[&at, "+tcp", "+cookie", &web]);
    let cookie = over_tcp.split("COOKIE: ").nth(1).unwrap();
    let cookie = cookie.split_whitespace().next().unwrap();
    for _ in 0..20 {
        let with = format!("+cookie={cookie}");
        let short = lab.dig(
            &lab.a,
            &[&at, "+notcp", "+ignore", "+tries=1", &with, "+short", &web],
        );
        assert!(short.contains("10.1.0.10"), "{short}");
    }
    wait_for("the status to say so", || {
        let text = std::fs::read_to_string(lab.path("status")).ok()?;
        text.contains("rate_truncated").then_some(())
    })
    .unwrap();
}

#[test]
fn the_status_counts_queries_and_updates_by_zone_and_view() {
    let lab = Lab::started();
    let at = format!("@{GATEWAY_A}");
    for name in [format!("web.{ZONE}"), format!("absent.{ZONE}")] {
        lab.dig(&lab.a, &[&at, &name, "A"]);
    }
    lab.dig(&lab.a, &[&at, "+tcp", &format!("web.{ZONE}"), "A"]);
    let script =
        format!("server {GATEWAY_A}\nzone {ZONE}.\nupdate add new.{ZONE}. 60 A 10.1.0.20\nsend\n");
    let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script);
    assert!(is_good, "{output}");
    let status = wait_for("the status to count the update", || {
        let text = std::fs::read_to_string(lab.path("status")).ok()?;
        let status: serde_json::Value = serde_json::from_str(&text).ok()?;
        let named = |list: &str, name: &str| {
            let list = status[list].as_array()?;
            list.iter().find(|entry| entry["name"] == name).cloned()
        };
        let zone = named("zones", &format!("{ZONE}."))?;
        (zone["updates"]["noerror"] == 1).then(|| (zone, named("views", "a"), status.clone()))
    });
    let (zone, view, status) = status.unwrap();
    assert_eq!(zone["queries"]["nxdomain"], 1, "{zone}");
    assert!(zone["queries"]["noerror"].as_u64() >= Some(2), "{zone}");
    assert_eq!((&zone["serial"], &zone["tenant"]), (&2.into(), &"a".into()));
    let view = view.unwrap();
    assert_eq!(view["kind"], "tenant");
    assert_eq!(view["updates"]["noerror"], 1, "{view}");
    assert!(view["queries"]["noerror"].as_u64() >= Some(2), "{view}");
    let total = |what: &str| -> u64 {
        let counts = status["latency"][what]["below_power_of_two_us"].as_array();
        counts
            .unwrap()
            .iter()
            .filter_map(serde_json::Value::as_u64)
            .sum()
    };
    assert!(
        total("udp") >= 2 && total("tcp") >= 1 && total("updates") == 1,
        "{status}"
    );
    assert_eq!(status["durable"], true);
}
