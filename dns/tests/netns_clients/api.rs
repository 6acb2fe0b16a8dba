//! The HTTP API: octodns-powerdns and dns-lexicon from PyPI, and requests by hand.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::netns::NetNs;
use testkit::peers;

use crate::lab::{API_KEY, GATEWAY_A, Lab, ZONE, run, text};

const PORT: u16 = 8081;
const BASE: &str = "/api/v1/servers/localhost";

fn started() -> Lab {
    Lab::started_with(&["--api-listen=127.0.0.1:8081", "--api-listen=[::1]:8081"])
}

/// Sends a request from the router, with tenant a's key; the status and the body.
fn ask(lab: &Lab, method: &str, path: &str, body: &Value) -> (u16, Value) {
    ask_with(
        lab,
        &format!("{API_KEY}a"),
        (method, path),
        &body.to_string(),
    )
}

fn ask_with(lab: &Lab, key: &str, (method, path): (&str, &str), body: &str) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: router\r\nX-API-Key: {key}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = lab
        .router
        .run(|| TcpStream::connect(("127.0.0.1", PORT)).unwrap());
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // A body that is refused need not be taken.
    let _ = stream.write_all(body.as_bytes());
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{reply}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())),
    )
}

fn replace(name: &str, kind: &str, contents: &[&str]) -> Value {
    let records: Vec<Value> = contents
        .iter()
        .map(|content| json!({ "content": content, "disabled": false }))
        .collect();
    json!({ "name": name, "type": kind, "ttl": 77, "changetype": "REPLACE", "records": records })
}

fn zone_path() -> String {
    format!("{BASE}/zones/{ZONE}.")
}

fn resolve(lab: &Lab, name: &str, kind: &str) -> String {
    lab.dig(
        &lab.a,
        &[&format!("@{GATEWAY_A}"), "+noall", "+answer", name, kind],
    )
}

