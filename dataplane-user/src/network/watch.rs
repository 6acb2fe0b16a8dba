//! Something changed: the kernel's network, as a stream of events.
//!
//! # Guarantees
//!
//! * Subscribe, then full sync: the first event is [`Event::Resync`], and it comes after the subscription, so
//!   that nothing is missed in between. The reader observes at each event, and so gets the difference.
//! * When the kernel had to drop messages (`ENOBUFS`), or the socket ended, there is another [`Event::Resync`];
//!   and one from time to time even if nothing seems to have changed.
//! * Bursts are one [`Event::Changed`]. What happens to the trunk is told at once.
//!
//! A bridge tells of its ports' VLANs in link messages, too, so their own group (`RTNLGRP_BRVLAN`), which the
//! library cannot parse, is not needed. It cannot parse those of sysctls either (`RTNLGRP_IPV4_NETCONF`): a changed
//! sysctl is found by the next full sync.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, Prop};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket as _;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep, sleep_until};
use tracing::warn;

use super::{NetlinkError, Network, NetworkError, namespace};

/// Events that wait for the reader; it is told of nothing new while so many wait.
const WAITING: usize = 64;
/// Before another try to subscribe.
const PAUSE: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Anything may have changed: observe.
    Resync,
    /// Links or addresses changed: observe.
    Changed,
    /// The trunk came, went or was renamed.
    Trunk(TrunkEvent),
}

/// What happened to the link that has, or had, the trunk's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TrunkEvent {
    /// There is a link of that name, with an index that is new: attach to it.
    Appeared {
        /// Its index.
        ifindex: u32,
    },
    /// It is gone, and what was attached with it.
    Vanished {
        /// The index that it had.
        ifindex: u32,
    },
    /// It is called otherwise now, and has not its old name beside; what is attached stays.
    Renamed {
        /// Its index.
        ifindex: u32,
        /// Its new name.
        to: String,
    },
}

/// How patiently to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// A burst has ended after so long a silence.
    pub quiet: Duration,
    /// A burst is told of after so long at the latest.
    pub patience: Duration,
    /// Time between full syncs.
    pub resync: Duration,
    /// Octets of messages that may wait in the kernel (which limits it: `net.core.rmem_max`).
    pub buffer: usize,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            patience: Duration::from_millis(500),
            resync: Duration::from_secs(60),
            buffer: 1 << 20,
        }
    }
}

/// The stream of events; it ends only if the process leaves the network namespace.
pub struct Watch {
    events: mpsc::Receiver<Event>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream for Watch {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}

impl Network {
    /// Watches this network namespace, and the link called `trunk` in it, which need not be there.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the subscription.
    pub fn watch(&self, trunk: &str, options: WatchOptions) -> Result<Watch, NetworkError> {
        self.check_namespace()?;
        let first = Subscription::open(options.buffer)?;
        let (sender, events) = mpsc::channel(WAITING);
        let follower = Follower {
            trunk: Trunk::new(trunk),
            options,
            sender,
            namespace: self.namespace,
        };
        let task = tokio::spawn(follower.follow(first));
        Ok(Watch { events, task })
    }
}

type Messages = Pin<
    Box<
        dyn Stream<
                Item = (
                    NetlinkMessage<RouteNetlinkMessage>,
                    rtnetlink::sys::SocketAddr,
                ),
            > + Send,
    >,
>;

struct Subscription {
    handle: Handle,
    messages: Messages,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    fn open(buffer: usize) -> Result<Self, NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let opened = new_multicast_connection(&groups);
        let (mut connection, handle, messages) = opened.map_err(NetlinkError::Open)?;
        // Not more than a wish: what overflows is a full sync.
        let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(buffer);
        let task = tokio::spawn(connection);
        Ok(Self {
            handle,
            messages: Box::pin(messages),
            task,
        })
    }
}

struct Follower {
    trunk: Trunk,
    options: WatchOptions,
    sender: mpsc::Sender<Event>,
    namespace: u64,
}

/// The reader is gone.
struct Closed;

