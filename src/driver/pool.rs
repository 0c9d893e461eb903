//! Buffers for input that cannot be used yet, lent within one limit.
//!
//! An idle connection holds none. Pure: this file makes no system calls, reads no clock, and must
//! not know connections.

use crate::config::KIB;

/// Buffers of four sizes, lent to connections whose input is incomplete. All loans together have a
/// limit in bytes.
#[derive(Debug)]
pub struct BufferPool {
    classes: [usize; 4],
    spare: [Vec<Box<[u8]>>; 4],
    budget_bytes: usize,
    lent_bytes: usize,
    loans: usize,
}

/// Largest number of spare buffers kept for each size.
const SPARE_MAX: usize = 64;

impl BufferPool {
    /// Creates a pool that lends at most `budget_bytes`, in buffers of up to `largest` bytes.
    #[must_use]
    pub fn new(budget_bytes: usize, largest: usize) -> Self {
        BufferPool {
            classes: [KIB, 4 * KIB, 16 * KIB, largest.max(32 * KIB)],
            spare: [const { Vec::new() }; 4],
            budget_bytes,
            lent_bytes: 0,
            loans: 0,
        }
    }

    /// Returns the size of all loans, in bytes.
    #[must_use]
    pub fn lent_bytes(&self) -> usize {
        self.lent_bytes
    }

    /// Returns the number of loans.
    #[must_use]
    pub fn loans(&self) -> usize {
        self.loans
    }

    /// Returns true if three quarters of the limit are lent. Then the slowest client is evicted.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.lent_bytes >= self.budget_bytes / 4 * 3
    }

    /// Returns the size of the largest loan, in bytes.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.classes[3]
    }

    /// Lends a buffer that contains `bytes` and has room for more. Returns `None` if the limit is
    /// reached or no buffer is large enough.
    pub fn lend(&mut self, bytes: &[u8]) -> Option<Loan> {
        let class = self.classes.iter().position(|&size| size > bytes.len())?;
        let mut buffer = self.take(class)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Some(Loan { buffer, start: 0, end: bytes.len() })
    }

    /// Makes room in a full loan: moves its bytes to the front, or into the next larger buffer.
    /// Returns false if it cannot grow any further.
    pub fn grow(&mut self, loan: &mut Loan) -> bool {
        if loan.end < loan.buffer.len() || loan.compact() {
            return true;
        }
        let Some(class) = self.classes.iter().position(|&size| size > loan.buffer.len()) else {
            // The largest buffer: the only room left is that of the used bytes at its front.
            if loan.start == 0 {
                return false;
            }
            loan.buffer.copy_within(loan.start..loan.end, 0);
            (loan.start, loan.end) = (0, loan.end - loan.start);
            return true;
        };
        let Some(mut buffer) = self.take(class) else { return false };
        let held = loan.end - loan.start;
        buffer[..held].copy_from_slice(&loan.buffer[loan.start..loan.end]);
        let old = std::mem::replace(loan, Loan { buffer, start: 0, end: held });
        self.give_back(old);
        true
    }

    /// Takes a loan back.
    pub fn give_back(&mut self, loan: Loan) {
        self.lent_bytes -= loan.buffer.len();
        self.loans -= 1;
        if let Some(class) = self.classes.iter().position(|&size| size == loan.buffer.len())
            && self.spare[class].len() < SPARE_MAX
        {
            self.spare[class].push(loan.buffer);
        }
    }

    fn take(&mut self, class: usize) -> Option<Box<[u8]>> {
        let size = self.classes[class];
        if self.lent_bytes + size > self.budget_bytes {
            return None;
        }
        self.lent_bytes += size;
        self.loans += 1;
        Some(self.spare[class].pop().unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }
}

/// A buffer on loan, with the bytes held in it. Return it to its pool with
/// [`BufferPool::give_back`].
pub struct Loan {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Loan {
    /// Returns the bytes held.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Returns true if no bytes are held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the room behind the held bytes. Report the filled part with [`Loan::received`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.end..]
    }

    /// Notes that `bytes` were written into [`Loan::room`].
    pub fn received(&mut self, bytes: usize) {
        self.end += bytes;
        debug_assert!(self.end <= self.buffer.len());
    }

    /// Notes that the first `bytes` held were used.
    pub fn used(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
    }

    /// Moves the held bytes to the front if that makes room. The cost stays linear in the size of a
    /// head: it only happens at the end of the buffer, and then at least as many bytes were used as
    /// are moved.
    fn compact(&mut self) -> bool {
        if self.start == 0 || self.start < self.end - self.start {
            return false;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        true
    }
}

impl std::fmt::Debug for Loan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loan({} of {} bytes)", self.end - self.start, self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_grows_through_the_classes_and_the_pool_counts() {
        let mut pool = BufferPool::new(128 * KIB, 32 * KIB);
        let mut loan = pool.lend(b"x").unwrap();
        let mut held = vec![b'x'];
        while pool.grow(&mut loan) {
            let room = loan.room().len();
            loan.room().fill(b'y');
            loan.received(room);
            held.resize(held.len() + room, b'y');
        }
        assert_eq!(loan.held(), held);
        assert_eq!((held.len(), pool.lent_bytes(), pool.loans()), (32 * KIB, 32 * KIB, 1));
        loan.used(10);
        assert!(pool.grow(&mut loan));
        assert_eq!(loan.room().len(), 10);
        pool.give_back(loan);
        assert_eq!((pool.lent_bytes(), pool.loans()), (0, 0));
    }

    #[test]
    fn the_budget_holds() {
        let mut pool = BufferPool::new(4 * KIB, 32 * KIB);
        let loans: Vec<Loan> = std::iter::from_fn(|| pool.lend(b"x")).collect();
        assert_eq!(loans.len(), 4);
        assert!(pool.is_short());
        for loan in loans {
            pool.give_back(loan);
        }
        assert!(!pool.is_short());
    }
}
