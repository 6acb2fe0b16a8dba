//! Programs from PyPI that change a zone by signed updates: certbot-dns-rfc2136 and octodns-bind.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::lab::{GATEWAY_A, Lab, ZONE};
use crate::support::SECRET;

/// What an address of tenant a is told: the answer section.
fn resolve(lab: &Lab, name: &str, kind: &str) -> String {
    let at = format!("@{GATEWAY_A}");
    lab.dig(&lab.a, &[&at, "+noall", "+answer", name, kind])
}

/// Does with the plugin what certbot does between an order and its end: the plugin reads its credentials, finds the zone, and
/// puts in and takes out what proves that two names (`NAME` and `*.NAME`, which have one challenge's name) are the account's. An ACME
/// server takes no part in that; in its place, a line is awaited.
const CERTBOT: &str = "
import sys
import josepy
from acme import challenges, messages
from certbot import achallenges
from certbot._internal.display import obj
from certbot_dns_rfc2136._internal.dns_rfc2136 import Authenticator
from types import SimpleNamespace
credentials, name = sys.argv[1:3]
obj.set_display(obj.NoninteractiveDisplay(sys.stderr))
key = josepy.JWKOct(key=b'the key of an account, an example')
def challenge(token):
    body = messages.ChallengeBody(
        chall=challenges.DNS01(token=token), uri='https://acme.example/1', status=messages.STATUS_PENDING)
    who = messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name)
    return achallenges.KeyAuthorizationAnnotatedChallenge(challb=body, identifier=who, account_key=key)
wanted = [challenge(b'first token, 32 octets or so ...'), challenge(b'other token, 32 octets or so ...')]
config = SimpleNamespace(dns_rfc2136_credentials=credentials, dns_rfc2136_propagation_seconds=0)
plugin = Authenticator(config, 'dns-rfc2136')
plugin.prepare()
plugin.perform(wanted)
print(*(one.validation(key) for one in wanted), flush=True)
sys.stdin.readline()
plugin.cleanup(wanted)
print('cleaned up', flush=True)
";

