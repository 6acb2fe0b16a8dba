//! Validators of others (delv, unbound), which trust what `bulkhead-dns keys` says and nothing else; and kdig.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netmodel::model::Model;
use testkit::wait::wait_for;

use crate::lab::{GATEWAY_A, Lab, ZONE, run, text};
use crate::resolver::Resolver;

const SITE: &str = "east.lab.example";

fn sign_everything(model: &mut Model) {
    model.site_dnssec = true;
    for tenant in &mut model.tenants {
        tenant.dnssec = true;
    }
}

/// A router whose zones are all signed, with a wildcard that the inventory of the tests lacks.
fn started() -> Lab {
    let mut lab = Lab::new();
    lab.more = ["--replies-per-client=0", "--replies-per-segment=0"]
        .map(String::from)
        .to_vec();
    lab.publish_with(1, sign_everything);
    lab.start();
    lab.a.set_up("lo").unwrap();
    let script = format!(
        "server {GATEWAY_A}\nzone {ZONE}.\nupdate add *.apps.{ZONE}. 60 A 10.1.0.21\n\
         update add sub.{ZONE}. 60 NS ns.sub.{ZONE}.\nupdate add one.two.{ZONE}. 60 TXT b\n\
         update add one.two.{ZONE}. 60 TXT aa\nsend\n"
    );
    let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script);
    assert!(is_good, "{output}\n{}", lab.log());
    lab
}

/// What `bulkhead-dns keys` says for the parent of a zone.
fn ds(lab: &Lab, zone: &str) -> String {
    let mut command = lab.router.command(env!("CARGO_BIN_EXE_bulkhead-dns"));
    for option in ["generation", "keys", "zone-keys", "journal"] {
        command.arg(format!("--{option}")).arg(lab.path(option));
    }
    let said = text(&run(command.arg("keys"), ""));
    let begin = format!("{zone}. IN DS ");
    let line = said.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap_or_else(|| panic!("{zone}: {said}")).to_owned()
}

/// Asks as a validator that trusts one zone.
fn delv(lab: &Lab, anchor: &str, ds: &str, arguments: &[&str]) -> String {
    let parts: Vec<&str> = ds.split(' ').collect();
    let [tag, algorithm, digest, hash] = parts[..] else {
        panic!("{ds}")
    };
    let file = lab.path("anchors");
    let anchors = format!(
        "trust-anchors {{ \"{anchor}\" static-ds {tag} {algorithm} {digest} \"{hash}\"; }};\n"
    );
    fs::write(&file, anchors).unwrap();
    let mut command = lab.a.command("delv");
    command.arg("-a").arg(file).arg(format!("+root={anchor}"));
    command.arg(format!("@{GATEWAY_A}")).args(["+nocrypto"]);
    text(&run(command.args(arguments), ""))
}

#[test]
fn delv_validates_answers_and_denials_by_the_ds_that_keys_says() {
    let lab = started();
    let trusted = ds(&lab, ZONE);
    let name = |label: &str| format!("{label}.{ZONE}");
    let rows = [
        (name("web"), "A", "; fully validated", "10.1.0.10"),
        (name("www"), "A", "; fully validated", "10.1.0.10"),
        (name("one.two"), "TXT", "; fully validated", "\"aa\""),
        (name("x.apps"), "A", "; fully validated", "10.1.0.21"),
        (ZONE.to_owned(), "SOA", "; fully validated", "hostmaster"),
        (ZONE.to_owned(), "DNSKEY", "; fully validated", "257 3 13"),
        (ZONE.to_owned(), "CDS", "; fully validated", "13 2"),
        (ZONE.to_owned(), "CDNSKEY", "; fully validated", "257 3 13"),
        (
            name("nowhere"),
            "A",
            "negative response, fully validated",
            "ncache",
        ),
        (
            name("two"),
            "A",
            "negative response, fully validated",
            "ncache",
        ),
        (
            name("web"),
            "AAAA",
            "negative response, fully validated",
            "ncache",
        ),
        (
            name("x.apps"),
            "TXT",
            "negative response, fully validated",
            "ncache",
        ),
        (
            name("sub"),
            "DS",
            "negative response, fully validated",
            "ncache",
        ),
    ];
    for (name, kind, verdict, part) in &rows {
        let said = delv(&lab, ZONE, &trusted, &[name, kind]);
        assert!(
            said.contains(verdict) && said.contains(part),
            "{name} {kind}: {said}\n{}",
            lab.log()
        );
    }
    // By the site's key, over the DS in its zone.
    let site = ds(&lab, SITE);
    let said = delv(&lab, SITE, &site, &[&name("web"), "A"]);
    assert!(said.contains("; fully validated"), "{said}");
    // A zone that no one signs below a signed one: nobody is misled.
    let said = delv(&lab, SITE, &site, &["nowhere.east.lab.example", "A"]);
    assert!(
        said.contains("negative response, fully validated"),
        "{said}"
    );
    // Another key's DS is trusted by nobody.
    let other = ds(&lab, "b.east.lab.example");
    let said = delv(&lab, ZONE, &other, &[&name("web"), "A"]);
    assert!(
        !said.contains("fully validated") && !said.contains("10.1.0.10"),
        "{said}"
    );
}

