//! Results as pages: made from the raw numbers alone, so that they can be made again.

mod chart;
mod charts;
mod table;

pub(crate) use charts::all as charts;
pub(crate) use table::{results as markdown, run};

#[cfg(test)]
mod tests;
