//! A machine sends and receives at the bandwidth of its port, and its neighbours as fast as they can.

use std::time::{Duration, Instant};

use testkit::frame::{Frame, tcp_flag};
use testkit::raw::RawSocket;

use super::host::{Lab, Machine};
use super::{API, DB};

/// Two machines of a tenant whose ports have no bandwidth.
const FREE: [&str; 2] = ["moneyrouter-app01", "moneyrouter-db01"];
/// Octets a second of `800kbit`.
const RATE: f64 = 100_000.0;
/// What may come at once: a tenth of a second's worth.
const BURST: f64 = RATE / 10.0;
/// So long takes a frame of a thousand octets; ours are a little longer.
const TURN: Duration = Duration::from_millis(10);
/// So many fit into the burst.
const AT_ONCE: u32 = 8;
/// Frames that are sent as fast as it goes.
const FRAMES: usize = 3000;
/// After so long a silence, all have arrived.
const SILENCE: Duration = Duration::from_millis(300);

fn limited() -> Lab {
    let lab = Lab::new();
    lab.edit_registry(
        "services: [logs, metrics, artifacts]",
        "services: [logs, metrics, artifacts]\n    limits: { endpoint: { bandwidth: 800kbit } }",
    );
    lab
}

/// What became of frames that were sent as fast as it goes.
struct Rush {
    /// All of them were sent.
    sent: Duration,
    /// The last that arrived did.
    last: Duration,
    /// How many arrived.
    frames: usize,
    /// How much that was.
    octets: f64,
}

/// Sends so many frames as fast as it goes.
fn rush(frames: usize, from: &(Machine, RawSocket), to: &(Machine, RawSocket)) -> Rush {
    let frame = Frame::new(from.0.mac, to.0.mac).ipv4(from.0.ipv4, to.0.ipv4);
    // Of a connection that is older than the programs: who may open it may go on with it.
    let frame = frame.tcp(4000, 5432, tcp_flag::ACK);
    let frame = frame.payload(&[7; 1000]).build();
    let same = |got: &[u8]| got.starts_with(&frame).then_some(());
    let begin = Instant::now();
    for _ in 0..frames {
        from.1.send(&frame).unwrap();
    }
    let sent = begin.elapsed();
    let (mut arrived, mut last) = (0, Duration::ZERO);
    while (to.1.receive_where(Instant::now() + SILENCE, same).unwrap()).is_some() {
        arrived += 1;
        last = begin.elapsed();
    }
    Rush {
        sent,
        last,
        frames: arrived,
        octets: arrived as f64 * frame.len() as f64,
    }
}

/// Frames that were dropped for their bandwidth on the way to a port.
fn over_bandwidth(lab: &Lab) -> u64 {
    let status = lab.status();
    let rows = status["counters"].as_array().unwrap().iter();
    let rows =
        rows.filter(|row| row["outcome"] == "over-bandwidth" && row["direction"] == "to_tenant");
    rows.map(|row| row["packets"].as_u64().unwrap()).sum()
}

#[test]
fn machine_has_its_bandwidth_and_another_tenants_any() {
    let lab = limited();
    let [api, db] = [(API, 101), (DB, 102)].map(|(name, id)| lab.start_machine(name, id));
    let [app, free] =
        [(FREE[0], 103), (FREE[1], 104)].map(|(name, id)| lab.start_machine(name, id));
    lab.bulkhead(&["apply", "--yes"], 0);
    let Rush { octets, last, .. } = rush(FRAMES, &api, &db);
    let most = RATE * last.as_secs_f64() + BURST + 2000.0;
    assert!(octets > 0.0 && octets < most, "{octets} octets in {last:?}");
    let dropped = over_bandwidth(&lab);
    assert!(dropped > 0);
    eprintln!("{octets} octets in {last:?} at 800 kbit/s, {dropped} frames dropped");
    let others = rush(FRAMES, &app, &free);
    assert_eq!(others.frames, FRAMES);
    assert_eq!(over_bandwidth(&lab), dropped, "nobody else is limited");
}

#[test]
fn frames_wait_for_their_turn_where_the_queue_is_fq() {
    let lab = limited();
    let [api, db] = [(API, 101), (DB, 102)].map(|(name, id)| lab.start_machine(name, id));
    let mut tc = lab.hypervisor.command("tc");
    tc.args(["qdisc", "replace", "dev", "tap102i0", "root", "fq"]);
    if !tc.output().unwrap().status.success() {
        eprintln!("this kernel has no queue `fq`");
        return;
    }
    lab.bulkhead(&["apply", "--yes"], 0);
    // Each has its turn 10 ms after the one before it, so these eight leave over 70 ms; without turns all leave at once.
    let turns = TURN * (AT_ONCE - 1);
    for _ in 0..50 {
        let rush = rush(AT_ONCE as usize, &api, &db);
        assert_eq!(
            rush.frames, AT_ONCE as usize,
            "none is dropped: there is room for ten"
        );
        // Otherwise they were late because they were sent late, as on an emulated processor that does something else.
        if rush.sent < 2 * TURN {
            assert!(rush.last >= turns, "after {:?}", rush.last);
            return;
        }
    }
    panic!("this machine is too slow to send {AT_ONCE} frames at once");
}
