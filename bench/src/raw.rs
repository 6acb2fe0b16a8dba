//! Raw eBPF programs and maps: what is measured with, as near to nothing as can be.
//!
//! A frame is judged a million times in one system call, and the kernel does not restore it in between. So a
//! *prologue* goes before the program: it puts back what forwarding changes, writes the next flow's ports, and
//! tail calls. The same prologue before an empty program is the baseline.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use dataplane_user::loader::Hook;
use libc::c_long;

const MAP_CREATE: c_long = 0;
const MAP_UPDATE: c_long = 2;
const PROG_LOAD: c_long = 5;
const PROG_TEST_RUN: c_long = 10;
const HASH: u32 = 1;
const PROG_ARRAY: u32 = 3;
const LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
const LICENSE: &CStr = c"Dual MIT/GPL";
/// Octets of a key of the probe map: an IPv6 address's.
const KEY: i16 = 16;

/// What differs between the hooks.
#[derive(Clone, Copy, Debug)]
struct Kind {
    /// `BPF_PROG_TYPE_*`.
    program: u32,
    /// Programs of one array must have the same expected attach type.
    attach: u32,
    /// Offset of `data` in the context; `data_end` follows it.
    data: i16,
    /// The action that lets a frame pass.
    pass: i32,
}

impl Kind {
    fn of(hook: Hook) -> Self {
        match hook {
            Hook::Xdp => Self {
                program: 6,
                attach: 37,
                data: 0,
                pass: 2,
            },
            Hook::Tc => Self {
                program: 3,
                attach: 0,
                data: 76,
                pass: 0,
            },
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct MapUpdate {
    fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    fd: u32,
    return_value: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    rest: [u64; 5],
}

fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<c_long> {
    // SAFETY: the structures above begin as the kernel's `union bpf_attr` does for their command, what lies
    // behind their end counts as zero, and the pointers in them outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

fn owned(fd: c_long) -> Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd)?) })
}

fn number(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn map(kind: u32, key_size: u32, value_size: u32, max_entries: u32) -> Result<OwnedFd> {
    let mut create = MapCreate {
        kind,
        key_size,
        value_size,
        max_entries,
        flags: 0,
    };
    owned(bpf(MAP_CREATE, &mut create).context("create a map")?)
}

fn update(map: &OwnedFd, key: &[u8], value: &[u8]) -> Result<()> {
    let mut update = MapUpdate {
        fd: number(map),
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        ..MapUpdate::default()
    };
    bpf(MAP_UPDATE, &mut update).context("update a map")?;
    Ok(())
}

/// Encodes an instruction.
fn op(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    u64::from(code)
        | u64::from(dst) << 8
        | u64::from(src) << 12
        | u64::from(off.cast_unsigned()) << 16
        | u64::from(imm.cast_unsigned()) << 32
}

/// Loads a map's address into a register: two instructions.
fn map_address(dst: u8, map: &OwnedFd) -> [u64; 2] {
    [op(0x18, dst, 1, 0, map.as_raw_fd()), 0]
}

fn load(kind: Kind, instructions: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0_u8; 65_536];
    let mut load = ProgLoad {
        kind: kind.program,
        count: u32::try_from(instructions.len())?,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 1,
        log_size: 65_536,
        log: log.as_mut_ptr() as u64,
        expected_attach_type: kind.attach,
        ..ProgLoad::default()
    };
    let loaded = bpf(PROG_LOAD, &mut load);
    let log = String::from_utf8_lossy(&log);
    owned(loaded.with_context(|| format!("load a program: {}", log.trim_end_matches('\0')))?)
}

/// Loads the program that does nothing.
///
/// # Errors
///
/// The kernel's refusal.
pub fn empty(hook: Hook) -> Result<OwnedFd> {
    let kind = Kind::of(hook);
    load(kind, &[op(0xb7, 0, 0, 0, kind.pass), op(0x95, 0, 0, 0, 0)])
}

/// Loads a program that makes so many lookups, all hits, in a hash table of 1,024 entries with keys of 16
/// octets. The kernel keeps the table as long as the program.
///
/// # Errors
///
/// The kernel's refusal.
pub fn lookups(hook: Hook, count: i32) -> Result<OwnedFd> {
    let kind = Kind::of(hook);
    let table = map(HASH, 16, 8, 1024)?;
    for number in 0_u128..1024 {
        update(&table, &number.to_le_bytes(), &[0; 8])?;
    }
    // The key on the stack, zero but for its first word.
    let mut code = vec![op(0x7a, 10, 0, 8 - KEY, 0)];
    for number in 0..count {
        code.extend([
            op(0x7a, 10, 0, -KEY, number * 7),
            op(0xbf, 2, 10, 0, 0),
            op(0x07, 2, 0, 0, -i32::from(KEY)),
        ]);
        code.extend(map_address(1, &table));
        code.push(op(0x85, 0, 0, 0, LOOKUP));
    }
    code.extend([op(0xb7, 0, 0, 0, kind.pass), op(0x95, 0, 0, 0, 0)]);
    load(kind, &code)
}

