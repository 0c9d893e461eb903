//! Buffers for input that cannot be used yet, within one limit.
//!
//! An idle connection holds none. Pure: this file makes no system calls, reads no clock, and must
//! not know connections.

use crate::config::KIB;

/// Buffers of four sizes for connections whose input is incomplete. All buffers in use together
/// have a limit in bytes.
#[derive(Debug)]
pub struct BufferPool {
    classes: [usize; 4],
    spare: [Vec<Box<[u8]>>; 4],
    budget_bytes: usize,
    bytes_in_use: usize,
    buffers_in_use: usize,
}

/// Largest number of spare buffers kept for each size.
const SPARE_MAX: usize = 64;

impl BufferPool {
    /// Creates a pool with a limit of `budget_bytes` in use, and buffers of up to `largest` bytes.
    #[must_use]
    pub fn new(budget_bytes: usize, largest: usize) -> Self {
        BufferPool {
            classes: [KIB, 4 * KIB, 16 * KIB, largest.max(32 * KIB)],
            spare: [const { Vec::new() }; 4],
            budget_bytes,
            bytes_in_use: 0,
            buffers_in_use: 0,
        }
    }

    /// Returns the size of all buffers in use, in bytes.
    #[must_use]
    pub fn bytes_in_use(&self) -> usize {
        self.bytes_in_use
    }

    /// Returns the number of buffers in use.
    #[must_use]
    pub fn buffers_in_use(&self) -> usize {
        self.buffers_in_use
    }

    /// Returns true if three quarters of the limit are in use. Then the slowest client is evicted.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.bytes_in_use >= self.budget_bytes / 4 * 3
    }

    /// Returns the size of the largest buffer, in bytes.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.classes[3]
    }

    /// Takes a buffer that contains `bytes` and has room for more. Returns `None` if the limit is
    /// reached or no buffer is large enough.
    pub fn take(&mut self, bytes: &[u8]) -> Option<PooledBuffer> {
        let class = self.classes.iter().position(|&size| size > bytes.len())?;
        let mut buffer = self.take_of_class(class)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Some(PooledBuffer { buffer, start: 0, end: bytes.len() })
    }

    /// Makes room in a full buffer: moves its bytes to the front, or into the next larger buffer.
    /// Returns false if it cannot grow any further.
    pub fn grow(&mut self, pooled: &mut PooledBuffer) -> bool {
        if pooled.end < pooled.buffer.len() || pooled.compact() {
            return true;
        }
        let Some(class) = self.classes.iter().position(|&size| size > pooled.buffer.len()) else {
            // The largest buffer: the only room left is that of the used bytes at its front.
            if pooled.start == 0 {
                return false;
            }
            pooled.buffer.copy_within(pooled.start..pooled.end, 0);
            (pooled.start, pooled.end) = (0, pooled.end - pooled.start);
            return true;
        };
        let Some(mut buffer) = self.take_of_class(class) else { return false };
        let held = pooled.end - pooled.start;
        buffer[..held].copy_from_slice(&pooled.buffer[pooled.start..pooled.end]);
        let old = std::mem::replace(pooled, PooledBuffer { buffer, start: 0, end: held });
        self.put(old);
        true
    }

    /// Puts a buffer back.
    pub fn put(&mut self, pooled: PooledBuffer) {
        self.bytes_in_use -= pooled.buffer.len();
        self.buffers_in_use -= 1;
        if let Some(class) = self.classes.iter().position(|&size| size == pooled.buffer.len())
            && self.spare[class].len() < SPARE_MAX
        {
            self.spare[class].push(pooled.buffer);
        }
    }

    fn take_of_class(&mut self, class: usize) -> Option<Box<[u8]>> {
        let size = self.classes[class];
        if self.bytes_in_use + size > self.budget_bytes {
            return None;
        }
        self.bytes_in_use += size;
        self.buffers_in_use += 1;
        Some(self.spare[class].pop().unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }
}

/// A buffer of the pool, with the bytes held in it. Return it with [`BufferPool::put`].
pub struct PooledBuffer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl PooledBuffer {
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

    /// Returns the room behind the held bytes. Report the filled part with
    /// [`PooledBuffer::received`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.end..]
    }

    /// Notes that `bytes` were written into [`PooledBuffer::room`].
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

impl std::fmt::Debug for PooledBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PooledBuffer({} of {} bytes)", self.end - self.start, self.buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_grows_through_the_classes_and_the_pool_counts() {
        let mut pool = BufferPool::new(128 * KIB, 32 * KIB);
        let mut pooled = pool.take(b"x").unwrap();
        let mut held = vec![b'x'];
        while pool.grow(&mut pooled) {
            let room = pooled.room().len();
            pooled.room().fill(b'y');
            pooled.received(room);
            held.resize(held.len() + room, b'y');
        }
        assert_eq!(pooled.held(), held);
        assert_eq!((held.len(), pool.bytes_in_use(), pool.buffers_in_use()), (32 * KIB, 32 * KIB, 1));
        pooled.used(10);
        assert!(pool.grow(&mut pooled));
        assert_eq!(pooled.room().len(), 10);
        pool.put(pooled);
        assert_eq!((pool.bytes_in_use(), pool.buffers_in_use()), (0, 0));
    }

    #[test]
    fn the_budget_holds() {
        let mut pool = BufferPool::new(4 * KIB, 32 * KIB);
        let all: Vec<PooledBuffer> = std::iter::from_fn(|| pool.take(b"x")).collect();
        assert_eq!(all.len(), 4);
        assert!(pool.is_short());
        for pooled in all {
            pool.put(pooled);
        }
        assert!(!pool.is_short());
    }
}
