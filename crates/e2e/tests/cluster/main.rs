//! Three and more members: elections, replication, members that come and go.

mod membership;
mod mixed;
mod port;
mod running;