#[test]
fn kdig_and_dig_see_signatures_only_when_they_ask_for_them() {
    let lab = started();
    for program in ["kdig", "dig"] {
        let ask = |arguments: &[&str]| {
            let at = format!("@{GATEWAY_A}");
            let mut command = lab.a.command(program);
            text(&run(command.arg(at).args(arguments), ""))
        };
        let name = format!("web.{ZONE}");
        let signed = ask(&["+dnssec", &name, "A"]);
        assert!(
            signed.contains("RRSIG") && signed.contains("do"),
            "{signed}"
        );
        assert!(signed.contains("A 13 5 300 "), "{program}: {signed}");
        let plain = ask(&[&name, "A"]);
        assert!(
            plain.contains("10.1.0.10") && !plain.contains("RRSIG"),
            "{plain}"
        );
        let nowhere = format!("nowhere.{ZONE}");
        let denied = ask(&["+dnssec", &nowhere, "A"]);
        assert!(
            denied.contains("NOERROR") && denied.contains("\\000.nowhere"),
            "{denied}"
        );
        assert!(
            denied.contains("TYPE128") || denied.contains("NXNAME"),
            "{denied}"
        );
        assert!(ask(&[&nowhere, "A"]).contains("NXDOMAIN"));
    }
}

/// Passes messages on to the daemon, and changes the last signature of a reply as long as it is told to.
struct Tamperer {
    is_tampering: Arc<AtomicBool>,
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tamperer {
    const ADDRESS: &str = "127.0.0.9";

    fn start(lab: &Lab) -> Self {
        let (front, back) = lab.a.run(|| {
            let front = UdpSocket::bind((Self::ADDRESS, 53)).unwrap();
            let back = UdpSocket::bind("0.0.0.0:0").unwrap();
            back.connect((GATEWAY_A, 53)).unwrap();
            (front, back)
        });
        let patience = Some(Duration::from_millis(200));
        front.set_read_timeout(patience).unwrap();
        back.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let (is_tampering, is_done) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (tampers, ends) = (Arc::clone(&is_tampering), Arc::clone(&is_done));
        let thread = std::thread::spawn(move || {
            let mut octets = [0; 4096];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, peer)) = front.recv_from(&mut octets) else {
                    continue;
                };
                back.send(&octets[..length]).unwrap();
                let Ok(length) = back.recv(&mut octets) else {
                    continue;
                };
                if tampers.load(Ordering::Relaxed) {
                    bend(&mut octets[..length]);
                }
                front.send_to(&octets[..length], peer).unwrap();
            }
        });
        Self {
            is_tampering,
            is_done,
            thread: Some(thread),
        }
    }
}

