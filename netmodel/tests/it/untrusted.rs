//! Whatever is in a tree, loading ends with findings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use netmodel::tree::{DirTree, MemTree, Tree, TreeError};
use netmodel::{Loaded, Options, load, load_trees};
use proptest::prelude::*;

use crate::common::{BASE, base_with, codes, files, load_files, text};

/// The base with beta's variables replaced.
fn beta(vars: &str) -> Loaded {
    let mut files = base_with("");
    files.insert(
        "tenants/beta/group_vars/beta.yml".into(),
        vars.as_bytes().to_vec(),
    );
    load_files(&files)
}

#[test]
fn a_billion_laughs_end_in_a_finding() {
    let mut bomb = String::from("tenant_name: beta\na0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let item = format!("*a{}", level - 1);
        let items = vec![item; 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(codes(&beta(&bomb)).contains(&"E0107"));
}

#[test]
fn merged_maps_count_as_often_as_they_are_merged() {
    let keys: Vec<String> = (0..1000).map(|key| format!("k{key}: 1")).collect();
    let mut bomb = format!("m0: &m {{ {} }}\n", keys.join(", "));
    for level in 0..200 {
        bomb.push_str(&format!("n{level}: {{ <<: *m }}\n"));
    }
    assert!(codes(&beta(&bomb)).contains(&"E0107"));
}

#[test]
fn deep_nesting_ends_in_a_finding() {
    for (open, close) in [("[", "]"), ("{ a: ", " }"), ("- ", "")] {
        let deep = format!("a: {}1{}\n", open.repeat(20_000), close.repeat(20_000));
        let found = beta(&deep);
        assert!(
            codes(&found)
                .iter()
                .any(|code| ["E0107", "E0101"].contains(code)),
            "{open}: {:?}",
            codes(&found)
        );
    }
}

#[test]
fn pathological_files_do_not_take_long() {
    let fill = |unit: &str| unit.repeat((1 << 20) / unit.len() - 20);
    let units = [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "&a ",
        "*a ",
        "!t ",
        "\"",
        "'",
        "# ",
        "\n",
        "|\n ",
        ", ",
        "a\n",
        "[a, ",
        "{a: [",
        "\t",
        ">-\n  x\n",
        "%YAML 1.2\n",
        "---\n",
        "{{ ",
        "\\",
        "\"a\": ",
        "a b ",
    ];
    for unit in units {
        for begin in ["tenant_name: ", "", "["] {
            let start = std::time::Instant::now();
            let found = beta(&format!("{begin}{}", fill(unit)));
            text(&found);
            let took = start.elapsed();
            assert!(
                took < std::time::Duration::from_secs(10),
                "{begin:?} {unit:?}: {took:?}"
            );
        }
    }
}

#[test]
fn many_small_mistakes_do_not_take_long() {
    let many = |line: &str| line.repeat((1 << 20) / line.len() - 20);
    let groups: String = (0..30_000)
        .map(|n| format!("    g{n}: {{ hosts: {{ h: }} }}\n"))
        .collect();
    let variables: String = (0..40_000).map(|n| format!("tenant_nam{n}: x\n")).collect();
    for (path, text) in [
        (
            "group_vars/beta.yml",
            format!(
                "tenant_name: beta\ntenant_uses:\n{}",
                many("- { tenant: alhpa, offer: x }\n")
            ),
        ),
        (
            "group_vars/beta.yml",
            format!(
                "tenant_name: beta\ntenant_dns_records:\n{}",
                many("- { name: a, type: A, value: 10.0.0.1 }\n")
            ),
        ),
        (
            "group_vars/beta.yml",
            format!(
                "tenant_name: beta\ntenant_firewall_rules:\n{}",
                many("- {name: a, from: {host: a}, to: {host: b}, action: deny}\n")
            ),
        ),
        (
            "group_vars/beta.yml",
            format!("tenant_name: beta\n{variables}"),
        ),
        (
            "group_vars/beta.yml",
            format!(
                "tenant_name: {}\n{}: x\n",
                "x".repeat(500_000),
                "y".repeat(500_000)
            ),
        ),
        ("hosts.yml", format!("all:\n  children:\n{groups}")),
    ] {
        let mut files = files(BASE);
        files.insert(format!("tenants/beta/{path}").into(), text.into());
        let start = std::time::Instant::now();
        let found = load_files(&files);
        crate::common::text(&found);
        let took = start.elapsed();
        assert!(
            took < std::time::Duration::from_secs(10),
            "{path}: {took:?}"
        );
    }
}

#[test]
fn a_tree_full_of_mistakes_does_not_flood_the_report() {
    let rules = "  - { from: 1 }\n".repeat(10_000);
    let found = beta(&format!(
        "tenant_name: beta\ntenant_firewall_rules:\n{rules}"
    ));
    let errors = codes(&found)
        .iter()
        .filter(|code| code.starts_with('E'))
        .count();
    assert_eq!(errors, 201);
    assert!(codes(&found).contains(&"E0107"));
    assert!(found.model.is_none());
}

#[test]
fn the_files_of_a_tree_are_bounded_together() {
    let mut files = files(BASE);
    for file in 0..20 {
        let path = format!("tenants/beta/host_vars/job01/{file:02}.yml");
        files.insert(
            path.into(),
            format!("a: {}\n", "x".repeat(1_000_000)).into(),
        );
    }
    files.remove(&PathBuf::from("tenants/beta/host_vars/job01.yml"));
    let found = load_files(&files);
    assert_eq!(
        codes(&found)
            .iter()
            .filter(|code| **code == "E0107")
            .count(),
        4
    );
}

#[test]
fn names_with_control_characters_are_refused() {
    for (path, file) in [
        (
            "tenants/beta/hosts.yml",
            "all: { children: { beta: { hosts: { \"job\\e[31m\": {} } } } }",
        ),
        (
            "tenants/beta/hosts.yml",
            "all: { children: { beta: { hosts: { alpha/web01: {} } } } }",
        ),
        (
            "tenants/beta/group_vars/beta.yml",
            "tenant_name: beta\ntenant_firewall_rules: [{ name: \"\\e[31m\", from: { cidr: 10.0.0.0/8 }, to: { segment: main }, action: deny }]",
        ),
    ] {
        let mut files = files(BASE);
        files.insert(path.into(), file.into());
        files.remove(&PathBuf::from("tenants/beta/host_vars/job01.yml"));
        let found = load_files(&files);
        assert!(codes(&found).contains(&"E0113"), "{file}: {}", text(&found));
    }
}

#[test]
fn a_huge_file_is_not_read() {
    let huge = format!("tenant_name: beta\n# {}\n", "x".repeat(2 << 20));
    let found = beta(&huge);
    assert!(codes(&found).contains(&"E0107"), "{}", text(&found));
}

#[test]
fn more_files_than_the_bound_are_not_read() {
    let mut files = files(BASE);
    for file in 0..2100 {
        let path = format!("tenants/beta/host_vars/job01/{file:04}.yml");
        files.insert(path.into(), b"a: 1\n".to_vec());
    }
    files.remove(&PathBuf::from("tenants/beta/host_vars/job01.yml"));
    let found = load_files(&files);
    let bounds = codes(&found)
        .iter()
        .filter(|code| **code == "E0107")
        .count();
    assert_eq!(bounds, 1, "said once");
}

#[test]
fn templates_cannot_grow_without_bounds() {
    for template in [
        "{{ 'a' * 1000000000 }}",
        "{{ range(1000000000) | list }}",
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{% set x = 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' %}{% set x = x ~ x %}{{ x }}",
        "{{ [1] * 100000000 }}",
        "{{ a1 ~ a1 ~ a1 ~ a1 }}",
    ] {
        let mut vars = format!("tenant_name: \"{template}\"\na0: {}\n", "x".repeat(4000));
        for level in 1..10 {
            let inner = level + 1;
            let value = if level == 9 {
                "a0".to_owned()
            } else {
                format!("a{inner} ~ a{inner} ~ a{inner} ~ a{inner}")
            };
            vars.push_str(&format!("a{level}: \"{{{{ {value} }}}}\"\n"));
        }
        let found = beta(&vars);
        assert!(
            codes(&found).contains(&"E0110"),
            "{template}: {}",
            text(&found)
        );
    }
}

#[test]
fn files_that_are_not_text_are_refused() {
    let mut files = files(BASE);
    files.insert(
        "tenants/beta/group_vars/beta.yml".into(),
        vec![0xff, 0xfe, 0x00],
    );
    let found = load_files(&files);
    assert!(codes(&found).contains(&"E0114"), "{}", text(&found));
}

/// Writes files to a folder.
fn write(root: &std::path::Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn no_symbolic_link_leads_out_of_a_tenants_folder() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &files(BASE));
    std::fs::write(root.path().join("secret.yml"), "secret: 1\n").unwrap();
    let vars = root.path().join("tenants/beta/host_vars/job01");
    std::fs::create_dir_all(&vars).unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, vars.join(name)).unwrap();
    std::fs::remove_file(root.path().join("tenants/beta/host_vars/job01.yml")).unwrap();
    link("../../../../secret.yml", "a-relative.yml");
    link(
        root.path().join("secret.yml").to_str().unwrap(),
        "b-absolute.yml",
    );
    link("../../../alpha/group_vars", "c-folder.yml");
    link("e-loop.yml", "e-loop.yml");
    link("../../hosts.yml", "f-inside.yml");
    let tenants = Some(root.path().join("tenants"));
    let found = load(&Options::new(root.path().join("site"), tenants));
    let escapes: Vec<String> = found
        .findings
        .iter()
        .filter(|finding| finding.code.as_str() == "E0115")
        .map(|f| {
            found
                .sources
                .get(f.primary.place.file)
                .path
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(
        escapes,
        [
            "a-relative.yml",
            "b-absolute.yml",
            "c-folder.yml",
            "e-loop.yml"
        ],
        "{}",
        text(&found)
    );
}

#[test]
fn a_fifo_is_refused_and_never_waited_for() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &files(BASE));
    let fifo = root.path().join("tenants/beta/group_vars/all.yml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let tenants = Some(root.path().join("tenants"));
    let found = load(&Options::new(root.path().join("site"), tenants));
    assert_eq!(codes(&found), ["E0114"], "{}", text(&found));
}

#[test]
fn files_on_disk_and_in_memory_load_alike() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &files(BASE));
    let tree = DirTree::open(&root.path().join("tenants")).unwrap();
    let memory = MemTree::new("tenants", &crate::common::below(&files(BASE), "tenants"));
    assert_eq!(tree.list("").unwrap(), memory.list("").unwrap());
    assert_eq!(tree.list("alpha").unwrap(), memory.list("alpha").unwrap());
    assert!(matches!(tree.list("nobody"), Err(TreeError::NotFound)));
    assert!(matches!(memory.list("nobody"), Err(TreeError::NotFound)));
    let site = DirTree::open(&root.path().join("site")).unwrap();
    let loaded = load_trees(&site, Some(&tree), &Options::default());
    assert_eq!(text(&loaded), "");
}

