//! RFC 4592: wildcards.

use super::support::*;

fn records() -> dns::world::World {
    let mut published = two_tenants(
        "
  - {name: '*', type: A, value: 10.1.0.20}
  - {name: '*', type: TXT, value: any}
  - {name: host, type: A, value: 10.1.0.10}
  - {name: '*.sub', type: CNAME, value: host}
  - {name: '*.lost', type: CNAME, value: nowhere.sub2}
  - {name: x.ent, type: A, value: 10.1.0.11}
",
    );
    // The inventory has no such name, an update can make it.
    let mut below = published.model.records[0].clone();
    "below.*.star".clone_into(&mut below.name);
    "A".clone_into(&mut below.record_type);
    "10.1.0.12".clone_into(&mut below.value);
    published.model.records.push(below);
    world(&published)
}

fn code_and_answers(name: &str, kind: u16) -> (String, Vec<String>) {
    let reply = ask(
        &records(),
        IN_A,
        &format!("{name}.a.east.lab.example"),
        kind,
    );
    let text = shown(&reply);
    let answers = reply
        .answers
        .iter()
        .map(|record| format!("{} {}", record.name, record.data));
    (
        text.split(' ').next().unwrap().to_owned(),
        answers.collect(),
    )
}

#[test]
fn section_2_2_1_a_name_that_does_not_exist_is_answered_by_the_wildcard() {
    let (code, answers) = code_and_answers("anything", A);
    assert_eq!(
        (code.as_str(), answers),
        (
            "NOERROR",
            vec!["anything.a.east.lab.example. 10.1.0.20".to_owned()]
        )
    );
    let (_, answers) = code_and_answers("deep.down", A);
    assert_eq!(answers, ["deep.down.a.east.lab.example. 10.1.0.20"]);
}

#[test]
fn section_2_2_1_a_missing_type_at_a_wildcard_is_no_data() {
    assert_eq!(
        code_and_answers("anything", AAAA),
        ("NOERROR".to_owned(), vec![])
    );
}

#[test]
fn section_2_2_2_a_name_that_exists_is_not_answered_by_the_wildcard() {
    for name in ["host", "ent", "sub"] {
        assert_eq!(
            code_and_answers(name, TXT),
            ("NOERROR".to_owned(), vec![]),
            "{name}"
        );
    }
}

#[test]
fn section_3_3_1_only_the_closest_enclosers_wildcard_answers() {
    for name in ["x.host", "y.ent"] {
        assert_eq!(
            code_and_answers(name, A),
            ("NXDOMAIN".to_owned(), vec![]),
            "{name}"
        );
    }
}

#[test]
fn section_2_1_1_the_wildcard_itself_can_be_asked_for() {
    assert_eq!(
        code_and_answers("*", A).1,
        ["*.a.east.lab.example. 10.1.0.20"]
    );
}

#[test]
fn section_2_2_an_empty_wildcard_node_is_no_data() {
    // `*.star` exists, because there is something below it, and has no data.
    assert_eq!(
        code_and_answers("z.star", A),
        ("NOERROR".to_owned(), vec![])
    );
}

#[test]
fn section_3_4_a_wildcard_alias_is_followed() {
    let (code, answers) = code_and_answers("q.sub", A);
    assert_eq!(code, "NOERROR");
    assert_eq!(
        answers,
        [
            "q.sub.a.east.lab.example. host.a.east.lab.example.",
            "host.a.east.lab.example. 10.1.0.10"
        ]
    );
    // Its end is again a name that only a wildcard has.
    assert_eq!(code_and_answers("q.lost", A).1.len(), 2);
}
