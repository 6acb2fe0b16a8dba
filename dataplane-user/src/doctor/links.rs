//! Links as the checks want them, and what is attached to one.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkXdp};
use rtnetlink::packet_route::tc::TcAttribute;
use rtnetlink::{Error, Handle, new_connection};

use super::facts::{Link, LinkKind, Vlan};
use crate::loader::is_our_filter;
use crate::network::{self, Address, Kind, Observed, Origin};

/// Runs questions on a connection of their own.
async fn ask<T, F: Future<Output = Result<T, Error>>>(
    question: impl FnOnce(Handle) -> F,
) -> Result<T, Error> {
    let (connection, handle, _) = new_connection().map_err(|_| Error::RequestFailed)?;
    let task = tokio::spawn(connection);
    let answer = question(handle).await;
    task.abort();
    answer
}

/// Returns every link as the checks want it.
pub(super) fn all(observed: &Observed) -> Vec<Link> {
    observed.links.values().map(link).collect()
}

fn link(found: &network::Link) -> Link {
    // The kernel makes link-local addresses by itself.
    let given = |address: &&Address| address.origin != Origin::Kernel;
    let addresses = found.addresses.iter().filter(given);
    let vlans = found.vlans.iter().map(|(vlan, how)| {
        let how = Vlan {
            pvid: how.pvid,
            untagged: how.untagged,
        };
        (*vlan, how)
    });
    Link {
        index: found.index,
        name: found.name.clone(),
        up: found.up,
        mtu: found.mtu,
        kind: kind(found.kind),
        controller: found.controller,
        addresses: addresses.map(|address| address.net.to_string()).collect(),
        vlans: vlans.collect(),
    }
}

fn kind(kind: Kind) -> LinkKind {
    match kind {
        Kind::Vlan {
            parent: Some(parent),
            vlan_id,
        } => LinkKind::Vlan { parent, vlan_id },
        Kind::Bridge { vlan_filtering, .. } => LinkKind::Bridge {
            filters: vlan_filtering,
        },
        Kind::Vlan { parent: None, .. } | Kind::Veth { .. } | Kind::Tap | Kind::Other => {
            LinkKind::Other
        }
    }
}

/// Returns the XDP programs of a link, by number.
pub(super) async fn xdp_programs(ifindex: u32) -> Result<Vec<u32>, Error> {
    let message = ask(|handle| async move {
        let mut links = handle.link().get().match_index(ifindex).execute();
        links.try_next().await
    });
    let attributes = message.await?.map(|message| message.attributes);
    let mut programs = Vec::new();
    for attribute in attributes.into_iter().flatten() {
        let LinkAttribute::Xdp(found) = attribute else {
            continue;
        };
        for xdp in found {
            if let LinkXdp::ProgId(id)
            | LinkXdp::DrvProgId(id)
            | LinkXdp::SkbProgId(id)
            | LinkXdp::HwProgId(id) = xdp
            {
                programs.push(id);
            }
        }
    }
    programs.sort_unstable();
    programs.dedup();
    Ok(programs)
}

/// Counts the eBPF filters on a link's ingress; without our own, if there is one.
pub(super) async fn foreign_filters(ifindex: u32, ours_is_there: bool) -> Result<usize, Error> {
    let Ok(index) = i32::try_from(ifindex) else {
        return Ok(0);
    };
    let filters = ask(|handle| async move {
        let filters = handle.traffic_filter(index).get().ingress().execute();
        filters.try_collect::<Vec<_>>().await
    });
    let bpf = TcAttribute::Kind("bpf".to_owned());
    let filters = filters.await?;
    // The kernel lists a chain's head as a filter without a handle.
    let filters = filters
        .iter()
        .filter(|filter| u32::from(filter.header.handle) != 0 && filter.attributes.contains(&bpf));
    let foreign = filters.filter(|filter| {
        let priority = filter.header.info >> 16;
        !(ours_is_there && is_our_filter(priority, u32::from(filter.header.handle)))
    });
    Ok(foreign.count())
}