impl Drop for Tamperer {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Changes one octet in every signature over an address.
fn bend(reply: &mut [u8]) {
    // Type covered A, algorithm 13: the signature's end is 64 octets behind the name of the signer.
    let places: Vec<usize> = reply
        .windows(4)
        .enumerate()
        .filter(|(_, part)| part[..3] == [0, 1, 13])
        .map(|(at, _)| at + 18 + ZONE.len() + 2 + 10)
        .collect();
    for at in places {
        if let Some(octet) = reply.get_mut(at) {
            *octet ^= 1;
        }
    }
}

fn stub(zone: &str, ds: &str) -> String {
    format!(
        "server:\n  trust-anchor: \"{zone}. DS {ds}\"\n  do-not-query-localhost: no\n  val-log-level: 2\n\
         stub-zone:\n  name: {zone}\n  stub-addr: {}\n",
        Tamperer::ADDRESS
    )
}

#[test]
fn unbound_vouches_for_what_it_validated_and_refuses_what_was_tampered_with() {
    let lab = started();
    let tamperer = Tamperer::start(&lab);
    let resolver = Resolver::start(&lab, &stub(ZONE, &ds(&lab, ZONE)));
    let ask =
        |label: &str, kind: &str| resolver.ask(&["+dnssec", &format!("{label}.{ZONE}"), kind]);
    for (label, kind, part) in [
        ("web", "A", "10.1.0.10"),
        ("www", "A", "10.1.0.10"),
        ("x.apps", "A", "10.1.0.21"),
        ("one.two", "TXT", "\"aa\""),
        ("nowhere", "A", "ANSWER: 0"),
        ("two", "A", "ANSWER: 0"),
        ("web", "TXT", "ANSWER: 0"),
        ("x.apps", "TXT", "ANSWER: 0"),
    ] {
        let said = ask(label, kind);
        assert!(
            said.contains("flags: qr rd ra ad") && said.contains(part),
            "{label} {kind}: {said}\n{}",
            resolver.log()
        );
    }
    tamperer.is_tampering.store(true, Ordering::Relaxed);
    // A name that it has not kept yet.
    let said = ask("y.apps", "A");
    assert!(
        said.contains("SERVFAIL") && !said.contains("10.1.0.21"),
        "{said}\n{}",
        resolver.log()
    );
    tamperer.is_tampering.store(false, Ordering::Relaxed);
    let said = ask("z.apps", "A");
    assert!(said.contains("flags: qr rd ra ad"), "{said}");
}

#[test]
fn unbound_refuses_a_zone_whose_key_was_exchanged() {
    let lab = started();
    let trusted = ds(&lab, ZONE);
    lab.kill();
    let file = lab.path("zone-keys").join(format!("{ZONE}.pk8"));
    fs::remove_file(&file).unwrap();
    lab.start();
    assert_ne!(ds(&lab, ZONE), trusted);
    let _straight = Tamperer::start(&lab);
    let resolver = Resolver::start(&lab, &stub(ZONE, &trusted));
    let said = resolver.ask(&["+dnssec", &format!("web.{ZONE}"), "A"]);
    assert!(said.contains("SERVFAIL"), "{said}\n{}", resolver.log());
}

#[test]
fn a_key_outlives_the_daemon_and_a_damaged_one_is_said_and_left_alone() {
    let lab = started();
    let before = ds(&lab, ZONE);
    lab.kill();
    lab.start();
    assert_eq!(ds(&lab, ZONE), before);
    lab.kill();
    let file = lab.path("zone-keys").join(format!("{ZONE}.pk8"));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    lab.spawn();
    let at = format!("@{GATEWAY_A}");
    let code = |name: &str| {
        let said = lab.dig(&lab.a, &[&at, "+time=1", "+tries=1", name, "SOA"]);
        let code = said.split("status: ").nth(1)?.split(',').next()?;
        Some(code.to_owned())
    };
    let site = wait_for("the daemon to answer", || code(SITE)).unwrap();
    assert_eq!(
        (site.as_str(), code(ZONE).as_deref()),
        ("NOERROR", Some("SERVFAIL"))
    );
    let log = lab.log();
    assert!(
        log.contains(&*file.to_string_lossy()) && log.contains("remedy"),
        "{log}"
    );
    assert_eq!(fs::read(&file).unwrap(), good[..good.len() / 2]);
    // Put back, and the file with the secrets touched or a signal sent, it is answered for again.
    fs::write(&file, &good).unwrap();
    lab.signal("-HUP");
    wait_for("the zone to be served", || {
        (code(ZONE)? == "NOERROR").then_some(())
    })
    .unwrap();
    assert_eq!(ds(&lab, ZONE), before);
}
