//! DNS over TLS (RFC 7858).

use std::net::TcpStream;

use testkit::wait::wait_for;

use crate::is_left;
use crate::lab::{GATEWAY_A, GATEWAY_B, Lab, ZONE, run, text};

fn started() -> Lab {
    let mut lab = Lab::new();
    let tls = lab.make_certificate();
    lab.more = vec!["--tls-listen=0.0.0.0:853".to_owned()];
    lab.more.extend(tls);
    lab.start();
    lab
}

/// What kdig says to a client of tenant a that trusts this certificate and no other.
fn kdig(lab: &Lab, certificate: &std::path::Path, name: &str) -> String {
    let ca = format!("+tls-ca={}", certificate.display());
    let arguments = [
        "+tls-hostname=ns.east.lab.example",
        "+retry=0",
        "+time=3",
        name,
        "A",
    ];
    let mut command = lab.a.command("kdig");
    text(&run(
        command.arg(format!("@{GATEWAY_A}")).arg(ca).args(arguments),
        "",
    ))
}

#[test]
fn rfc_8467_kdig_gets_padded_replies_over_tls_alone() {
    let lab = started();
    let ask = |arguments: &[&str]| {
        let mut command = lab.a.command("kdig");
        command.arg(format!("@{GATEWAY_A}")).args(arguments);
        text(&run(command.args([&format!("web.{ZONE}"), "A"]), ""))
    };
    let padded = ask(&["+tls", "+padding"]);
    assert!(
        padded.contains("10.1.0.10") && padded.contains("Received 468 B"),
        "{padded}"
    );
    for arguments in [
        &["+tls", "+nopadding", "+edns"],
        &["+tcp", "+padding", "+edns"],
    ] {
        let plain = ask(arguments);
        assert!(
            plain.contains("10.1.0.10") && !plain.contains("Received 468 B"),
            "{arguments:?}: {plain}"
        );
    }
}

#[test]
fn rfc_7858_kdig_checks_who_answers_and_sees_what_its_segment_sees() {
    let lab = started();
    let certificate = lab.path("certificate.pem");
    let web = kdig(&lab, &certificate, &format!("web.{ZONE}"));
    assert!(
        web.contains("10.1.0.10") && web.contains("TLS session"),
        "{web}"
    );
    let hidden = kdig(&lab, &certificate, "only-b.b.east.lab.example");
    assert!(hidden.contains("NXDOMAIN"), "{hidden}");
    // Many questions in one connection.
    let mut command = lab.a.command("kdig");
    command.args([&format!("@{GATEWAY_A}"), "+tls", "+keepopen"]);
    command.args([&format!("web.{ZONE}"), "A", &format!("txt.{ZONE}"), "TXT"]);
    let many = text(&run(&mut command, ""));
    assert!(
        many.contains("10.1.0.10") && many.contains("hello world"),
        "{many}"
    );
    let plain = lab.dig(
        &lab.a,
        &[
            &format!("@{GATEWAY_A}"),
            "-p",
            "853",
            "+tcp",
            "+tries=1",
            "+time=2",
            ZONE,
        ],
    );
    assert!(
        !plain.contains("NOERROR"),
        "what is not TLS is not answered: {plain}"
    );
}

#[test]
fn a_new_certificate_is_shown_from_the_next_connection_on() {
    let lab = started();
    let first = lab.path("first.pem");
    std::fs::copy(lab.path("certificate.pem"), &first).unwrap();
    lab.make_certificate();
    lab.signal("-HUP");
    let web = format!("web.{ZONE}");
    wait_for("the new certificate", || {
        kdig(&lab, &lab.path("certificate.pem"), &web)
            .contains("10.1.0.10")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}\n{}", lab.log()));
    let old = kdig(&lab, &first, &web);
    assert!(!old.contains("10.1.0.10"), "{old}");
    // Half of a pair changes nothing.
    let good = std::fs::read(lab.path("certificate.pem")).unwrap();
    std::fs::copy(&first, lab.path("certificate.pem")).unwrap();
    wait_for("the complaint", || {
        lab.log().contains("is not the key of").then_some(())
    })
    .unwrap();
    std::fs::write(&first, good).unwrap();
    assert!(kdig(&lab, &first, &web).contains("10.1.0.10"));
}

#[test]
fn a_tenant_that_begins_many_handshakes_keeps_out_only_itself() {
    let lab = started();
    let connect = || lab.a.run(|| TcpStream::connect((GATEWAY_A, 853)).unwrap());
    let held: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
    // The places are taken one after the other.
    let certificate = lab.path("certificate.pem");
    let web = format!("web.{ZONE}");
    wait_for("the places to be taken", || {
        (!kdig(&lab, &certificate, &web).contains("10.1.0.10")).then_some(())
    })
    .unwrap();
    let mut command = lab.b.command("kdig");
    let neighbour = run(
        command.args([
            &format!("@{GATEWAY_B}"),
            "+tls",
            "only-b.b.east.lab.example",
        ]),
        "",
    );
    assert!(
        text(&neighbour).contains("10.1.0.70"),
        "{}",
        text(&neighbour)
    );
    drop(held);
    wait_for("a place to be free", || {
        kdig(&lab, &certificate, &web)
            .contains("10.1.0.10")
            .then_some(())
    })
    .unwrap();
}

#[test]
fn without_a_certificate_nothing_is_served_that_needs_one() {
    for option in [
        "--api-listen=0.0.0.0:8081",
        "--api-listen=[::]:8081",
        "--api-listen=10.1.0.1:8081",
    ] {
        let mut lab = Lab::new();
        lab.more = vec![option.to_owned()];
        lab.spawn();
        let status = lab.daemon.lock().unwrap().take().unwrap().wait().unwrap();
        assert!(!status.success(), "{option}");
        let log = lab.log();
        assert!(
            log.contains("without TLS") && log.contains("remedy: --tls-certificate"),
            "{log}"
        );
    }
}

#[test]
fn a_handshake_that_does_not_begin_is_left() {
    let lab = started();
    let connect = || TcpStream::connect((GATEWAY_A, 853)).unwrap();
    let mut silent = lab.a.run(connect);
    assert!(is_left(&mut silent), "it is still open");
}