#[test]
fn the_api_answers_as_powerdns_does() {
    let lab = started();
    let zone = zone_path();
    let dotless = zone.trim_end_matches('.').to_owned();
    let name = |label: &str| format!("{label}.{ZONE}.");
    let rrsets = |entries: &[Value]| json!({ "rrsets": entries });
    let www = rrsets(&[replace(&name("new"), "A", &["10.1.0.20", "10.1.0.21"])]);
    let gone = rrsets(&[json!({ "name": name("new"), "type": "A", "changetype": "DELETE" })]);
    let inventory = rrsets(&[replace(&name("web"), "A", &["10.1.0.99"])]);
    let half = rrsets(&[
        replace(&name("half"), "A", &["10.1.0.20"]),
        replace(&name("web"), "TXT", &["\"x\""]),
        replace(&name("www"), "A", &["10.1.0.20"]),
    ]);
    let alias = rrsets(&[replace(&name("new"), "CNAME", &[&name("web")])]);
    let swap = rrsets(&[
        replace(&name("new"), "CNAME", &[&name("web")]),
        json!({ "name": name("new"), "type": "A", "changetype": "DELETE" }),
    ]);
    let none = Value::Null;
    let rows: &[(&str, &str, &Value, u16, &str)] = &[
        ("GET", "/api", &none, 200, "/api/v1"),
        ("GET", "/api/v1", &none, 200, "server_url"),
        ("GET", "/api/v1/servers", &none, 200, "authoritative"),
        ("GET", BASE, &none, 200, "localhost"),
        ("GET", "/api/v1/servers/other", &none, 404, "error"),
        (
            "GET",
            &format!("{BASE}/zones"),
            &none,
            200,
            "0/26.0.1.10.in-addr.arpa.",
        ),
        ("GET", &zone, &none, 200, "hello world"),
        ("GET", &dotless, &none, 200, "hello world"),
        (
            "GET",
            &format!("{BASE}/zones/0=2F26.0.1.10.in-addr.arpa."),
            &none,
            200,
            "SOA",
        ),
        (
            "GET",
            &format!("{BASE}/zones/0%2F26.0.1.10.in-addr.arpa"),
            &none,
            200,
            "SOA",
        ),
        ("PATCH", &zone, &www, 204, ""),
        ("GET", &zone, &none, 200, "10.1.0.21"),
        (
            "PATCH",
            &zone,
            &alias,
            422,
            "Conflicts with pre-existing RRset",
        ),
        ("PATCH", &zone, &swap, 204, ""),
        ("PATCH", &zone, &www, 422, "Conflicts"),
        ("PATCH", &zone, &gone, 204, ""),
        ("PATCH", &zone, &inventory, 422, "belongs to inventory"),
        ("PATCH", &zone, &half, 422, "belongs to inventory"),
        ("PATCH", &zone, &json!("x"), 400, "error"),
        ("PUT", &zone, &json!({ "kind": "Master" }), 204, ""),
        (
            "PUT",
            &zone,
            &json!({ "kind": "Slave", "masters": ["192.0.2.1"] }),
            422,
            "inventory",
        ),
        ("DELETE", &zone, &none, 422, "inventory"),
        ("PUT", &format!("{zone}/notify"), &none, 200, "secondary"),
        (
            "GET",
            &format!("{zone}/metadata"),
            &none,
            200,
            "TSIG-ALLOW-DNSUPDATE",
        ),
        (
            "GET",
            &format!("{zone}/metadata/TSIG-ALLOW-DNSUPDATE"),
            &none,
            200,
            "a-tf",
        ),
        (
            "GET",
            &format!("{zone}/metadata/ALLOW-DNSUPDATE-FROM"),
            &none,
            200,
            "10.1.0.0/26",
        ),
        (
            "PUT",
            &format!("{zone}/metadata/TSIG-ALLOW-DNSUPDATE"),
            &json!({}),
            422,
            "follow",
        ),
        (
            "GET",
            &format!("{BASE}/tsigkeys"),
            &none,
            200,
            "hmac-sha256",
        ),
        ("GET", &format!("{BASE}/tsigkeys/a-tf."), &none, 200, "a-tf"),
        (
            "GET",
            &format!("{BASE}/tsigkeys/b-tf."),
            &none,
            404,
            "error",
        ),
        (
            "POST",
            &format!("{BASE}/tsigkeys"),
            &json!({ "name": "a-tf" }),
            409,
            "exists",
        ),
        (
            "POST",
            &format!("{BASE}/tsigkeys"),
            &json!({ "name": "b-tf" }),
            422,
            "admin",
        ),
        (
            "DELETE",
            &format!("{BASE}/tsigkeys/a-tf"),
            &none,
            422,
            "admin",
        ),
        (
            "POST",
            &format!("{BASE}/zones"),
            &json!({ "name": format!("{ZONE}.") }),
            409,
            "already exists",
        ),
        (
            "POST",
            &format!("{BASE}/zones"),
            &json!({ "name": "b.east.lab.example." }),
            422,
            "inventory",
        ),
        (
            "POST",
            &format!("{BASE}/zones"),
            &json!({ "name": "new.example." }),
            422,
            "inventory",
        ),
        ("POST", &zone, &none, 405, "error"),
        (
            "GET",
            &format!("{BASE}/zones/b.east.lab.example."),
            &none,
            404,
            "Not Found",
        ),
        ("GET", &format!("{BASE}/nothing"), &none, 404, "error"),
    ];
    for (method, path, body, status, says) in rows {
        let (found, reply) = ask(&lab, method, path, body);
        assert_eq!(found, *status, "{method} {path} {body}: {reply}");
        assert!(
            reply.to_string().contains(says),
            "{method} {path} {body}: {reply}"
        );
    }
    // One message is atomic, and what the inventory has is as it was.
    assert!(!resolve(&lab, &name("half"), "A").contains("10.1.0.20"));
    assert!(resolve(&lab, &name("web"), "A").contains("10.1.0.10"));
    assert_eq!(ask_with(&lab, "wrong", ("GET", "/api"), "").0, 401);
    assert_eq!(ask_with(&lab, "", ("GET", &zone), "").0, 401);
    let large = format!("{{\"rrsets\": [{}]}}", " ".repeat(1 << 20));
    assert_eq!(
        ask_with(&lab, &format!("{API_KEY}a"), ("PATCH", &zone), &large).0,
        413
    );
}

#[test]
fn what_was_answered_204_is_served_counted_and_outlives_the_daemon() {
    let lab = started();
    let name = format!("kept.{ZONE}.");
    let body = json!({ "rrsets": [replace(&name, "TXT", &["\"a \\\"b\\\"\"", "\"c\""])] });
    assert_eq!(ask(&lab, "PATCH", &zone_path(), &body).0, 204);
    let answer = resolve(&lab, &name, "TXT");
    assert!(
        answer.contains("77") && answer.contains(r#""a \"b\"""#),
        "{answer}"
    );
    lab.kill();
    lab.start();
    assert_eq!(resolve(&lab, &name, "TXT").lines().count(), 2);
    // It is the key's own: the tenant's TSIG key is told whose it is, and may have other names.
    let script =
        |name: &str| format!("server {GATEWAY_A}\nzone {ZONE}.\nupdate delete {name} TXT\nsend\n");
    let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script(&name));
    assert!(!is_good && output.contains("REFUSED"), "{output}");
    let (_, shown) = ask(
        &lab,
        "GET",
        &format!("{}?rrset_name={name}&rrset_type=TXT", zone_path()),
        &Value::Null,
    );
    assert_eq!(shown["rrsets"].as_array().unwrap().len(), 1, "{shown}");
    assert_eq!(
        shown["rrsets"][0]["records"].as_array().unwrap().len(),
        2,
        "{shown}"
    );
}

