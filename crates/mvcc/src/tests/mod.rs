//! The whole store against known answers and against a plain model.

mod costs;
mod disk;
mod known_answers;
mod model;
mod random_histories;
mod segments;
