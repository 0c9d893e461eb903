//! Vectors whose memory is counted before it is allocated.
//!
//! Memory that is counted only when it is full has no bound: each of a thousand requests may fill
//! its own before the first one is counted. This file must not know what the memory is for.

use crate::sync::Permit;

/// The error if too few bytes are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent;

/// The first allocation of a vector, in bytes: one page.
const FIRST_BYTES: usize = 4096;

/// Takes `bytes` more, if that many are free.
pub(super) fn grow(held: &mut Permit, bytes: usize) -> Result<(), Spent> {
    held.try_grow(bytes as u64).then_some(()).ok_or(Spent)
}

/// Makes room for `more` elements of a vector whose memory `held` counts. The vector grows by half,
/// so that a long one is seldom moved and little of it stays empty.
pub(super) fn reserve<T>(held: &mut Permit, vec: &mut Vec<T>, more: usize) -> Result<(), Spent> {
    let (len, capacity) = (vec.len(), vec.capacity());
    if capacity - len >= more {
        return Ok(());
    }
    let next = (capacity + capacity / 2).max(len + more).max(FIRST_BYTES / size_of::<T>().max(1));
    grow(held, (next - capacity) * size_of::<T>())?;
    vec.reserve_exact(next - len);
    Ok(())
}

/// Frees the unused capacity of a vector whose memory `held` counts.
pub(super) fn fit<T>(held: &mut Permit, vec: &mut Vec<T>) {
    let before = vec.capacity();
    vec.shrink_to_fit();
    held.shrink(((before - vec.capacity()) * size_of::<T>()) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Semaphore;

    #[test]
    fn a_vector_is_counted_before_it_grows() {
        let budget = Semaphore::new(100_000);
        let (mut held, mut vec) = (budget.empty(), Vec::<u32>::new());
        let bytes = |vec: &Vec<u32>| (vec.capacity() * size_of::<u32>()) as u64;
        while reserve(&mut held, &mut vec, 3).is_ok() {
            vec.extend([1, 2, 3]);
            assert!(bytes(&vec) <= held.count(), "{}", vec.len());
        }
        fit(&mut held, &mut vec);
        assert_eq!(held.count(), bytes(&vec));
        assert_eq!(budget.held(), held.count());
        assert!(vec.len() > 10_000 && held.count() <= 100_000, "{} in {}", vec.len(), held.count());
    }
}