impl Follower {
    async fn follow(mut self, first: Subscription) {
        let mut subscription = Some(first);
        loop {
            match subscription.take() {
                Some(open) => {
                    if self.listen(open).await.is_err() {
                        return;
                    }
                    warn!("the subscription to the kernel's network ended: subscribing again");
                }
                None => sleep(PAUSE).await,
            }
            if namespace().ok() != Some(self.namespace) {
                return;
            }
            match Subscription::open(self.options.buffer) {
                Ok(opened) => subscription = Some(opened),
                Err(error) => warn!(%error, "cannot subscribe to the kernel's network"),
            }
        }
    }

    /// Until the subscription ends.
    async fn listen(&mut self, mut open: Subscription) -> Result<(), Closed> {
        self.resync(&open.handle).await?;
        let every = self.options.resync;
        let mut again = interval_at(Instant::now() + every, every);
        // Begin of a burst, and when it is told of.
        let mut burst: Option<(Instant, Instant)> = None;
        loop {
            let due = burst.map_or_else(|| Instant::now() + every, |(_, due)| due);
            tokio::select! {
                message = open.messages.next() => match message {
                    None => return Ok(()),
                    Some((message, _)) if is_overrun(&message) => {
                        burst = None;
                        self.resync(&open.handle).await?;
                    }
                    Some((message, _)) => {
                        self.tell_of_trunk(&message).await?;
                        let now = Instant::now();
                        let begin = burst.map_or(now, |(begin, _)| begin);
                        let due = (now + self.options.quiet).min(begin + self.options.patience);
                        burst = Some((begin, due));
                    }
                },
                _ = again.tick() => {
                    burst = None;
                    self.resync(&open.handle).await?;
                }
                () = sleep_until(due), if burst.is_some() => {
                    burst = None;
                    self.send(Event::Changed).await?;
                }
            }
        }
    }

    async fn tell_of_trunk(
        &mut self,
        message: &NetlinkMessage<RouteNetlinkMessage>,
    ) -> Result<(), Closed> {
        if let Some(event) = self.trunk.follow(message) {
            self.send(Event::Trunk(event)).await?;
        }
        Ok(())
    }

    async fn resync(&mut self, handle: &Handle) -> Result<(), Closed> {
        let request = handle.link().get().match_name(self.trunk.name.clone());
        let found = std::pin::pin!(request.execute()).try_next().await;
        let index = found.ok().flatten().map(|link| link.header.index);
        if let Some(event) = self.trunk.sync(index) {
            self.send(Event::Trunk(event)).await?;
        }
        self.send(Event::Resync).await
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.sender.send(event).await.map_err(|_| Closed)
    }
}

fn is_overrun(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    matches!(message.payload, NetlinkPayload::Overrun(_))
}

/// Follows the link of a name.
#[derive(Debug)]
struct Trunk {
    name: String,
    index: Option<u32>,
}

