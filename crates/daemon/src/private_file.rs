//! Files with secrets in the data directory: only their owner can read them, and they are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// For secrets.
pub(crate) const SECRET: u32 = 0o600;
/// For what everybody may read.
pub(crate) const PUBLIC: u32 = 0o644;

/// Writes a file under another name first, so that a crash leaves none that is half written.
pub(crate) fn write(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = Path::new(&beside);
    // One that a crash has left may have another mode.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The file's text, or what `make` gives, kept from now on.
pub(crate) fn read_or_make<E>(
    path: &Path,
    mode: u32,
    make: impl FnOnce() -> Result<String, E>,
    failed: impl FnOnce(io::Error) -> E,
) -> Result<String, E> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make()?;
            write(path, mode, &text).map_err(failed)?;
            Ok(text)
        }
        read => read.map_err(failed),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_nobody_else_can_read_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        fs::write(place.path().join("key.part"), "left by a crash").unwrap();
        let made = read_or_make(&path, SECRET, || Ok("first".to_owned()), |error| error).unwrap();
        let again = read_or_make(&path, SECRET, || Ok("second".to_owned()), |error| error).unwrap();
        assert_eq!((made.as_str(), again.as_str()), ("first", "first"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SECRET);
    }
}
