//! A ladder of eight stages, in which the reader builds an event loop. `README.md` has the text.
//!
//! `stage_1` to `stage_8` are the files of the reader. `protocol`, `net` and `jobs` are given.
//! Nothing here may know how the stages are graded.

pub mod jobs;
pub mod net;
pub mod protocol;

pub mod stage_1;
pub mod stage_2;
pub mod stage_3;
pub mod stage_4;
pub mod stage_5;
pub mod stage_6;
pub mod stage_7;
pub mod stage_8;

/// One solution for each stage.
#[path = "../solutions"]
pub mod solutions {
    pub mod stage_1;
    pub mod stage_2;
    pub mod stage_3;
    pub mod stage_4;
    pub mod stage_5;
    pub mod stage_6;
    pub mod stage_7;
    pub mod stage_8;
}
