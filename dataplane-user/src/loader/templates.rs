//! Inner maps of the tables, made so that every kernel takes them for what the outer maps want.
//!
//! The kernel takes a map into an outer map only if it is like the template that the outer map was made with. In
//! Linux 6.1 "like" includes where a value has a timer, and a map without BTF ("not known") differs from one whose
//! BTF names no timer ("nowhere"): EINVAL. Newer kernels compare the fields found, and none equals none. So the inner
//! maps carry the same BTF as the templates, which aya made from the object.
//! <https://github.com/torvalds/linux/blob/v6.1/kernel/bpf/map_in_map.c>

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use aya::EbpfError;
use aya::maps::MapData;
use aya_obj::Object;

use super::LoaderError;

/// `BPF_BTF_LOAD`, `include/uapi/linux/bpf.h`.
const BTF_LOAD: libc::c_int = 18;

/// What the object says of the inner maps.
#[derive(Debug)]
pub(super) struct Templates {
    /// `None` if the kernel has no BTF: then aya's templates have none either.
    btf: Option<OwnedFd>,
    inner: HashMap<String, aya_obj::Map>,
}

impl Templates {
    /// Reads them from the object that aya loads.
    pub(super) fn read(object: &[u8]) -> Result<Self, LoaderError> {
        let mut object = Object::parse(object)
            .map_err(EbpfError::from)
            .map_err(LoaderError::LoadObject)?;
        let inner = object.maps.iter();
        let inner = inner.filter_map(|(name, map)| Some((name.clone(), map.inner()?)));
        let inner = inner.collect();
        Ok(Self {
            btf: load_btf(&mut object)?,
            inner,
        })
    }

    /// Makes an inner map of the outer map `name`.
    pub(super) fn make(&self, name: &'static str, entries: u32) -> Result<MapData, LoaderError> {
        let template = self.inner.get(name).ok_or(LoaderError::MissingMap(name))?;
        let mut definition = template.clone();
        definition.set_max_entries(entries);
        let btf = self.btf.as_ref().map(|fd| fd.as_fd());
        MapData::create(definition, name, btf).map_err(|s| LoaderError::map(name, s))
    }
}

/// Brings the object's BTF into the kernel, prepared as aya prepares it.
fn load_btf(object: &mut Object) -> Result<Option<OwnedFd>, LoaderError> {
    let Some(features) = aya::features().btf() else {
        return Ok(None);
    };
    let btf = object
        .fixup_and_sanitize_btf(features)
        .map_err(EbpfError::from)
        .map_err(LoaderError::LoadObject)?;
    let fd = btf.map(|btf| btf_load(&btf.to_bytes())).transpose();
    fd.map_err(LoaderError::LoadBtf)
}

/// The beginning of the `union bpf_attr` of `BPF_BTF_LOAD`: no log is wanted.
#[repr(C)]
struct BtfLoad {
    btf: u64,
    log: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    _pad: u32,
}

fn btf_load(btf: &[u8]) -> io::Result<OwnedFd> {
    let attr = BtfLoad {
        btf: btf.as_ptr() as u64,
        log: 0,
        btf_size: u32::try_from(btf.len()).map_err(io::Error::other)?,
        log_size: 0,
        log_level: 0,
        _pad: 0,
    };
    // SAFETY: `attr` is laid out as the kernel's, and `btf` lives until the call ends.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BTF_LOAD,
            &raw const attr,
            size_of::<BtfLoad>(),
        )
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel has just made, and that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
