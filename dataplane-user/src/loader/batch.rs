//! Reads, writes and deletes many elements of a map with one system call (`BPF_MAP_*_BATCH`, Linux 5.6), which aya
//! does not offer: 131,328 service classes would be as many calls.
//!
//! <https://github.com/torvalds/linux/blob/v6.1/include/uapi/linux/bpf.h#L1408-L1422>

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

/// `BPF_MAP_LOOKUP_BATCH`, `include/uapi/linux/bpf.h`.
const LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_MAP_UPDATE_BATCH`.
const UPDATE_BATCH: libc::c_int = 26;
/// `BPF_MAP_DELETE_BATCH`.
const DELETE_BATCH: libc::c_int = 27;
/// The most elements per call at first; a hash table whose fullest bucket has more asks for more.
const AT_ONCE: usize = 1 << 16;

/// `struct { ... } batch` of `union bpf_attr`.
#[derive(Default)]
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

impl Batch {
    fn new(map: &MapData, count: usize) -> io::Result<Self> {
        let fd = map.fd().as_fd().as_raw_fd();
        Ok(Self {
            count: u32::try_from(count).map_err(io::Error::other)?,
            map_fd: u32::try_from(fd).map_err(io::Error::other)?,
            ..Self::default()
        })
    }

    /// # Safety
    ///
    /// `keys` and `values` must point to `count` elements of the map's sizes, and `in_batch` and `out_batch` to a
    /// `u32`, or be 0 where the command does not use them. What the kernel writes to must not be shared.
    unsafe fn call(&mut self, command: libc::c_int) -> io::Result<()> {
        // SAFETY: laid out as the kernel's; what it points to is the caller's promise.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *self, size_of::<Self>()) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Writes elements of an array or a hash table. If it fails, some may have been written.
pub(super) fn write<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    check_sizes::<K, V>(map)?;
    if keys.is_empty() || keys.len() != values.len() {
        return Ok(());
    }
    let mut batch = Batch::new(map, keys.len())?;
    batch.keys = keys.as_ptr() as u64;
    batch.values = values.as_ptr() as u64;
    // SAFETY: both slices have `count` elements of the sizes that were checked; the kernel only reads them.
    unsafe { batch.call(UPDATE_BATCH) }
}

/// Deletes elements of a hash table that are there. If it fails, some may have been deleted.
pub(super) fn delete<K: Pod, V: Pod>(map: &MapData, keys: &[K]) -> io::Result<()> {
    check_sizes::<K, V>(map)?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::new(map, keys.len())?;
    batch.keys = keys.as_ptr() as u64;
    // SAFETY: the slice has `count` keys of the size that was checked; the kernel only reads them.
    unsafe { batch.call(DELETE_BATCH) }
}

/// Reads every element of an array or a hash table. Of one that is written to meanwhile, elements that come or go may be missing.
pub(super) fn read<K, V>(map: &MapData) -> io::Result<Vec<(K, V)>>
where
    K: Pod + Default,
    V: Pod + Default,
{
    let most = check_sizes::<K, V>(map)? as usize;
    let (mut read, mut position, mut room) = (Vec::new(), None, most.clamp(1, AT_ONCE));
    loop {
        let (mut keys, mut values) = (vec![K::default(); room], vec![V::default(); room]);
        let mut next = 0_u32;
        let mut batch = Batch::new(map, room)?;
        batch.keys = keys.as_mut_ptr() as u64;
        batch.values = values.as_mut_ptr() as u64;
        batch.in_batch = position
            .as_ref()
            .map_or(0, |at: &u32| &raw const *at as u64);
        batch.out_batch = &raw mut next as u64;
        // SAFETY: both vectors have `count` elements of the sizes that were checked; the positions are `u32`, which
        // arrays and hash tables use, and are this function's own.
        let result = unsafe { batch.call(LOOKUP_BATCH) };
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::ENOSPC)) => {
                room *= 2;
                continue;
            }
            // "ENOENT": the end; `count` elements were read.
            Ok(()) | Err(Some(libc::ENOENT)) => {}
            Err(_) => return result.map(|()| read),
        }
        let count = batch.count as usize;
        read.extend(keys.into_iter().zip(values).take(count));
        if result.is_err() || count == 0 {
            return Ok(read);
        }
        position = Some(next);
    }
}

/// The kernel copies as many octets as the map says. Returns the number of elements that there can be.
fn check_sizes<K, V>(map: &MapData) -> io::Result<u32> {
    let info = map.info().map_err(io::Error::other)?;
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    if sizes == (size_of::<K>(), size_of::<V>()) {
        Ok(info.max_entries())
    } else {
        Err(io::Error::other(format!(
            "its elements have other sizes: {sizes:?}"
        )))
    }
}
