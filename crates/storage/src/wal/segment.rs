//! Names of log files.

use std::fmt;

use kvorum_proto::ids::LogIndex;

/// Ending of the directory in which a new log is made before it gets its name.
pub(super) const NEW_DIRECTORY_SUFFIX: &str = ".tmp";
/// Ending of a copy kept before a torn tail is cut.
pub(super) const BROKEN_SUFFIX: &str = ".broken";

/// One file of the log: `%016x-%016x.wal`. Files order by their sequence.
///
/// Source: etcd v3.7.1, `server/storage/wal/util.go`, `walName`, `parseWALName`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Position among the files; the first has 0 and each later one is one more.
    pub sequence: u64,
    /// One more than the last index in the log when the file was begun; 0 in the first file.
    pub first_index: LogIndex,
}

impl SegmentName {
    /// The file that a new log begins with.
    pub const FIRST: Self = Self {
        sequence: 0,
        first_index: LogIndex(0),
    };

    /// Reads a file name; `None` for anything that is no log file.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (sequence, index) = name.strip_suffix(".wal")?.split_once('-')?;
        let number = |text: &str| match text.len() {
            16 if !text.starts_with('+') => u64::from_str_radix(text, 16).ok(),
            _ => None,
        };
        Some(Self {
            sequence: number(sequence)?,
            first_index: LogIndex(number(index)?),
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index.0)
    }
}

/// One of the two names under which the next file is made ready. There are two so that a file can
/// be made at once while the other is still being filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spare {
    /// `0.tmp`
    Zero,
    /// `1.tmp`
    One,
}

impl Spare {
    /// Both names.
    pub const ALL: [Self; 2] = [Self::Zero, Self::One];

    /// The file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "0.tmp",
            Self::One => "1.tmp",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Zero => Self::One,
            Self::One => Self::Zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_etcds() {
        let name = SegmentName {
            sequence: 3,
            first_index: LogIndex(0xabc),
        };
        assert_eq!(name.to_string(), "0000000000000003-0000000000000abc.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn other_files_are_no_log_files() {
        for name in [
            "",
            "0.tmp",
            "1-2.wal",
            "0000000000000003-0000000000000abc.wal.broken",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        assert_eq!(
            SegmentName::parse("+000000000000003-0000000000000abc.wal"),
            None
        );
    }
}