#[test]
fn a_folder_that_is_not_there_is_a_finding() {
    let found = load(&Options::new("/nonexistent/site", None));
    assert_eq!(codes(&found), ["E0114"]);
    assert!(found.model.is_none());
}

/// Paths that the loader looks at.
const PATHS: &[&str] = &[
    "site/hosts.yml",
    "site/group_vars/all/segments.yml",
    "site/group_vars/all/tenants.yml",
    "site/group_vars/all/firewall.yml",
    "site/group_vars/routers.yml",
    "site/host_vars/srv01.yml",
    "tenants/alpha/hosts.yml",
    "tenants/alpha/group_vars/alpha.yml",
    "tenants/beta/host_vars/job01.yml",
    "tenants/beta/terraform/outputs.json",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(path in 0..PATHS.len(), bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut files = files(BASE);
        files.insert(PATHS[path].into(), bytes);
        let loaded = load_files(&files);
        prop_assert_eq!(loaded.model.is_some(), loaded.errors() == 0);
        text(&loaded);
    }

    #[test]
    fn damaged_files_never_panic_and_load_alike_twice(
        path in 0..PATHS.len(),
        at in 0..1000_usize,
        cut in 0..40_usize,
        insert in "[-:{}\\[\\],&*!|>'\"% \n\t#?0-9a-z.]{0,8}",
    ) {
        let mut files = files(BASE);
        let file = files.entry(PATHS[path].into()).or_default();
        let start = at.min(file.len());
        let end = (start + cut).min(file.len());
        file.splice(start..end, insert.bytes());
        let loaded = load_files(&files);
        prop_assert_eq!(loaded.model.is_some(), loaded.errors() == 0);
        prop_assert_eq!(text(&loaded), text(&load_files(&files)));
    }
}
