//! Rights of clients in folders that accept uploads.
//!
//! This file must not know which request needs which right.

/// A right of clients in a folder that accepts uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadRight {
    /// Create files and folders.
    Create,
    /// Replace existing files.
    Replace,
    /// Delete files and empty folders.
    Delete,
    /// Rename files and folders within their folder.
    Rename,
}

impl UploadRight {
    /// All rights, in the order of documentation.
    pub const ALL: [UploadRight; 4] =
        [UploadRight::Create, UploadRight::Replace, UploadRight::Delete, UploadRight::Rename];

    /// Returns the name of the right on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            UploadRight::Create => "create",
            UploadRight::Replace => "replace",
            UploadRight::Delete => "delete",
            UploadRight::Rename => "rename",
        }
    }
}

/// A set of rights. The default has all but [`UploadRight::Rename`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadRights(u8);

impl UploadRights {
    /// The set without rights.
    pub const NONE: UploadRights = UploadRights(0);

    /// Returns this set with one more right.
    #[must_use]
    pub const fn with(self, right: UploadRight) -> UploadRights {
        UploadRights(self.0 | 1 << right as u8)
    }

    /// Returns the rights that both sets contain.
    #[must_use]
    pub const fn shared_with(self, other: UploadRights) -> UploadRights {
        UploadRights(self.0 & other.0)
    }

    /// Returns true if the set contains the right.
    #[must_use]
    pub const fn has(self, right: UploadRight) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// Returns true if files can be stored: new ones or replaced ones.
    #[must_use]
    pub const fn can_store(self) -> bool {
        self.has(UploadRight::Create) || self.has(UploadRight::Replace)
    }
}

impl Default for UploadRights {
    fn default() -> Self {
        UploadRights::NONE.with(UploadRight::Create).with(UploadRight::Replace).with(UploadRight::Delete)
    }
}

/// The rights in an upload folder, or in a folder below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRule {
    /// Decoded URL path without a final slash, so empty for the docroot itself.
    pub path: String,
    /// Rights at this path and below it.
    pub rights: UploadRights,
}

impl UploadRule {
    /// Creates the rule for a path.
    #[must_use]
    pub fn new(path: impl Into<String>, rights: UploadRights) -> UploadRule {
        UploadRule { path: path.into(), rights }
    }
}
