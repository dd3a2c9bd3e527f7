//! Two small hashes with fixed results on every machine: for fingerprints, order and checksums.
//! Not for security.

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Mixes two values; each bit of the result depends on all bits of both (SplitMix64's finalizer).
pub fn mix(left: u64, right: u64) -> u64 {
    let mut z = left.wrapping_add(right.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// CRC-32 (IEEE 802.3), as in zlib.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32_of(&[bytes])
}

/// The same of several pieces, one behind the other.
pub fn crc32_of(pieces: &[&[u8]]) -> u32 {
    let pieces = pieces.iter().copied();
    pieces.fold(0, crc32_continued)
}

/// The same of some bytes behind those that have this checksum.
pub fn crc32_continued(checksum: u32, bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!checksum, |crc, byte| {
        (crc >> 8) ^ CRC32[((crc ^ u32::from(*byte)) & 0xff) as usize]
    })
}

/// What a byte does to the checksum.
const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_have_their_published_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32_of(&[b"1234", b"", b"56789"]), 0xcbf4_3926);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_ne!(mix(1, 2), mix(2, 1));
    }
}
