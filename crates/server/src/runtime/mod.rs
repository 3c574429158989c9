//! The running member: threads around the machines.
//!
//! ```text
//!  connections (tokio) ──Command──► core thread ──Job──► wal, wal-background, state, copier threads
//!        ▲     │ ranges on a view      │  ▲                  │
//!        │     ▼                       │  └────JobDone───────┘
//!        └──ReplySink── replies ◄──────┤
//!        └──StreamSink─ watch thread ◄─┘ events with their view
//! ```
//!
//! The core thread turns the [`Core`](kvorum_member::core::Core) and nothing else: it gathers what all connections
//! ask, gives it to the machines in one batch, and hands their outputs on. It writes small groups of a lone member's
//! log, touches no other file and never encodes a list. A connection that is alone with its request takes its place
//! (`door`). Ranges run where the connection lives, on the newest published view. Watchers live on a thread of their
//! own, so that a storm of events does not delay a put.

pub(crate) mod auto_compaction;
mod clock;
mod core_thread;
mod courtesy;
mod disk;
pub(crate) mod disk_space;
mod door;
mod entry;
pub(crate) mod freed;
pub(crate) mod handover;
mod heartbeats;
pub(crate) mod leader;
mod measure;
mod member;
mod pace;
mod priority;
pub(crate) mod promotion;
mod receive;
pub(crate) mod reconfigure;
mod request_ids;
mod running;
mod scrub;
mod slices;
mod state_disk;
mod timeouts;
mod turn;
pub(crate) mod versions;
mod waiters;
mod watch_thread;

pub use clock::Clock;
pub use core_thread::{Settings, StopReason};
pub(crate) use courtesy::Courtesy;
pub use freed::return_freed;
pub(crate) use measure::requested;
pub use member::{Identity, Member, MemberSettings};
pub(crate) use pace::{Disturbance, Latency, Pace};
pub(crate) use priority::lower_priority;
pub use running::{PeerSettings, Requests, Running, Start};
pub(crate) use waiters::{LeaseAnswer, LeaseStream, LeaseWaiter};
pub use watch_thread::{Target, WatchHandle};
