//! Service classes: ports and protocols that no rule tells apart share one number.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dataplane_common::abi;
use netmodel::model::{PortSpec, Protocol, ZonePolicy};

/// IP protocol numbers.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;

/// Which services a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ports {
    /// Every protocol and port.
    Any,
    /// These service classes.
    Classes(BTreeSet<u32>),
}

/// The partition of all services by the port specifications that cover them. Class 0 is what no
/// specification covers.
pub(super) struct ServiceClasses {
    /// Class by [`abi::service_index`].
    pub(super) table: Vec<u32>,
    /// Number of classes, class 0 included.
    pub(super) count: u32,
    classes_of: HashMap<PortSpec, BTreeSet<u32>>,
}

impl ServiceClasses {
    /// Partitions by the given specifications.
    pub(super) fn new<'s>(specs: impl Iterator<Item = &'s PortSpec>) -> Self {
        let mut distinct: Vec<PortSpec> = Vec::new();
        let mut classes_of = HashMap::new();
        for spec in specs {
            if classes_of.insert(spec.clone(), BTreeSet::new()).is_none() {
                distinct.push(spec.clone());
            }
        }
        let mut classes = Self {
            table: vec![0; abi::SERVICE_INDEXES as usize],
            count: 1,
            classes_of,
        };
        classes.partition(&distinct, Protocol::Tcp, TCP);
        classes.partition(&distinct, Protocol::Udp, UDP);
        classes.add_icmp(&distinct);
        classes
    }

    /// Returns the services of a tenant rule, where no ports stands for every service.
    pub(super) fn ports(&self, specs: &[PortSpec]) -> Ports {
        match specs {
            [] => Ports::Any,
            specs => Ports::Classes(self.classes(specs)),
        }
    }

    /// Returns the classes that any of the specifications covers.
    pub(super) fn classes(&self, specs: &[PortSpec]) -> BTreeSet<u32> {
        let classes = specs.iter().filter_map(|spec| self.classes_of.get(spec));
        classes.flatten().copied().collect()
    }

    /// Sweeps over the ports of one protocol; runs covered by the same specifications share a class.
    fn partition(&mut self, specs: &[PortSpec], protocol: Protocol, number: u8) {
        let mut edges: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (i, spec) in specs.iter().enumerate() {
            if spec.protocol == protocol && !spec.ports.is_empty() {
                edges
                    .entry(u32::from(*spec.ports.start()))
                    .or_default()
                    .push(i);
                edges
                    .entry(u32::from(*spec.ports.end()) + 1)
                    .or_default()
                    .push(i);
            }
        }
        let base = abi::service_index(number, 0);
        let mut covering = BTreeSet::new();
        let mut known: BTreeMap<BTreeSet<usize>, u32> = BTreeMap::new();
        let mut edges = edges.into_iter().peekable();
        while let Some((start, changed)) = edges.next() {
            for i in changed {
                if !covering.remove(&i) {
                    covering.insert(i);
                }
            }
            let Some(&(end, _)) = edges.peek() else { break };
            if covering.is_empty() {
                continue;
            }
            let class = *known.entry(covering.clone()).or_insert(self.count);
            self.count = self.count.max(class + 1);
            self.table[(base + start) as usize..(base + end) as usize].fill(class);
            for &i in &covering {
                self.classes_of
                    .entry(specs[i].clone())
                    .or_default()
                    .insert(class);
            }
        }
    }

    fn add_icmp(&mut self, specs: &[PortSpec]) {
        let class = self.count;
        for spec in specs.iter().filter(|spec| spec.protocol == Protocol::Icmp) {
            self.classes_of
                .entry(spec.clone())
                .or_default()
                .insert(class);
            for protocol in [ICMP, ICMPV6] {
                self.table[abi::service_index(protocol, 0) as usize] = class;
            }
            self.count = class + 1;
        }
    }
}

/// Returns what a zone policy is about, as specifications; `None` is every protocol and port.
pub(super) fn policy_ports(policy: &ZonePolicy) -> Option<Vec<PortSpec>> {
    let every_port = [0..=u16::MAX];
    let (protocols, ports) = match (policy.protocol, policy.destination_ports.as_slice()) {
        (None, []) => return None,
        (None, ports) => (vec![Protocol::Tcp, Protocol::Udp], ports),
        (Some(protocol), []) => (vec![protocol], every_port.as_slice()),
        // There are no ports in ICMP to match.
        (Some(Protocol::Icmp), _) => (Vec::new(), [].as_slice()),
        (Some(protocol), ports) => (vec![protocol], ports),
    };
    let specs = protocols.into_iter().flat_map(|protocol| {
        ports.iter().map(move |ports| PortSpec {
            protocol,
            ports: ports.clone(),
        })
    });
    Some(specs.collect())
}
