//! The HTML that the server generates: error pages, directory listings and the upload form.
//!
//! Nothing in this folder may access the disk. The pages load nothing from other sites, work
//! without their scripts, have a light and a dark scheme, and fit screens from 320 pixels up. Every
//! name and reason that a client or the disk provides is escaped here.

pub(crate) mod error;
mod html;
#[cfg(feature = "os")]
mod listing;
#[cfg(feature = "markdown")]
pub(crate) mod readme;
#[cfg(all(feature = "os", not(feature = "markdown")))]
#[path = "no_readme.rs"]
pub(crate) mod readme;
#[cfg(feature = "os")]
pub(crate) mod upload;

#[cfg(feature = "os")]
pub(crate) use html::Home;
#[cfg(feature = "os")]
pub(crate) use listing::{
    Kind, LastPart, ListingStyle, Row, SortBy, listing_foot, listing_head, listing_row,
};
#[cfg(feature = "os")]
pub(crate) use listing::{LISTING_POLICY, readme_head, reloading_policy};
