//! The `etcd` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kvorum_server::run(std::env::args_os().skip(1), std::env::vars_os())
}
