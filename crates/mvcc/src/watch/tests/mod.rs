//! What clients of a hub see, over a real store.

mod histories;
mod limits;
mod scripts;
mod steps;
mod world;
