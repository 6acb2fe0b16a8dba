//! What to load, and loading it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use crate::check;
use crate::finding::{Code, Finding, Severity};
use crate::model::Model;
use crate::source::{Place, Realm, Source, Sources};
use crate::tree::{DirTree, Tree, TreeError};

/// How much the files of one tree may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Octets per file.
    pub file_bytes: u64,
    /// Octets of all files of a tree.
    pub total_bytes: u64,
    /// Files per tree.
    pub files: usize,
    /// Nesting of lists and maps in a file.
    pub depth: usize,
    /// Values per file, those that aliases expand to included.
    pub nodes: u32,
    /// Hosts per tree.
    pub hosts: usize,
    /// Errors that are reported per tree, and warnings.
    pub findings: usize,
}

impl Bounds {
    /// For the site tree: its author is trusted, a registry may be long.
    pub const SITE: Self = Self {
        file_bytes: 16 << 20,
        total_bytes: 256 << 20,
        files: 20_000,
        depth: 64,
        nodes: 4_000_000,
        hosts: 100_000,
        findings: 5_000,
    };
    /// For a tenant's tree.
    pub const TENANT: Self = Self {
        file_bytes: 1 << 20,
        total_bytes: 16 << 20,
        files: 2_000,
        depth: 32,
        nodes: 100_000,
        hosts: 5_000,
        findings: 200,
    };
}

/// What to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the site tree.
    pub site: PathBuf,
    /// Folder of the tenants' trees; `None` if there is none.
    pub tenants: Option<PathBuf>,
    /// Other names of site keys (`{"deevnet_vlans": "site_segments"}`), besides the built-in ones.
    pub aliases: BTreeMap<String, String>,
    /// The host that is the core router, if more than one sets `router_parent`.
    pub router: Option<String>,
    /// The host that this machine is, if it is a hypervisor.
    pub hypervisor: Option<String>,
    /// Connections that a packet path remembers at once. A hypervisor's segments have the half of it.
    pub connections: u32,
    /// Bounds of the site tree.
    pub site_bounds: Bounds,
    /// Bounds of each tenant's tree.
    pub tenant_bounds: Bounds,
}

/// Connections that are remembered at once unless a setting says otherwise.
pub const CONNECTIONS: u32 = 262_144;

/// Returns how many connections can be promised to segments, out of all that are remembered. Segments share the half at a hypervisor, and a
/// quarter of that is for those that are promised none, the platform's among them.
#[must_use]
pub const fn promisable(connections: u32) -> u32 {
    connections / 8 * 3
}

impl Options {
    /// Makes the options for two folders, all else by default.
    #[must_use]
    pub fn new(site: impl Into<PathBuf>, tenants: Option<PathBuf>) -> Self {
        Self {
            site: site.into(),
            tenants,
            aliases: BTreeMap::new(),
            router: None,
            hypervisor: None,
            connections: CONNECTIONS,
            site_bounds: Bounds::SITE,
            tenant_bounds: Bounds::TENANT,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new("/etc/bulkhead/site", Some("/etc/bulkhead/tenants".into()))
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The model; `None` if and only if a finding is an error.
    pub model: Option<Model>,
    /// What is wrong, or probably wrong: by file, line, column and code.
    pub findings: Vec<Finding>,
    /// The files, for showing the findings.
    pub sources: Sources,
}

impl Loaded {
    /// Returns how many findings are errors.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Returns how many findings are warnings.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        let of_severity = |finding: &&Finding| finding.severity() == severity;
        self.findings.iter().filter(of_severity).count()
    }
}

/// Loads an inventory from the file system. A folder that cannot be opened is a finding.
#[must_use]
pub fn load(options: &Options) -> Loaded {
    let mut refused = Loaded {
        model: None,
        findings: Vec::new(),
        sources: Sources::default(),
    };
    let mut open = |path: &PathBuf| {
        let opened = DirTree::open(path);
        opened.map_err(|error| refused.refuse(path, &error)).ok()
    };
    let site = open(&options.site);
    let tenants = options.tenants.as_ref().map(open);
    match (site, tenants) {
        (Some(site), None) => load_trees(&site, None, options),
        (Some(site), Some(Some(tenants))) => load_trees(&site, Some(&tenants), options),
        (None, _) | (_, Some(None)) => refused,
    }
}

/// Loads an inventory from two trees. The paths in the options are not used.
#[must_use]
pub fn load_trees(site: &dyn Tree, tenants: Option<&dyn Tree>, options: &Options) -> Loaded {
    let mut sources = Sources::default();
    let mut findings = Vec::new();
    let model = check::run(site, tenants, options, &mut sources, &mut findings);
    sort(&mut findings, &sources);
    let mut findings = limit(findings, &sources, options);
    sort(&mut findings, &sources);
    let is_error = |finding: &Finding| finding.severity() == Severity::Error;
    Loaded {
        model: model.filter(|_| !findings.iter().any(is_error)),
        findings,
        sources,
    }
}

/// Keeps the first errors and warnings of each tree: an untrusted tree must not flood the report.
fn limit(findings: Vec<Finding>, sources: &Sources, options: &Options) -> Vec<Finding> {
    let mut counts: HashMap<(Realm, Severity), usize> = HashMap::new();
    let mut kept = Vec::new();
    for finding in findings {
        let place = Place::file(finding.primary.place.file);
        let (realm, severity) = (sources.get(place.file).realm.clone(), finding.severity());
        let bound = match realm {
            Realm::Site => options.site_bounds.findings,
            Realm::Tenant(_) => options.tenant_bounds.findings,
        };
        let count = counts.entry((realm, severity)).or_default();
        *count += 1;
        if *count <= bound {
            kept.push(finding);
        } else if *count == bound + 1 && severity == Severity::Error {
            kept.push(
                Finding::new(
                    Code::Bounds,
                    format!("more than {bound} errors in the tree"),
                    place,
                )
                .note("those in this file from here on, and in later files, are not shown")
                .help("correct those that are shown, and run again"),
            );
        }
    }
    kept
}

/// By path, line, column and code; equal ones once.
fn sort(findings: &mut Vec<Finding>, sources: &Sources) {
    findings.sort_by(|a, b| {
        let key = |finding: &Finding| {
            let place = finding.primary.place;
            (
                std::sync::Arc::clone(&sources.get(place.file).path),
                place.start,
                finding.code,
            )
        };
        key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
    });
    findings.dedup();
}

impl Loaded {
    fn refuse(&mut self, path: &std::path::Path, error: &TreeError) {
        let file = self.sources.add(Source {
            path: path.display().to_string().into(),
            text: "".into(),
            realm: Realm::Site,
        });
        self.findings.push(
            Finding::new(
                Code::Unreadable,
                format!("cannot open the folder: {error}"),
                Place::file(file),
            )
            .help("name the folders with --site and --tenants"),
        );
    }
}
