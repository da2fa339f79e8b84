//! The room as a whole: texts in, configurations or messages out.

mod doors;
mod messages;
mod platform;
mod reading;
mod robustness;
mod syntax;
mod types;