#[test]
fn the_quota_of_a_tenant_is_one_for_updates_and_the_api() {
    let mut lab = Lab::new();
    lab.more = vec!["--api-listen=127.0.0.1:8081".into()];
    // The last one counts.
    lab.more.push("--records-per-tenant=2".into());
    lab.start();
    let add = |label: &str| {
        let name = format!("{label}.{ZONE}.");
        ask(
            &lab,
            "PATCH",
            &zone_path(),
            &json!({ "rrsets": [replace(&name, "A", &["10.1.0.20"])] }),
        )
    };
    assert_eq!(add("one").0, 204);
    let script =
        format!("server {GATEWAY_A}\nzone {ZONE}.\nupdate add two.{ZONE}. 60 A 10.1.0.20\nsend\n");
    assert!(lab.update("nsupdate", &lab.a, "a-tf", &script).0);
    let (status, reply) = add("three");
    assert_eq!(status, 422, "{reply}");
    assert!(
        reply.to_string().contains("as many dynamic records"),
        "{reply}"
    );
}

#[test]
fn over_tls_a_segment_reaches_what_it_sees_and_others_reach_nothing() {
    let mut lab = Lab::new();
    lab.more = vec!["--api-listen=0.0.0.0:8443".into()];
    lab.more.extend(lab.make_certificate());
    lab.start();
    let status = |client: &NetNs, gateway: &str, key: &str, scheme: &str| {
        let script = format!(
            "import ssl, urllib.request as u, urllib.error as e\n\
             r = u.Request('{scheme}://{gateway}:8443{}', headers={{'X-API-Key': '{API_KEY}{key}'}})\n\
             try: print(u.urlopen(r, timeout=5, context=ssl._create_unverified_context()).status)\n\
             except e.HTTPError as error: print(error.code)\n\
             except Exception as error: print('none')\n",
            zone_path()
        );
        text(&run(
            client.command(peers::python("python").unwrap()).arg("-"),
            &script,
        ))
        .trim()
        .to_owned()
    };
    assert_eq!(status(&lab.a, GATEWAY_A, "a", "https"), "200");
    assert_eq!(
        status(&lab.a, GATEWAY_A, "b", "https"),
        "404",
        "another's key"
    );
    assert_eq!(
        status(&lab.b, "10.1.0.65", "a", "https"),
        "404",
        "from where it is not seen"
    );
    assert_eq!(
        status(&lab.a, GATEWAY_A, "a", "http"),
        "none",
        "in the clear"
    );
    assert_eq!(
        status(&lab.router, "127.0.0.1", "a", "http"),
        "none",
        "one address, one protocol"
    );
}

#[test]
fn octodns_reads_a_zone_and_makes_it_what_a_file_says() {
    let lab = started();
    let config = format!(
        "providers:\n  file: {{class: octodns.provider.yaml.YamlProvider, directory: {folder}/zones, default_ttl: 300}}\n  \
         bulkhead: {{class: octodns_powerdns.PowerDnsProvider, host: 127.0.0.1, port: {PORT}, api_key: {API_KEY}a, notify: true}}\n\
         zones:\n  {ZONE}.: {{sources: [file], targets: [bulkhead]}}\n",
        folder = lab.path("").display()
    );
    let path = lab.path("octodns.yaml");
    std::fs::write(&path, config).unwrap();
    let config = format!("--config-file={}", path.display());
    let zones = lab.path("zones");
    let zones = zones.to_str().unwrap();
    lab.python(
        &lab.router,
        "octodns-dump",
        &[
            &config,
            "--output-dir",
            zones,
            &format!("{ZONE}."),
            "bulkhead",
        ],
    );
    let file = format!("{zones}/{ZONE}.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    assert!(
        before.contains("hello world") && before.contains("_sip._tcp"),
        "{before}"
    );
    let sync = || lab.python(&lab.router, "octodns-sync", &[&config, "--doit", "--force"]);
    let output = sync();
    assert!(
        output.contains("No changes"),
        "what it read is what is there: {output}"
    );
    let more = "zz-dkim:\n  ttl: 60\n  type: TXT\n  value: v=DKIM1\\; k=rsa\\; p=LONG\n\
                zz-new:\n  - {ttl: 60, type: A, values: [10.1.0.30, 10.1.0.31]}\n  - {ttl: 60, type: AAAA, value: 'fd00:1::30'}\n\
                zz-srv:\n  type: MX\n  values: [{exchange: web.ZONE., preference: 5}]\n";
    let more = more.replace("ZONE", ZONE).replace("LONG", &"A".repeat(300));
    std::fs::write(&file, format!("{before}{more}")).unwrap();
    sync();
    let name = format!("zz-new.{ZONE}.");
    assert_eq!(resolve(&lab, &name, "A").lines().count(), 2);
    assert!(resolve(&lab, &format!("zz-dkim.{ZONE}."), "TXT").contains("v=DKIM1; k=rsa"));
    assert!(sync().contains("No changes"), "it is as the file says");
    std::fs::write(
        &file,
        format!("{before}{}", more.replace("10.1.0.31", "10.1.0.32")),
    )
    .unwrap();
    sync();
    assert!(resolve(&lab, &name, "A").contains("10.1.0.32"));
    std::fs::write(&file, &before).unwrap();
    sync();
    assert_eq!(resolve(&lab, &name, "A"), "");
    assert!(resolve(&lab, &format!("web.{ZONE}."), "A").contains("10.1.0.10"));
}

