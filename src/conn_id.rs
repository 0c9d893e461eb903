//! The name of a connection that outlives its slot.
//!
//! slab hands the last freed slot to the very next accept, so a bare index held by an event, a
//! deadline or a job result would soon point at a stranger. Whatever waits holds a [`ConnId`]; a
//! miss is counted and ignored. What is watched for a connection (the pipes of a child) has names
//! of the same make, [`WatchId`].

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

/// The name of something a loop watches beside its connections; see
/// [`crate::handler::watch::Watched`].
///
/// Names of both kinds meet in poll tokens, so the topmost bit of the slot tells them apart: no
/// process has 2^31 descriptors. The two bits below it say which descriptor of the watched thing an
/// event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId {
    generation: u32,
    slot: u32,
}

/// In a token's slot: it names something watched.
const WATCHED: u32 = 1 << 31;

/// Where in a token's slot the number of a descriptor stands, and how wide it is.
const NUMBER_AT: u32 = 29;
const NUMBER_BITS: u32 = 0b11;

impl WatchId {
    /// A name. Generation 0 is for what is neither a connection nor watched for one.
    #[must_use]
    pub const fn new(generation: u32, slot: u32) -> Self {
        WatchId { generation, slot }
    }

    /// The slot it stood in when it was named.
    #[must_use]
    pub const fn slot(self) -> usize {
        self.slot as usize
    }

    /// The generation.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// As a poll token, for descriptor `number` of 0 to 3.
    #[must_use]
    pub const fn to_token(self, number: u8) -> u64 {
        let slot = WATCHED | (number as u32 & NUMBER_BITS) << NUMBER_AT | self.slot;
        ConnId::new(self.generation, slot).to_token()
    }

    /// From a poll token, with the number of the descriptor; `None` if that names no watched thing.
    #[must_use]
    pub const fn from_token(token: u64) -> Option<(Self, u8)> {
        let ConnId { generation, slot } = ConnId::from_token(token);
        if generation == 0 || slot & WATCHED == 0 {
            return None;
        }
        let number = (slot >> NUMBER_AT & NUMBER_BITS) as u8;
        Some((WatchId { generation, slot: slot & ((1 << NUMBER_AT) - 1) }, number))
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

    #[test]
    fn names_of_both_kinds_are_told_apart() {
        for id in [WatchId::new(1, 0), WatchId::new(u32::MAX, (1 << 29) - 1), WatchId::new(7, 12345)] {
            for number in 0..4 {
                assert_eq!(WatchId::from_token(id.to_token(number)), Some((id, number)));
            }
        }
        for id in [ConnId::new(1, 0), ConnId::new(7, (1 << 31) - 1), ConnId::new(0, u32::MAX)] {
            assert_eq!(WatchId::from_token(id.to_token()), None);
        }
    }
}
