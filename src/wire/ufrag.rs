//! Pure: the ICE ufrag that says who owns a session (UF1).
//!
//! A server ufrag is one version character and one AES-128 block in base64: the block holds edge, worker, generation
//! and nonce, and 32 zero bits. Whoever receives a STUN request finds its owner from the packet alone, without a
//! table that is shared between workers. A forged ufrag fails the zero check (2^-32 per try) before any state is
//! touched, one of a former process fails by its generation, and nothing about the fleet can be read from it.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};

/// Characters of an encoded ufrag: one version character and 22 of base64.
pub const UFRAG_LEN: usize = 23;

/// Largest generation (24 bits).
pub const GENERATION_MAX: u32 = (1 << 24) - 1;

/// Largest nonce (40 bits).
pub const NONCE_MAX: u64 = (1 << 40) - 1;

/// What a server ufrag says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ufrag {
    /// The edge that owns the session.
    pub edge: u16,
    /// The worker of that edge.
    pub worker: u8,
    /// Reserved; 0.
    pub flags: u8,
    /// The process generation, random at start; 24 bits, higher bits are not carried.
    pub generation: u32,
    /// Counts ICE credentials on the worker; 40 bits, higher bits are not carried.
    pub nonce: u64,
}

/// Encrypts and decrypts ufrags under one key.
#[derive(Clone)]
pub struct UfragCodec {
    cipher: Aes128,
}

impl UfragCodec {
    /// Creates a codec. All edges that read each other's ufrags share the key.
    pub fn new(key: [u8; 16]) -> Self {
        Self { cipher: Aes128::new(&Array::from(key)) }
    }

    /// Writes a ufrag of [`UFRAG_LEN`] ICE characters (RFC 8839 section 5.4).
    pub fn encode(&self, ufrag: &Ufrag) -> String {
        let plain = (u128::from(ufrag.edge) << 112)
            | (u128::from(ufrag.worker) << 104)
            | (u128::from(ufrag.flags) << 96)
            | (u128::from(ufrag.generation & GENERATION_MAX) << 72)
            | (u128::from(ufrag.nonce & NONCE_MAX) << 32);
        let mut block = Array::from(plain.to_be_bytes());
        self.cipher.encrypt_block(&mut block);
        let block = u128::from_be_bytes(block.into());
        let mut text = String::with_capacity(UFRAG_LEN);
        text.push(VERSION);
        // 21 characters carry 126 bits; the last one carries 2 bits and 4 zeros.
        for shift in (2..128).step_by(6).rev() {
            text.push(character(block >> shift));
        }
        text.push(character(block << 4));
        text
    }

    /// Reads a ufrag; `None` if it is not canonical or was not made under this key.
    pub fn decode(&self, text: &[u8]) -> Option<Ufrag> {
        let (&version, digits) = text.split_first()?;
        if version != VERSION as u8 || digits.len() != UFRAG_LEN - 1 {
            return None;
        }
        let (&last, digits) = digits.split_last()?;
        let mut block = 0_u128;
        for &digit in digits {
            block = (block << 6) | u128::from(sextet(digit)?);
        }
        let last = sextet(last)?;
        if last & 0x0F != 0 {
            return None; // Two spellings of one block would be two names of one session.
        }
        block = (block << 2) | u128::from(last >> 4);
        let mut block = Array::from(block.to_be_bytes());
        self.cipher.decrypt_block(&mut block);
        let plain = u128::from_be_bytes(block.into());
        // One comparison of the whole word: its time says nothing about how many bits were right.
        if plain & 0xFFFF_FFFF != 0 {
            return None;
        }
        let [e0, e1, worker, flags, g0, g1, g2, n0, n1, n2, n3, n4, ..] = plain.to_be_bytes();
        Some(Ufrag {
            edge: u16::from_be_bytes([e0, e1]),
            worker,
            flags,
            generation: u32::from_be_bytes([0, g0, g1, g2]),
            nonce: u64::from_be_bytes([0, 0, 0, n0, n1, n2, n3, n4]),
        })
    }
}

