//! The name of a connection that outlives its slot.
//!
//! slab hands the last freed slot to the very next accept, so a bare index held by an event, a deadline or a
//! job result would soon point at a stranger. Whatever waits holds a [`ConnId`]; a miss is counted and ignored.

/// Generation and slot of one connection. Packs into the 64 bits of a poll token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    generation: u32,
    slot: u32,
}

impl ConnId {
    /// A name. Generation 0 is kept for what is no connection: listeners, the waker, signals.
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        ConnId { generation, slot }
    }

    /// The slot it stood in when it was named.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// The generation; 0 for what is no connection.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// As a poll token.
    #[must_use]
    pub const fn to_token(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// From a poll token.
    #[must_use]
    pub const fn from_token(token: u64) -> Self {
        ConnId { generation: (token >> 32) as u32, slot: token as u32 }
    }
}

impl std::fmt::Display for ConnId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_back_the_name() {
        for id in [ConnId::new(1, 0), ConnId::new(u32::MAX, u32::MAX), ConnId::new(7, 12345)] {
            assert_eq!(ConnId::from_token(id.to_token()), id);
        }
    }
}
