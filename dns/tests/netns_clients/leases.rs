//! Names of leases, out of the file that `bulkhead-dhcpd` writes.

use std::io::Write as _;

use netmodel::ids::{MacAddr, VlanId};
use netmodel::leases::{self, Entry, Lease, State};
use testkit::wait::wait_for;

use crate::lab::{GATEWAY_A, GATEWAY_B, Lab, ZONE};

fn entry(number: u64, state: State) -> String {
    let mut line = String::new();
    let entry = Entry {
        number,
        vlan: VlanId::new(100).unwrap(),
        address: [10, 1, 0, 20].into(),
        lease: Lease {
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            state,
            since: 1_700_000_000,
            until: 1_700_003_600,
            client_id: Box::default(),
            hostname: "Laptop".into(),
        },
    };
    leases::push_line(&mut line, &entry);
    line
}

#[test]
fn a_name_comes_with_its_lease_stays_over_generations_and_goes_with_it() {
    let mut lab = Lab::new();
    let path = lab.path("leases");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(leases::head_line(0).as_bytes()).unwrap();
    file.write_all(entry(1, State::Bound).as_bytes()).unwrap();
    lab.more = vec![
        format!("--leases={}", path.display()),
        "--lease-names=a".to_owned(),
    ];
    lab.start();
    let name = format!("laptop.dhcp.{ZONE}");
    let at = format!("@{GATEWAY_A}");
    let short =
        |arguments: &[&str]| lab.dig(&lab.a, &[&[at.as_str(), "+short"], arguments].concat());
    assert_eq!(
        short(&[&name, "A"]),
        "10.1.0.20\n",
        "from the first answer on"
    );
    let reverse = short(&["-x", "10.1.0.20"]);
    assert!(reverse.ends_with(&format!("\n{name}.\n")), "{reverse}");
    assert!(short(&[&name, "DHCID"]).len() > 40);
    let other = lab.dig(&lab.b, &[&format!("@{GATEWAY_B}"), &name, "A"]);
    assert!(other.contains("NXDOMAIN"), "{other}");
    let script =
        format!("server {GATEWAY_A}\nzone {ZONE}.\nupdate add {name}. 60 A 10.1.0.21\nsend\n");
    let (is_good, output) = lab.update("nsupdate", &lab.a, "a-tf", &script);
    assert!(!is_good && output.contains("REFUSED"), "{output}");
    lab.publish(7);
    wait_for("the new generation", || {
        assert_eq!(
            short(&[&name, "A"]),
            "10.1.0.20\n",
            "while it is taken over"
        );
        // Number 7, and the first change of the leases.
        short(&[ZONE, "SOA"]).contains(" 8 3600").then_some(())
    })
    .unwrap();
    file.write_all(entry(2, State::Expired).as_bytes()).unwrap();
    wait_for("the name to go", || {
        short(&[&name, "A"]).is_empty().then_some(())
    })
    .unwrap();
    assert!(
        short(&[ZONE, "SOA"]).contains(" 9 3600"),
        "{}",
        short(&[ZONE, "SOA"])
    );
    assert!(
        lab.update("nsupdate", &lab.a, "a-tf", &script).0,
        "now it is free"
    );
}
