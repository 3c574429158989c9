//! Folders of servers: copied, and compared byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What a folder holds: each path with its mode, and of files length and checksum. Two equal
/// prints mean that nobody changed anything.
pub type Print = BTreeMap<PathBuf, (u32, Option<(usize, u32)>)>;

/// The print of everything below `folder`.
///
/// # Panics
/// When something there cannot be read.
pub fn print(folder: &Path) -> Print {
    let mut print = Print::new();
    walk(folder, &mut |path, is_file| {
        let mode = fs::metadata(path)?.permissions().mode();
        let content = match is_file {
            true => {
                let bytes = fs::read(path)?;
                Some((bytes.len(), crc32c::crc32c(&bytes)))
            }
            false => None,
        };
        print.insert(path.to_owned(), (mode, content));
        Ok(())
    })
    .unwrap_or_else(|error| panic!("look at {}: {error}", folder.display()));
    print
}

/// Copies everything below `from` to `to`, which is made when it is missing.
///
/// # Panics
/// When that fails.
pub fn copy(from: &Path, to: &Path) {
    let copy_all = || {
        make_like(from, to)?;
        walk(from, &mut |path, is_file| {
            let target = to.join(path.strip_prefix(from).map_err(io::Error::other)?);
            match is_file {
                true => fs::copy(path, target).map(|_| ()),
                false => make_like(path, &target),
            }
        })
    };
    copy_all().unwrap_or_else(|error: io::Error| panic!("copy {}: {error}", from.display()));
}

fn make_like(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path, bool) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        visit(&entry.path(), !is_folder)?;
        if is_folder {
            walk(&entry.path(), visit)?;
        }
    }
    Ok(())
}
