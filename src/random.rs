//! Random bytes from the kernel, for names and keys that must not be guessable.
//!
//! Must not know what they are for.

use rustix::io::Errno;

/// Returns `N` random bytes, at most 256, so that the kernel returns all or none (getrandom(2)).
///
/// # Errors
/// When the kernel has no random numbers.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], Errno> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Returns 128 random bits as hexadecimal digits.
///
/// # Errors
/// When the kernel has no random numbers.
pub(crate) fn random_hex() -> Result<String, Errno> {
    Ok(random_bytes::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}
