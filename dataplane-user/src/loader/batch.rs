//! Writes a run of an array with one system call (`BPF_MAP_UPDATE_BATCH`, Linux 5.6), which aya does not
//! offer: 131,328 service classes would be as many calls.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use aya::Pod;

/// `BPF_MAP_UPDATE_BATCH`, `include/uapi/linux/bpf.h`.
const UPDATE_BATCH: libc::c_int = 26;

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Writes `values` from index `first` on.
pub(super) fn write_array<V: Pod>(map: &OwnedFd, first: u32, values: &[V]) -> io::Result<()> {
    let keys: Vec<u32> = (first..).take(values.len()).collect();
    let count = u32::try_from(values.len()).map_err(io::Error::other)?;
    let map_fd = u32::try_from(map.as_raw_fd()).map_err(io::Error::other)?;
    let attr = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd,
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: `attr` is laid out as the kernel's, and `keys` and `values` live until the call ends; the array's
    // value size is that of `V`, since its typed wrapper was made with it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            UPDATE_BATCH,
            &raw const attr,
            size_of::<Batch>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
