//! What a user sees: real processes on real ports, ours and official etcd's, spoken to by clients
//! of ours and of other people.
//!
//! A test here knows the product only from outside. The same check runs on an official release
//! first, which proves the check, and then on ours, which proves the product: see
//! [`on_each_server!`](crate::on_each_server). Where the peers come from is told in
//! `cargo xtask peers`; a peer that is not there makes the test a skip, written to
//! `target/skips.log` with its name and reason.
//!
//! | environment | meaning |
//! |---|---|
//! | `KVORUM_ETCD` | path of our server; unset: `cargo build` makes it |
//! | `KVORUM_ETCDCTL` | path of our etcdctl; unset: `cargo build` makes it |
//! | `KVORUM_ETCDUTL` | path of our etcdutl; unset: `cargo build` makes it |
//! | `KVORUM_BENCH` | path of our load generator; unset: `cargo build` makes it |
//! | `KVORUM_E2E_KILLS` | how often the crash test kills the server in each way; unset: [`recorder::KILLS`] times |
//! | `KVORUM_E2E_FAULTS` | how often each fault of a cluster strikes; unset: once. With 2 or more official members are hurt as well |
//! | `KVORUM_E2E_SEEDS` | how many random histories run against the oracle |
//! | `KVORUM_E2E_SEED` | the one history to run again |

pub mod certificates;
pub mod cluster;
pub mod dice;
pub mod folder;
pub mod grpc;
pub mod history;
pub mod hosts;
pub mod http;
pub mod machine_time;
pub mod name_server;
pub mod network;
pub mod official;
pub mod peers;
pub mod process;
pub mod recorder;
pub mod server;
pub mod small_disk;
pub mod transcript;
