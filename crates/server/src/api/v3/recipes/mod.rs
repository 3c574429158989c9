//! Lock and election: recipes made of ordinary reads, writes, leases and watches.
//!
//! Whoever wants the lock writes a key under the name's prefix, attached to a lease. The key that was created first
//! owns it; the others wait until every key created before theirs is gone. An election is the same with a value.
//!
//! Each call is a task that asks the member as a client would, so it can hold nothing up, and a caller that goes away
//! while it waits leaves no key behind.
//!
//! Source: etcd v3.7.1 `client/v3/concurrency/{key,mutex,election}.go`, `server/etcdserver/api/v3lock/lock.go`,
//! `server/etcdserver/api/v3election/election.go`.

mod ask;
mod election;
mod lock;
mod queue;

pub(super) use election::{Observe, campaign, leader, proclaim, resign};
pub(super) use lock::{lock, unlock};
