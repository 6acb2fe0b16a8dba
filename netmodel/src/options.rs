//! What to load, and loading it.

use std::collections::BTreeMap;
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
    /// Files per tree.
    pub files: usize,
    /// Nesting of lists and maps in a file.
    pub depth: usize,
    /// Values per file, those that aliases expand to included.
    pub nodes: u32,
    /// Hosts per tree.
    pub hosts: usize,
}

impl Bounds {
    /// For the site tree: its author is trusted, a registry may be long.
    pub const SITE: Self = Self {
        file_bytes: 16 << 20,
        files: 20_000,
        depth: 64,
        nodes: 4_000_000,
        hosts: 100_000,
    };
    /// For a tenant's tree.
    pub const TENANT: Self = Self {
        file_bytes: 1 << 20,
        files: 2_000,
        depth: 32,
        nodes: 100_000,
        hosts: 5_000,
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
    /// Bounds of the site tree.
    pub site_bounds: Bounds,
    /// Bounds of each tenant's tree.
    pub tenant_bounds: Bounds,
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
    let is_error = |finding: &Finding| finding.severity() == Severity::Error;
    Loaded {
        model: model.filter(|_| !findings.iter().any(is_error)),
        findings,
        sources,
    }
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