/// Writes the plugin's credentials, as its manual has them.
fn credentials(lab: &Lab, key: &str, secret: &str) -> PathBuf {
    let text = format!(
        "dns_rfc2136_server = {GATEWAY_A}\ndns_rfc2136_port = 53\ndns_rfc2136_name = {key}.\n\
         dns_rfc2136_secret = {secret}\ndns_rfc2136_algorithm = HMAC-SHA256\ndns_rfc2136_sign_query = true\n"
    );
    let path = lab.path(&format!("{key}.ini"));
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Starts certbot's plugin for a name.
fn certbot(lab: &Lab, credentials: &Path, name: &str) -> Child {
    let mut command = lab.python_command(&lab.a, "python");
    command.args(["-c", CERTBOT]).arg(credentials).arg(name);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    piped.stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn certbot_proves_a_name_and_its_wildcard_and_cleans_up() {
    let lab = Lab::started();
    let name = format!("web.{ZONE}");
    let challenge = format!("_acme-challenge.{name}");
    let mut running = certbot(&lab, &credentials(&lab, "a-tf", SECRET), &name);
    let mut out = BufReader::new(running.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let wanted: Vec<&str> = line.split_whitespace().collect();
    let there = resolve(&lab, &challenge, "TXT");
    // It waits for this line; if it has ended instead, its complaint is shown below.
    let _ = running.stdin.take().unwrap().write_all(b"\n");
    let (mut rest, mut said) = (String::new(), String::new());
    out.read_to_string(&mut rest).unwrap();
    let mut stderr = running.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(running.wait().unwrap().success(), "{said}\n{}", lab.log());
    assert_eq!(rest, "cleaned up\n");
    assert_eq!(wanted.len(), 2, "{line}");
    for validation in wanted {
        let quoted = format!("\"{validation}\"");
        let expected = ["120", "IN", "TXT", &quoted];
        let is_there = |line: &str| line.split_whitespace().skip(1).eq(expected);
        assert!(there.lines().any(is_there), "{validation}: {there}");
    }
    assert_eq!(there.lines().count(), 2, "{there}");
    assert_eq!(resolve(&lab, &challenge, "TXT"), "");
    // What was beside it is as it was.
    assert!(resolve(&lab, &name, "A").contains("10.1.0.10"));
}

#[test]
fn certbot_is_told_no_with_the_key_of_another_tenant_or_a_wrong_secret() {
    const OTHER: &str = "YW5vdGhlciBzZWNyZXQgb2YgMzIgb2N0ZXRzICEhISE=";
    let lab = Lab::started();
    let name = format!("web.{ZONE}");
    for (key, secret, expected) in [
        ("b-tf", SECRET, "REFUSED"),
        ("a-tf", OTHER, "like the signature"),
    ] {
        let running = certbot(&lab, &credentials(&lab, key, secret), &name);
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{key}");
        assert!(
            said.contains("PluginError") && said.contains(expected),
            "{key}: {said}"
        );
        assert_eq!(resolve(&lab, &format!("_acme-challenge.{name}"), "TXT"), "");
    }
}

#[test]
fn octodns_bind_reads_a_zone_by_transfer_and_changes_it_by_updates() {
    let lab = Lab::started();
    let zones = lab.path("zones");
    let folder = zones.display();
    let config = format!(
        "providers:\n  file: {{class: octodns.provider.yaml.YamlProvider, directory: {folder}, default_ttl: 300}}\n  \
         bulkhead: {{class: octodns_bind.Rfc2136Provider, host: {GATEWAY_A}, key_name: a-tf, key_secret: {SECRET}, \
         key_algorithm: hmac-sha256}}\n\
         zones:\n  {ZONE}.: {{sources: [file], targets: [bulkhead]}}\n"
    );
    let path = lab.path("octodns.yaml");
    fs::write(&path, config).unwrap();
    let config = format!("--config-file={}", path.display());
    let dump = format!("--output-dir={folder}");
    let whole = format!("{ZONE}.");
    lab.python(
        &lab.a,
        "octodns-dump",
        &[&config, &dump, &whole, "bulkhead"],
    );
    let file = lab.path(&format!("zones/{ZONE}.yaml"));
    let before = fs::read_to_string(&file).unwrap();
    assert!(
        before.contains("hello world") && before.contains("_sip._tcp"),
        "{before}"
    );
    let planned = || lab.python(&lab.a, "octodns-sync", &[&config, "--force"]);
    let done = || lab.python(&lab.a, "octodns-sync", &[&config, "--force", "--doit"]);
    let output = planned();
    assert!(
        output.contains("No changes"),
        "what it read is what is there: {output}"
    );

    let more = "zz-new:\n  - {ttl: 60, type: A, values: [10.1.0.30, 10.1.0.31]}\n  \
                - {ttl: 60, type: AAAA, value: 'fd00:1::30'}\n  \
                - {ttl: 61, type: TXT, value: v=DKIM1\\; k=rsa\\; p=LONG}\n\
                zz-srv:\n  type: MX\n  values: [{exchange: web.ZONE., preference: 5}]\n";
    let more = more.replace("ZONE", ZONE).replace("LONG", &"A".repeat(300));
    fs::write(&file, format!("{before}{more}")).unwrap();
    let output = planned();
    assert!(
        output.contains("Creates=4, Updates=0, Deletes=0"),
        "{output}"
    );
    let name = format!("zz-new.{ZONE}.");
    assert_eq!(resolve(&lab, &name, "A"), "", "a plan changes nothing");
    done();
    assert_eq!(resolve(&lab, &name, "A").lines().count(), 2);
    assert!(resolve(&lab, &name, "AAAA").contains("60\tIN\tAAAA\tfd00:1::30"));
    assert!(resolve(&lab, &name, "TXT").contains("v=DKIM1; k=rsa"));
    assert!(resolve(&lab, &format!("zz-srv.{ZONE}."), "MX").contains("5 web."));
    let output = planned();
    assert!(output.contains("No changes"), "{output}");

    fs::write(
        &file,
        format!("{before}{}", more.replace("10.1.0.31", "10.1.0.32")),
    )
    .unwrap();
    let output = done();
    assert!(
        output.contains("Creates=0, Updates=1, Deletes=0"),
        "{output}"
    );
    assert!(resolve(&lab, &name, "A").contains("10.1.0.32"));
    fs::write(&file, &before).unwrap();
    let output = done();
    assert!(
        output.contains("Creates=0, Updates=0, Deletes=4"),
        "{output}"
    );
    assert_eq!(resolve(&lab, &name, "ANY"), "");
    assert!(planned().contains("No changes"));
    assert!(resolve(&lab, &format!("web.{ZONE}."), "A").contains("10.1.0.10"));
}