impl std::fmt::Debug for UfragCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UfragCodec(..)")
    }
}

/// Kind 1 (UF1) under key rotation 0: `rotation(3 bits) | kind(3 bits)` as one base64 character.
const VERSION: char = 'B';

/// Returns the base64 character of the lowest six bits.
fn character(bits: u128) -> char {
    let sextet = (bits & 0x3F) as u8;
    char::from(match sextet {
        0..26 => b'A' + sextet,
        26..52 => b'a' + (sextet - 26),
        52..62 => b'0' + (sextet - 52),
        62 => b'+',
        _ => b'/',
    })
}

fn sextet(character: u8) -> Option<u8> {
    Some(match character {
        b'A'..=b'Z' => character - b'A',
        b'a'..=b'z' => character - b'a' + 26,
        b'0'..=b'9' => character - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_ufrag() -> impl Strategy<Value = Ufrag> {
        (any::<u16>(), any::<u8>(), any::<u8>(), 0..=GENERATION_MAX, 0..=NONCE_MAX).prop_map(
            |(edge, worker, flags, generation, nonce)| Ufrag { edge, worker, flags, generation, nonce },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

        #[test]
        fn decode_returns_what_encode_took(key: [u8; 16], ufrag in any_ufrag()) {
            let codec = UfragCodec::new(key);
            let text = codec.encode(&ufrag);
            prop_assert_eq!(text.len(), UFRAG_LEN);
            prop_assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/'));
            prop_assert_eq!(codec.decode(text.as_bytes()), Some(ufrag));
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(UfragCodec::new([7; 16]).decode(&bytes), None);
        }

        #[test]
        fn random_base64_is_refused(text in "B[A-Za-z0-9+/]{21}[AQgw]") {
            prop_assert_eq!(UfragCodec::new([7; 16]).decode(text.as_bytes()), None);
        }

        #[test]
        fn one_changed_bit_is_refused(ufrag in any_ufrag(), at in 0..UFRAG_LEN, bit in 0_u32..8) {
            let codec = UfragCodec::new([9; 16]);
            let mut text = codec.encode(&ufrag).into_bytes();
            text[at] ^= 1_u8 << bit;
            prop_assert_eq!(codec.decode(&text), None);
        }

        #[test]
        fn another_key_is_refused(ufrag in any_ufrag()) {
            let text = UfragCodec::new([1; 16]).encode(&ufrag);
            prop_assert_eq!(UfragCodec::new([2; 16]).decode(text.as_bytes()), None);
        }
    }

    #[test]
    fn each_block_has_one_spelling() {
        let codec = UfragCodec::new([3; 16]);
        let ufrag = Ufrag { edge: 1, worker: 2, flags: 0, generation: 3, nonce: 4 };
        let text = codec.encode(&ufrag);
        let spellings = (0..64_u128)
            .map(|last| format!("{}{}", &text[..UFRAG_LEN - 1], character(last)))
            .filter(|spelling| codec.decode(spelling.as_bytes()).is_some())
            .collect::<Vec<_>>();
        assert_eq!(spellings, [text]);
    }

    #[test]
    fn layout_is_stable() {
        // FIPS-197 appendix B checks the cipher; this one checks order and offsets: edges of two releases share it.
        let codec = UfragCodec::new(*b"0123456789abcdef");
        let ufrag = Ufrag { edge: 0x0102, worker: 3, flags: 0, generation: 0x04_0506, nonce: 0x07_0809_0A0B };
        let plain = [1, 2, 3, 0, 4, 5, 6, 7, 8, 9, 10, 11, 0, 0, 0, 0];
        let mut block = Array::from(plain);
        codec.cipher.encrypt_block(&mut block);
        let mut bits = block.iter().map(|byte| format!("{byte:08b}")).collect::<String>();
        bits.push_str("0000");
        let expected = bits
            .as_bytes()
            .chunks(6)
            .map(|six| character(u128::from_str_radix(std::str::from_utf8(six).unwrap(), 2).unwrap()))
            .collect::<String>();
        assert_eq!(codec.encode(&ufrag), format!("B{expected}"));
    }
}