impl Trunk {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            index: None,
        }
    }

    /// `found`: the index of the link that has the name now.
    fn sync(&mut self, found: Option<u32>) -> Option<TrunkEvent> {
        let before = std::mem::replace(&mut self.index, found);
        match (before, found) {
            (before, Some(ifindex)) if before != Some(ifindex) => {
                Some(TrunkEvent::Appeared { ifindex })
            }
            (Some(ifindex), None) => Some(TrunkEvent::Vanished { ifindex }),
            _ => None,
        }
    }

    fn follow(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<TrunkEvent> {
        let NetlinkPayload::InnerMessage(message) = &message.payload else {
            return None;
        };
        if let RouteNetlinkMessage::NewLink(link) = message {
            return self.seen(link);
        }
        if let RouteNetlinkMessage::DelLink(link) = message {
            return self.gone(link);
        }
        None
    }

    fn seen(&mut self, link: &LinkMessage) -> Option<TrunkEvent> {
        let ifindex = link.header.index;
        let name = link.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::IfName(name) = attribute {
                Some(name)
            } else {
                None
            }
        })?;
        let is_also = link.attributes.iter().any(|attribute| {
            let also = Prop::AltIfName(self.name.clone());
            matches!(attribute, LinkAttribute::PropList(names) if names.contains(&also))
        });
        if *name == self.name || is_also {
            return self.sync(Some(ifindex));
        }
        if self.index != Some(ifindex) {
            return None;
        }
        self.index = None;
        let to = name.clone();
        Some(TrunkEvent::Renamed { ifindex, to })
    }

    /// A port that leaves a bridge is gone for the bridge's family only.
    fn gone(&mut self, link: &LinkMessage) -> Option<TrunkEvent> {
        let is_it = self.index == Some(link.header.index);
        let is_whole = link.header.interface_family == AddressFamily::Unspec;
        if is_it && is_whole {
            self.sync(None)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        link
    }

    fn new(index: u32, name: &str) -> NetlinkMessage<RouteNetlinkMessage> {
        RouteNetlinkMessage::NewLink(link(index, name)).into()
    }

    fn del(index: u32, name: &str) -> NetlinkMessage<RouteNetlinkMessage> {
        RouteNetlinkMessage::DelLink(link(index, name)).into()
    }

    #[test]
    fn trunk_is_followed_through_its_life() {
        let mut trunk = Trunk::new("eth1");
        let renamed = TrunkEvent::Renamed {
            ifindex: 7,
            to: "wan".to_owned(),
        };
        let rows = [
            ("another link", new(3, "eth0"), None),
            (
                "it comes",
                new(7, "eth1"),
                Some(TrunkEvent::Appeared { ifindex: 7 }),
            ),
            ("it changes", new(7, "eth1"), None),
            ("another goes", del(3, "eth0"), None),
            ("it is renamed", new(7, "wan"), Some(renamed)),
            ("what it was goes", del(7, "wan"), None),
            (
                "another has the name",
                new(9, "eth1"),
                Some(TrunkEvent::Appeared { ifindex: 9 }),
            ),
            (
                "without a word",
                new(12, "eth1"),
                Some(TrunkEvent::Appeared { ifindex: 12 }),
            ),
            (
                "it goes",
                del(12, "eth1"),
                Some(TrunkEvent::Vanished { ifindex: 12 }),
            ),
        ];
        for (what, message, expected) in rows {
            assert_eq!(trunk.follow(&message), expected, "{what}");
        }
    }

    #[test]
    fn trunk_that_was_renamed_is_found_by_the_name_it_has_besides() {
        let mut trunk = Trunk::new("eth1");
        trunk.sync(Some(7));
        assert!(matches!(
            trunk.follow(&new(7, "wan")),
            Some(TrunkEvent::Renamed { ifindex: 7, .. })
        ));
        let mut besides = link(7, "wan");
        let names = ["lan", "eth1"].map(|name| Prop::AltIfName(name.to_owned()));
        besides
            .attributes
            .push(LinkAttribute::PropList(names.to_vec()));
        let message = RouteNetlinkMessage::NewLink(besides).into();
        let appeared = TrunkEvent::Appeared { ifindex: 7 };
        assert_eq!(trunk.follow(&message), Some(appeared));
    }

    #[test]
    fn trunk_that_leaves_a_bridge_has_not_vanished() {
        let mut trunk = Trunk::new("eth1");
        trunk.sync(Some(7));
        let mut port = link(7, "eth1");
        port.header.interface_family = AddressFamily::Bridge;
        assert_eq!(
            trunk.follow(&RouteNetlinkMessage::DelLink(port).into()),
            None
        );
    }

    #[test]
    fn full_sync_tells_what_was_missed() {
        let mut trunk = Trunk::new("eth1");
        let rows = [
            (None, None),
            (Some(7), Some(TrunkEvent::Appeared { ifindex: 7 })),
            (Some(7), None),
            (Some(8), Some(TrunkEvent::Appeared { ifindex: 8 })),
            (None, Some(TrunkEvent::Vanished { ifindex: 8 })),
        ];
        for (found, expected) in rows {
            assert_eq!(trunk.sync(found), expected);
        }
    }
}
