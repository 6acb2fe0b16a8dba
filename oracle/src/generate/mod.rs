//! Random inventories, frames and scenarios, the same for the same seed.
//!
//! Frames are *nearly valid*: a real endpoint sends to a real destination on a port near the rules,
//! and then up to two things are forged. Replies and follow-ups to earlier packets, time steps and
//! new generations exercise the state.

mod cast;
mod dice;
mod draft;
mod forge;
mod local;
mod model;
mod plug;
mod policies;
mod print;
mod related;
mod shrink;
mod talk;

use std::net::IpAddr;

use netmodel::Model;

pub use dice::Rng;
pub use model::model;
pub use plug::{Hook, PortCase, PortScenario, PortStep, port_scenario};
pub use related::related;
pub use shrink::shrink;

use crate::fixtures::ROUTER_MAC;
use crate::{Frame, RouterFacts, State, Verdict, World, from_trunk};
use cast::Cast;
use dice::Dice;
use draft::{Body, Draft};
use talk::Talk;

/// A frame to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    /// The octets.
    pub bytes: Vec<u8>,
    /// A tag in the metadata instead of the octets: (TPID, TCI). Generated cases have none.
    pub offloaded_tag: Option<(u16, u16)>,
    /// What it is, and what was forged, in words.
    pub notes: Vec<&'static str>,
}

impl Case {
    /// Returns the frame as the evaluator takes it.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        Frame {
            bytes: &self.bytes,
            offloaded_tag: self.offloaded_tag,
        }
    }

    /// Returns the same frame as a NIC with VLAN offload gives it: the outer tag, if there is one in
    /// the octets, in the metadata.
    #[must_use]
    pub fn with_offloaded_tag(&self) -> Self {
        let mut case = self.clone();
        let tpid = self
            .bytes
            .get(12..14)
            .map(|b| u16::from_be_bytes([b[0], b[1]]));
        let tci = self
            .bytes
            .get(14..16)
            .map(|b| u16::from_be_bytes([b[0], b[1]]));
        if let (Some(tpid @ (0x8100 | 0x88a8)), Some(tci)) = (tpid, tci) {
            case.bytes.drain(12..16);
            case.offloaded_tag = Some((tpid, tci));
        }
        case
    }
}

/// One step of a scenario.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Time goes on, in seconds.
    Advance(u64),
    /// A new generation: this one of the scenario's models.
    Flip(usize),
    /// A frame arrives.
    Packet(Case),
}

/// A router with its inventories, and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed it was made from.
    pub seed: u64,
    /// The inventories; the first is in force at the beginning, as generation 1.
    pub models: Vec<Model>,
    /// [`RouterFacts::mac`].
    pub router_mac: [u8; 6],
    /// [`RouterFacts::extra_addresses`].
    pub extra_addresses: Vec<IpAddr>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// Returns the world of one of the models.
    #[must_use]
    pub fn world(&self, model: usize, generation: u32) -> World<'_> {
        let world = World::new(&self.models[model], self.router_mac, generation);
        let extra_addresses = self.extra_addresses.clone();
        World {
            router: RouterFacts {
                extra_addresses,
                ..world.router
            },
            ..world
        }
    }

    /// Evaluates the scenario: the verdict of every packet, in order.
    #[must_use]
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut world = self.world(0, 1);
        let mut state = State::default();
        let mut now = 0;
        let mut verdicts = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            match step {
                Step::Advance(seconds) => now += seconds,
                Step::Flip(model) => world = self.world(*model, world.generation + 1),
                Step::Packet(case) => {
                    verdicts.push(from_trunk(&world, &mut state, &case.frame(), now));
                }
            }
        }
        verdicts
    }
}

/// What was sent so far: makes follow-ups possible.
#[derive(Clone, Debug, Default)]
pub struct History {
    talks: Vec<Talk>,
    cast: Cast,
    /// Generation that `cast` belongs to.
    generation: Option<u32>,
    /// So many of the next frames are about old conversations: the generation is new.
    unsettled: u8,
    style: Style,
}

/// How packets follow one another: many short conversations, or few long ones.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// Follow-ups are about one of so many last conversations.
    memory: usize,
    /// Percentage of follow-ups.
    follow: u8,
    /// Percentage of frames that are not forged.
    honest: u8,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            memory: 24,
            follow: 45,
            honest: 60,
        }
    }
}

impl Style {
    fn random(rng: &mut Rng) -> Self {
        let long = Self {
            memory: rng.usize(2..=5),
            follow: 85,
            honest: 88,
        };
        rng.one_of([Self::default(), long])
    }
}

