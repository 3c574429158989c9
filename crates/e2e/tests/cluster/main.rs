//! Three and more members: elections, replication, members that come and go.

mod discovery;
mod liar;
mod membership;
mod mixed;
mod no_room;
mod oversized;
mod port;
mod rescue;
mod running;
mod secure;
mod snapshots;
mod wide;