/// How the prologue makes the next frame of the last one.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    /// So many flows, a power of two; each comes once before the first comes again.
    pub flows: u32,
    /// The multiplier of the sequence, 1 modulo 4: another one is another order.
    pub multiplier: i32,
    /// Offset of the transport header, whose first field is the source port.
    pub ports: i16,
    /// Vary the destination port, too?
    pub both_ports: bool,
    /// Offset of the four octets that hold the sequence's state.
    pub state: i16,
}

/// A prologue, and the program behind it.
#[derive(Debug)]
pub struct Runner {
    prologue: OwnedFd,
    /// The kernel empties a program array that no descriptor refers to.
    _array: OwnedFd,
}

impl Runner {
    /// Puts a prologue for a frame in front of a program.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn new(hook: Hook, program: &impl AsRawFd, frame: &[u8], cycle: Cycle) -> Result<Self> {
        let kind = Kind::of(hook);
        let array = map(PROG_ARRAY, 4, 4, 1)?;
        let fd = program.as_raw_fd().to_ne_bytes();
        update(&array, &[0; 4], &fd).context("put the program behind the prologue")?;
        let prologue = load(kind, &prologue(kind, frame, cycle, &array)?)?;
        Ok(Self {
            prologue,
            _array: array,
        })
    }

    /// Judges so many frames. `frame` becomes the last one, so that the next call goes on with the sequence.
    /// Returns the last action.
    ///
    /// # Errors
    ///
    /// The kernel's refusal.
    pub fn run(&self, frame: &mut [u8], repeat: u32) -> Result<u32> {
        let length = u32::try_from(frame.len())?;
        let mut run = TestRun {
            fd: number(&self.prologue),
            size_in: length,
            size_out: length,
            data_in: frame.as_ptr() as u64,
            data_out: frame.as_mut_ptr() as u64,
            repeat,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut run).context("run a program")?;
        Ok(run.return_value)
    }
}

fn prologue(kind: Kind, frame: &[u8], cycle: Cycle, array: &OwnedFd) -> Result<Vec<u64>> {
    let restored = restore(frame);
    let mut steps = Vec::new();
    steps.extend(restored);
    let mask = (cycle.flows - 1).cast_signed();
    steps.extend([
        op(0x61, 4, 2, cycle.state, 0),
        op(0x24, 4, 0, 0, cycle.multiplier),
        op(0x04, 4, 0, 0, 1_013_904_223),
        op(0x54, 4, 0, 0, mask),
        op(0x63, 2, 4, cycle.state, 0),
        // No port is 0.
        op(0x64, 4, 0, 0, 1),
        op(0x44, 4, 0, 0, 0x4000_0001),
        op(
            if cycle.both_ports { 0x63 } else { 0x6b },
            2,
            4,
            cycle.ports,
            0,
        ),
        op(0xbf, 1, 6, 0, 0),
    ]);
    steps.extend(map_address(2, array));
    steps.extend([op(0xb7, 3, 0, 0, 0), op(0x85, 0, 0, 0, TAIL_CALL)]);
    let length = i32::try_from(frame.len())?;
    let mut code = vec![
        op(0xbf, 6, 1, 0, 0),
        op(0x61, 2, 1, kind.data, 0),
        op(0x61, 3, 1, kind.data + 4, 0),
        op(0xbf, 4, 2, 0, 0),
        op(0x07, 4, 0, 0, length),
        op(0x2d, 4, 3, i16::try_from(steps.len())?, 0),
    ];
    code.extend(steps);
    code.extend([op(0xb7, 0, 0, 0, 0), op(0x95, 0, 0, 0, 0)]);
    Ok(code)
}

/// Stores that put back what forwarding changes: MACs, tag, TTL and checksum (IPv4) or hop limit (IPv6). All
/// lie in the first 32 octets.
fn restore(frame: &[u8]) -> impl Iterator<Item = u64> + '_ {
    frame
        .chunks_exact(4)
        .take(8)
        .zip((0..).step_by(4))
        .map(|(word, at)| {
            let word = [word[0], word[1], word[2], word[3]];
            op(0x62, 2, 0, at, i32::from_le_bytes(word))
        })
}
