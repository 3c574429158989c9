//! What `etcdctl` and `etcdutl` have in common, so that both look and fail as etcd's tools do.
//!
//! A tool is one table ([`Tool`]) of commands and flags; help, parsing and completion are read
//! from it and nowhere else. The rooms, in reading order:
//!
//! - [`command`]: the table's types.
//! - [`mod@line`]: finds the command and reads its flags, by the rules of cobra and pflag; [`usage`]
//!   writes help.
//! - [`completion`]: what shells offer while a line is typed.
//! - [`failure`]: exit codes, and what standard error says.
//! - [`progress`]: bars for long work, on a terminal.
//! - [`json`], [`frame`]: objects and tables as Go's libraries write them.
//! - [`go`]: numbers, durations and quotes in the forms of Go, in which etcd's tools read and
//!   write them.
//!
//! Nothing here opens a file or a socket; standard output and error are the only way out.

pub mod command;
pub mod completion;
pub mod failure;
pub mod frame;
pub mod go;
pub mod json;
pub mod line;
mod print;
pub mod progress;
pub mod usage;

pub use command::{Command, Flag, Kind, Tool};
pub use failure::Failure;
pub use line::Line;
pub use print::{print_bytes, print_text};
