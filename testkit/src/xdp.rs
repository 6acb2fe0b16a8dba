//! An XDP program that lets everything pass, for the far end of a veth pair.
//!
//! What native XDP on one end sends back (`XDP_TX`) lies in the ring of the other end until that
//! end polls; the kernel wakes it only if it has a native XDP program of its own:
//! <https://github.com/torvalds/linux/blob/v6.12/drivers/net/veth.c#L578-L582>

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::errno::Errno;

use crate::netns::NetNs;

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const DRIVER_MODE: u32 = 1 << 2;
/// `r0 = XDP_PASS; exit`
const PASS: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// The attached program; it goes away when this is dropped.
#[derive(Debug)]
pub struct XdpPass {
    _link: OwnedFd,
}

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// The first fields of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl NetNs {
    /// Attaches a native XDP program that lets everything pass.
    ///
    /// # Errors
    ///
    /// If there is no such link, or its driver has no native XDP.
    pub fn attach_xdp_pass(&self, name: &str) -> Result<XdpPass> {
        let target_ifindex = self.ifindex(name)?;
        self.run(|| attach(target_ifindex))
            .with_context(|| format!("attaching an XDP program to {name} in {}", self.name()))
    }
}

fn attach(target_ifindex: u32) -> Result<XdpPass> {
    let load = ProgLoad {
        prog_type: PROG_TYPE_XDP,
        insn_count: 2,
        insns: PASS.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    let program = bpf(PROG_LOAD, &load).context("loading it")?;
    let link = LinkCreate {
        prog_fd: u32::try_from(program.as_raw_fd())?,
        target_ifindex,
        attach_type: ATTACH_TYPE_XDP,
        flags: DRIVER_MODE,
    };
    Ok(XdpPass {
        _link: bpf(LINK_CREATE, &link)?,
    })
}

/// Calls bpf(2) with a command that returns a descriptor.
fn bpf<T>(command: libc::c_long, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the attributes are the leading fields of the command's part of `union bpf_attr`; the
    // kernel takes the rest for zeroes. What they point to are statics.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    let fd = i32::try_from(Errno::result(fd)?)?;
    // SAFETY: the kernel just gave this descriptor to us and to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
