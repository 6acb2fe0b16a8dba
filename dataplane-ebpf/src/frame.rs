//! Frames in the kernel: XDP buffers and socket buffers.

#![expect(
    clippy::cast_possible_truncation,
    reason = "the kernel keeps 16-bit fields in 32 bits of its context; a checked conversion costs a branch"
)]

use core::ffi::c_void;
use core::mem::size_of;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_REDIRECT, xdp_action, xdp_md};
use aya_ebpf::helpers::{
    bpf_redirect, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_vlan_pop, bpf_skb_vlan_push,
    bpf_xdp_load_bytes,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use dataplane_common::abi::EVENT_BYTES;
use dataplane_common::policy::{Frame, MAX_OFFSET};
use dataplane_common::rewrite::FrameMut;
use dataplane_common::wire::{Be16, Tag, Wire, ether_type};

/// Octets of headers that are pulled into the linear part of a socket buffer.
const PULL: u32 = 256;
/// Octets of headers that each further segment has at least: Ethernet, IPv4, TCP.
const SEGMENT_HEADERS: u32 = 14 + 20 + 20;

/// A frame at a hook, and the hook's verdicts.
pub(crate) trait Hook: FrameMut {
    /// What the hook's programs are given.
    #[cfg(feature = "debug-log")]
    fn context(&self) -> impl aya_ebpf::EbpfContext;
    /// Returns the action that hands the frame to the next program or the kernel.
    fn pass(&self) -> i32;
    /// Returns the action that drops the frame.
    fn discard(&self) -> i32;
    /// Sends the frame back out of the interface it came from; returns the action.
    fn send_back(&self) -> i32;
    /// Copies the frame's first octets; returns how many.
    ///
    /// # Safety
    ///
    /// `bytes` must be valid for writes of [`EVENT_BYTES`] octets.
    unsafe fn capture(&self, bytes: *mut u8) -> u16;
}

/// Reads a header between two packet pointers.
#[inline(always)]
fn read<W: Wire>(data: usize, end: usize, offset: usize) -> Option<W> {
    if offset > MAX_OFFSET {
        return None;
    }
    let at = data + offset;
    if at + size_of::<W>() > end {
        return None;
    }
    // SAFETY: in bounds (the verifier checks it again), any bytes are a `W`. The BPF instruction set
    // loads from any alignment on the platforms that the kernel's verifier lets through.
    Some(unsafe { *(at as *const W) })
}

/// Writes a header between two packet pointers.
#[inline(always)]
fn write<W: Wire>(data: usize, end: usize, offset: usize, value: W) -> Option<()> {
    let at = data + offset;
    if at + size_of::<W>() > end {
        return None;
    }
    // SAFETY: as for `read`.
    unsafe { *(at as *mut W) = value };
    Some(())
}

/// A frame in an XDP buffer. The tag is in the bytes.
pub(crate) struct XdpFrame {
    md: *mut xdp_md,
    data: usize,
    end: usize,
}

impl XdpFrame {
    #[inline(always)]
    pub(crate) fn new(context: &XdpContext) -> Self {
        Self {
            md: context.as_ptr().cast(),
            data: context.data(),
            end: context.data_end(),
        }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn read<W: Wire>(&self, offset: usize) -> Option<W> {
        read(self.data, self.end, offset)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        self.end - self.data
    }

    #[inline(always)]
    fn again(&self) -> impl Frame {
        Self { ..*self }
    }

    #[inline(always)]
    fn offloaded_tag(&self) -> Option<(u16, u16)> {
        None
    }

    #[inline(always)]
    fn wire_length(&self, length: u16, _headers: u16) -> u16 {
        length
    }
}

impl FrameMut for XdpFrame {
    #[inline(always)]
    fn write<W: Wire>(&mut self, offset: usize, value: W) -> Option<()> {
        write(self.data, self.end, offset, value)
    }

    #[inline(always)]
    fn set_vlan(&mut self, vlan_id: u16) -> Option<()> {
        self.write(14, Be16::new(vlan_id))
    }
}

impl Hook for XdpFrame {
    #[cfg(feature = "debug-log")]
    fn context(&self) -> impl aya_ebpf::EbpfContext {
        XdpContext::new(self.md)
    }

    #[inline(always)]
    fn pass(&self) -> i32 {
        xdp_action::XDP_PASS as i32
    }

    #[inline(always)]
    fn discard(&self) -> i32 {
        xdp_action::XDP_DROP as i32
    }

    #[inline(always)]
    fn send_back(&self) -> i32 {
        xdp_action::XDP_TX as i32
    }

    #[inline(always)]
    unsafe fn capture(&self, bytes: *mut u8) -> u16 {
        let length = captured(self.length());
        // SAFETY: `bytes` holds `length` octets at least; the helper checks the frame's length.
        let failed = unsafe { bpf_xdp_load_bytes(self.md, 0, bytes.cast::<c_void>(), length) };
        if failed == 0 { length as u16 } else { 0 }
    }
}

/// A frame in a socket buffer. The outer tag is in the metadata: the kernel takes it out of the bytes
/// before TC (`skb_vlan_untag`).
/// <https://github.com/torvalds/linux/blob/v6.1/net/core/dev.c#L5344-L5349>
pub(crate) struct SkbFrame {
    skb: *mut __sk_buff,
    data: usize,
    end: usize,
}

impl SkbFrame {
    #[inline(always)]
    pub(crate) fn new(context: &TcContext) -> Self {
        let skb = context.skb.skb;
        let mut frame = Self {
            skb,
            data: context.data(),
            end: context.data_end(),
        };
        // SAFETY: `skb` is the program's context.
        let length = unsafe { (*skb).len };
        if frame.end - frame.data < PULL as usize && frame.end - frame.data < length as usize {
            let wanted = if length < PULL { length } else { PULL };
            // SAFETY: as above. If it fails, the headers are missing and the frame is dropped.
            unsafe { bpf_skb_pull_data(skb, wanted) };
            frame.data = context.data();
            frame.end = context.data_end();
        }
        frame
    }

    /// Loads the packet pointers again: with the old ones, the verifier forgets what was proven of the frame, which differs by
    /// where its tag was.
    #[inline(always)]
    pub(crate) fn reloaded(&self) -> Self {
        let skb = self.skb;
        // SAFETY: `skb` is the program's context.
        unsafe {
            Self {
                skb,
                data: (&raw const (*skb).data).read_volatile() as usize,
                end: (&raw const (*skb).data_end).read_volatile() as usize,
            }
        }
    }
}

impl Frame for SkbFrame {
    #[inline(always)]
    fn read<W: Wire>(&self, offset: usize) -> Option<W> {
        read(self.data, self.end, offset)
    }

    #[inline(always)]
    fn length(&self) -> usize {
        // SAFETY: `skb` is the program's context.
        unsafe { (*self.skb).len as usize }
    }

    /// On its way out, the kernel has counted (`wire_len`); on its way in it has not, and knows no number of segments
    /// (`gso_segs`) of what comes from a guest: it follows from their size.
    /// <https://github.com/torvalds/linux/blob/v6.1/net/core/dev.c#L3690-L3727>
    #[inline(always)]
    fn octets(&self) -> usize {
        // SAFETY: `skb` is the program's context.
        let (length, counted, segment) =
            unsafe { ((*self.skb).len, (*self.skb).wire_len, (*self.skb).gso_size) };
        let payload = length.saturating_sub(SEGMENT_HEADERS + 1);
        let further = payload.checked_div(segment).unwrap_or(0);
        let together = length.saturating_add(further.saturating_mul(SEGMENT_HEADERS));
        if counted > together {
            counted as usize
        } else {
            together as usize
        }
    }

    #[inline(always)]
    fn again(&self) -> impl Frame {
        self.reloaded()
    }

    #[inline(always)]
    fn offloaded_tag(&self) -> Option<(u16, u16)> {
        // SAFETY: `skb` is the program's context.
        unsafe {
            if (*self.skb).vlan_present == 0 {
                return None;
            }
            let tpid = u16::from_be((*self.skb).vlan_proto as u16);
            Some((tpid, (*self.skb).vlan_tci as u16))
        }
    }

    #[inline(always)]
    fn wire_length(&self, length: u16, headers: u16) -> u16 {
        // SAFETY: `skb` is the program's context.
        let segment = unsafe { (*self.skb).gso_size };
        if segment == 0 {
            length
        } else {
            headers.saturating_add(segment as u16)
        }
    }
}

impl FrameMut for SkbFrame {
    #[inline(always)]
    fn write<W: Wire>(&mut self, offset: usize, value: W) -> Option<()> {
        write(self.data, self.end, offset, value)
    }

    /// Invalidates the packet pointers: nothing may be read or written after it.
    #[inline(always)]
    fn set_vlan(&mut self, vlan_id: u16) -> Option<()> {
        if self.offloaded_tag().is_none() {
            let tag = self.read::<Tag>(14)?;
            return self.write(
                14,
                Tag {
                    tci: Be16::new(vlan_id),
                    ..tag
                },
            );
        }
        // SAFETY: `skb` is the program's context.
        unsafe {
            if bpf_skb_vlan_pop(self.skb) != 0 {
                return None;
            }
            let tpid = ether_type::VLAN.to_be();
            (bpf_skb_vlan_push(self.skb, tpid, vlan_id) == 0).then_some(())
        }
    }
}

impl Hook for SkbFrame {
    #[cfg(feature = "debug-log")]
    fn context(&self) -> impl aya_ebpf::EbpfContext {
        TcContext::new(self.skb)
    }

    /// `TC_ACT_UNSPEC` (TCX: `TCX_NEXT`), so that other programs on the interface still run.
    #[inline(always)]
    fn pass(&self) -> i32 {
        aya_ebpf::bindings::TC_ACT_UNSPEC
    }

    #[inline(always)]
    fn discard(&self) -> i32 {
        aya_ebpf::bindings::TC_ACT_SHOT
    }

    #[inline(always)]
    fn send_back(&self) -> i32 {
        // SAFETY: `skb` is the program's context; the helper takes numbers.
        let action = unsafe { bpf_redirect((*self.skb).ifindex, 0) } as i32;
        if action == TC_ACT_REDIRECT {
            action
        } else {
            self.discard()
        }
    }

    #[inline(always)]
    unsafe fn capture(&self, bytes: *mut u8) -> u16 {
        let length = captured(self.length());
        // SAFETY: `bytes` holds `length` octets at least; the helper checks the frame's length.
        let failed =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), 0, bytes.cast::<c_void>(), length) };
        if failed == 0 { length as u16 } else { 0 }
    }
}

/// Bounds a length for the capture helpers to 1..=[`EVENT_BYTES`], by a mask that the verifier follows
/// and the compiler cannot prove away.
#[inline(always)]
fn captured(length: usize) -> u32 {
    const MASK: usize = EVENT_BYTES - 1;
    let bounded = if length > EVENT_BYTES {
        EVENT_BYTES
    } else {
        length
    };
    (bounded.wrapping_sub(1) & MASK) as u32 + 1
}