/// As a library, which is how certbot's plugins use it; it finds out the zone's name by asking our own server.
const LEXICON: &str = "
import sys
import dns.resolver
from lexicon.client import Client
from lexicon.config import ConfigResolver
server, key, zone, name, resolver = sys.argv[1:6]
dns.resolver.default_resolver = dns.resolver.Resolver(configure=False)
dns.resolver.default_resolver.nameservers = [resolver]
config = ConfigResolver().with_dict({
    'provider_name': 'powerdns', 'domain': zone, 'resolve_zone_name': True, 'ttl': 77,
    'powerdns': {'auth_token': key, 'pdns_server': server},
})
with Client(config) as client:
    client.create_record('TXT', name, 'token-1')
    client.create_record('TXT', name, 'token-2')
    print('made', sorted(record['content'] for record in client.list_records('TXT', name)))
    client.delete_record(None, 'TXT', name, 'token-1')
    print('left', sorted(record['content'] for record in client.list_records('TXT', name)))
    [record] = client.list_records('TXT', name)
    client.update_record(record['id'], 'TXT', name, 'token-3')
    print('changed', sorted(record['content'] for record in client.list_records('TXT', name)))
";

#[test]
fn lexicon_makes_lists_changes_and_deletes_records() {
    let lab = started();
    let server = format!("http://127.0.0.1:{PORT}");
    let key = format!("{API_KEY}a");
    let challenge = format!("_acme-challenge.{ZONE}");
    let said = lab.python(
        &lab.router,
        "python",
        &["-c", LEXICON, &server, &key, ZONE, &challenge, GATEWAY_A],
    );
    for line in [
        "made ['token-1', 'token-2']",
        "left ['token-2']",
        "changed ['token-3']",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let answer = resolve(&lab, &challenge, "TXT");
    assert!(
        answer.contains("token-3") && answer.lines().count() == 1,
        "{answer}"
    );
}

#[test]
fn a_client_that_says_nothing_is_left_and_keeps_nobody_out() {
    let lab = started();
    let to: SocketAddr = ([127, 0, 0, 1], PORT).into();
    let mut silent = lab.router.run(|| TcpStream::connect(to).unwrap());
    silent.write_all(b"GET /api HTTP/1.1\r\n").unwrap();
    assert_eq!(ask(&lab, "GET", "/api", &Value::Null).0, 200);
    silent
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut rest = Vec::new();
    silent
        .read_to_end(&mut rest)
        .expect("it is closed within its time");
}

#[test]
fn the_sets_of_a_name_are_listed_with_a_first() {
    let lab = started();
    let name = format!("three.{ZONE}.");
    let sets = [("TXT", "\"t\""), ("AAAA", "fd00:1::30"), ("A", "10.1.0.30")];
    let sets = sets.map(|(kind, data)| replace(&name, kind, &[data]));
    let patch = json!({ "rrsets": sets });
    assert_eq!(ask(&lab, "PATCH", &zone_path(), &patch).0, 204);
    let path = format!("{}?rrset_name={name}", zone_path());
    let (_, shown) = ask(&lab, "GET", &path, &Value::Null);
    let sets = shown["rrsets"].as_array().unwrap().iter();
    let kinds: Vec<&str> = sets.filter_map(|set| set["type"].as_str()).collect();
    assert_eq!(kinds, ["A", "TXT", "AAAA"], "{shown}");
}
