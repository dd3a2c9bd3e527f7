//! Randomness of the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::ports::Entropy;

/// The kernel's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        loop {
            match getrandom(&mut bytes, GetRandomFlags::empty()) {
                Ok(8) => return u64::from_le_bytes(bytes),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("the kernel has no randomness: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ() {
        assert_ne!(KernelEntropy.draw(), KernelEntropy.draw());
    }
}
