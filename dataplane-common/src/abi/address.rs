//! Addresses as they stand in frames.

/// An IPv6 address, or an IPv4 address as `::ffff:a.b.c.d`: four words in wire order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// Third word of an IPv4-mapped address, as it stands in memory.
    pub const V4_MAPPED: u32 = 0xffff_u32.to_be();

    /// Makes the IPv4-mapped address of a wire-order word.
    #[inline(always)]
    #[must_use]
    pub const fn from_ipv4_word(word: u32) -> Self {
        Self([0, 0, Self::V4_MAPPED, word])
    }

    /// Makes the IPv4-mapped address of four octets.
    #[must_use]
    pub const fn from_ipv4(octets: [u8; 4]) -> Self {
        Self::from_ipv4_word(u32::from_ne_bytes(octets))
    }

    /// Makes an IPv6 address of sixteen octets.
    #[must_use]
    pub const fn from_ipv6(o: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// Returns the sixteen octets in wire order.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let (a, b, c, d) = (
            a.to_ne_bytes(),
            b.to_ne_bytes(),
            c.to_ne_bytes(),
            d.to_ne_bytes(),
        );
        [
            a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1],
            d[2], d[3],
        ]
    }

    /// Becomes a copy of another address: see [`copy_words`].
    #[inline(always)]
    pub fn copy_from(&mut self, other: &Self) {
        // SAFETY: it is four words.
        unsafe { copy_words(self, other) };
    }

    /// Makes the mask of a prefix length, 0–128 (IPv4-mapped: 96–128).
    #[must_use]
    pub fn mask(length: u32) -> Self {
        let bits = if length == 0 {
            0
        } else {
            u128::MAX.checked_shl(128 - length).unwrap_or(0)
        };
        Self::from_ipv6(bits.to_be_bytes())
    }

    /// Clears the bits that a mask does not have.
    #[inline(always)]
    #[must_use]
    pub const fn masked(self, mask: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, mask.0);
        Self([a & e, b & f, c & g, d & h])
    }

    /// Is it an IPv4-mapped address?
    #[inline(always)]
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == Self::V4_MAPPED
    }
}

/// An IEEE 802 hardware address: three words in wire order.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[repr(C)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xffff; 3]);

    /// Makes an address of six octets.
    #[must_use]
    pub const fn from_octets(o: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([o[0], o[1]]),
            u16::from_ne_bytes([o[2], o[3]]),
            u16::from_ne_bytes([o[4], o[5]]),
        ])
    }

    /// Returns the six octets in wire order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        let [a, b, c] = self.0;
        let (a, b, c) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
        [a[0], a[1], b[0], b[1], c[0], c[1]]
    }

    /// Is the group bit set (multicast or broadcast)?
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }

    /// Are all octets zero?
    #[inline(always)]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0[0] | self.0[1] | self.0[2] == 0
    }
}

/// Copies four words. For an assignment between two places of one map value, the compiler calls `memmove`, since
/// they might overlap; this is four loads and stores.
///
/// # Safety
///
/// `W` is four words of 32 bits, aligned to one.
#[inline(always)]
pub(super) unsafe fn copy_words<W>(to: &mut W, from: &W) {
    let from = core::ptr::from_ref(from).cast::<u32>();
    let to = core::ptr::from_mut(to).cast::<u32>();
    for word in 0..4 {
        // SAFETY: the caller's promise.
        unsafe { to.add(word).write(from.add(word).read_volatile()) };
    }
}
