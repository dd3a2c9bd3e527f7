//! Stable 64-bit hashes of names and of small keys; not for tables that face untrusted input.

/// FNV-1a over the bytes: fixed by its definition, so a name means the same stream forever.
pub(crate) const fn fnv64(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}

/// One round of splitmix64: every input bit reaches every output bit.
pub(crate) const fn mix64(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A keyed hash of two words: chains [`mix64`], so each word is spread before the next joins.
pub(crate) const fn keyed64(seed: u64, first: u64, second: u64) -> u64 {
    mix64(mix64(mix64(seed) ^ first) ^ second)
}

#[cfg(test)]
mod tests {
    use super::{fnv64, mix64};

    #[test]
    fn published_vectors_hold() {
        assert_eq!(fnv64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv64(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix64(0), 0xe220_a839_7b1d_cdaf);
    }
}
