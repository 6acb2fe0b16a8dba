//! Links as the checks want them, over rtnetlink.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoVlan, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::tc::TcAttribute;
use rtnetlink::{Error, Handle, new_connection};

use super::facts::{Link, LinkKind, Vlan};
use crate::loader::is_our_filter;

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

/// Returns every link, with its addresses and the VLANs of bridge ports.
pub(super) async fn all() -> Result<Vec<Link>, Error> {
    ask(|handle| async move {
        let links = handle.link().get().execute();
        let messages: Vec<_> = links.try_collect().await?;
        let mut links: BTreeMap<u32, Link> = messages.into_iter().map(link).collect();
        let addresses: Vec<_> = handle.address().get().execute().try_collect().await?;
        for message in &addresses {
            if let Some(link) = links.get_mut(&message.header.index) {
                link.addresses.extend(given_address(message));
            }
        }
        let mask = vec![LinkExtentMask::BrvlanCompressed];
        let ports = handle.link().get();
        let mut ports = ports.set_filter_mask(AddressFamily::Bridge, mask).execute();
        // A kernel without bridges answers with an error.
        while let Some(Ok(message)) = ports.next().await {
            if let Some(link) = links.get_mut(&message.header.index) {
                link.vlans.extend(vlans(&message));
            }
        }
        Ok(links.into_values().collect())
    })
    .await
}

fn link(message: LinkMessage) -> (u32, Link) {
    let index = message.header.index;
    let mut link = Link {
        index,
        up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    let (mut parent, mut infos) = (0, Vec::new());
    for attribute in message.attributes {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum is open")]
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Link(index) => parent = index,
            LinkAttribute::Controller(index) => link.controller = Some(index),
            LinkAttribute::LinkInfo(found) => infos = found,
            _ => {}
        }
    }
    link.kind = infos
        .iter()
        .find_map(|info| kind(info, parent))
        .unwrap_or_default();
    (index, link)
}

fn kind(info: &LinkInfo, parent: u32) -> Option<LinkKind> {
    if let LinkInfo::Data(InfoData::Vlan(data)) = info {
        return data.iter().find_map(|info| {
            if let InfoVlan::Id(vlan_id) = *info {
                Some(LinkKind::Vlan { parent, vlan_id })
            } else {
                None
            }
        });
    }
    if let LinkInfo::Data(InfoData::Bridge(data)) = info {
        let filters = data.contains(&InfoBridge::VlanFiltering(true));
        return Some(LinkKind::Bridge { filters });
    }
    None
}

/// Returns an address that somebody gave: the kernel makes link-local ones by itself.
fn given_address(message: &AddressMessage) -> Option<String> {
    if message.header.scope == AddressScope::Link && message.header.family == AddressFamily::Inet6 {
        return None;
    }
    // On a point-to-point link, `Address` is the peer's.
    let (mut local, mut any) = (None, None);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            local = Some(address);
        } else if let AddressAttribute::Address(address) = attribute {
            any = Some(address);
        }
    }
    let address = local.or(any)?;
    Some(format!("{address}/{}", message.header.prefix_len))
}

/// A run of VLANs comes as its two ends.
fn vlans(message: &LinkMessage) -> Vec<(u16, Vlan)> {
    let (mut vlans, mut first) = (Vec::new(), None);
    for attribute in &message.attributes {
        let LinkAttribute::AfSpecBridge(specs) = attribute else {
            continue;
        };
        for spec in specs {
            let AfSpecBridge::VlanInfo(info) = spec else {
                continue;
            };
            if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
                first = Some(info.vid);
                continue;
            }
            let how = Vlan {
                pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
                untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
            };
            let begin = first.take().unwrap_or(info.vid);
            vlans.extend((begin..=info.vid).map(|id| (id, how)));
        }
    }
    vlans
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