impl History {
    /// Nothing was sent yet; in half of all cases conversations will be long.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        Self {
            style: Style::random(rng),
            ..Self::default()
        }
    }
}

/// Makes a scenario with so many packets.
#[must_use]
pub fn scenario(seed: u64, packets: usize) -> Scenario {
    let mut rng = Rng::with_seed(seed);
    let first = model(&mut rng);
    let second = related(&mut rng, &first);
    let third = related(&mut rng, &second);
    let mut scenario = Scenario {
        seed,
        models: vec![first, second, third],
        router_mac: ROUTER_MAC,
        extra_addresses: extra_addresses(&mut rng),
        steps: Vec::with_capacity(packets + packets / 8),
    };
    let steps = steps(&mut rng, &scenario, packets);
    scenario.steps = steps;
    scenario
}

fn steps(rng: &mut Rng, scenario: &Scenario, packets: usize) -> Vec<Step> {
    let mut world = scenario.world(0, 1);
    let mut history = History::random(rng);
    let mut steps = Vec::new();
    for _ in 0..packets {
        if rng.percent(4) {
            let seconds = rng.one_of([1, 2, 5, 9, 11, 29, 31, 59, 61, 120, 179, 181, 599, 601]);
            let seconds = rng.one_of([seconds, seconds, seconds, seconds, 7_439, 7_441]);
            steps.push(Step::Advance(seconds));
        }
        if rng.percent(4) {
            let model = rng.usize(..scenario.models.len());
            world = scenario.world(model, world.generation + 1);
            steps.push(Step::Flip(model));
        }
        steps.push(Step::Packet(frame(rng, &world, &mut history)));
    }
    steps
}

/// The WAN side, and sometimes a second address on a segment or an IPv6 one.
fn extra_addresses(rng: &mut Rng) -> Vec<IpAddr> {
    let all = [
        IpAddr::from([203, 0, 112, 1]),
        IpAddr::from([10, 0, 0, 2]),
        IpAddr::from([10, 1, 1, 1]),
        IpAddr::from([0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9]),
        IpAddr::from([192, 0, 2, 1]),
    ];
    let count = rng.usize(0..=3);
    rng.some(&all, count)
}

/// Makes the next frame.
pub fn frame(rng: &mut Rng, world: &World<'_>, history: &mut History) -> Case {
    if history.generation != Some(world.generation) {
        history.cast = Cast::of(rng, world.model);
        history.generation = Some(world.generation);
        history.unsettled = 4;
    }
    let mut draft = draft(rng, world, history).unwrap_or_else(|| nothing(world));
    let is_honest = rng.percent(history.style.honest);
    let forgeries = if is_honest {
        0
    } else {
        rng.one_of([1, 1, 1, 2])
    };
    for _ in 0..forgeries {
        forge::forge(rng, world, &history.cast, &mut draft);
    }
    let mut bytes = draft.bytes();
    if !is_honest && rng.percent(15) {
        draft.notes.push(forge::damage(rng, &draft, &mut bytes));
    }
    Case {
        bytes,
        offloaded_tag: None,
        notes: draft.notes,
    }
}

fn draft(rng: &mut Rng, world: &World<'_>, history: &mut History) -> Option<Draft> {
    let cast = &history.cast;
    let follow = if history.unsettled > 0 {
        95
    } else {
        history.style.follow
    };
    history.unsettled = history.unsettled.saturating_sub(1);
    if !history.talks.is_empty() && rng.percent(follow) {
        let count = history.talks.len();
        let recent = rng.one_of([count.saturating_sub(4), 0]);
        let index = rng.usize(recent..count);
        return Some(talk::follow(rng, &mut history.talks[index], cast));
    }
    match rng.u8(0..100) {
        0..=69 => {
            let (talk, draft) = talk::open(rng, world, cast)?;
            if history.talks.len() >= history.style.memory {
                history.talks.remove(0);
            }
            history.talks.push(talk);
            Some(draft)
        }
        kind => {
            let actor = cast.pick(rng)?;
            Some(match kind {
                70..=78 => local::arp(rng, world, cast, &actor),
                79..=92 => local::neighbour(rng, world, cast, &actor),
                93..=97 => local::dhcp(rng, world, &actor),
                _ => forge::noise(rng, &actor),
            })
        }
    }
}

/// A frame without a sender: only an inventory without segments needs it.
fn nothing(world: &World<'_>) -> Draft {
    Draft {
        source_mac: [2, 0, 0, 0, 0, 1],
        destination_mac: world.router.mac,
        tags: Vec::new(),
        body: Body::Raw(0x0800, Vec::new()),
        notes: vec!["nobody there"],
    }
}
