//! The notes on disk: one file each, in one folder. Knows nothing of MCP.
//!
//! Errors are sentences for the reader of the response, hence `Result<_, String>`.

use std::path::PathBuf;
use std::{env, fs, io, process};

/// A folder whose regular files are notes.
pub(crate) struct Folder {
    path: PathBuf,
    /// It goes when the server ends.
    temporary: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Folder {
    pub(crate) fn open(path: PathBuf) -> io::Result<Folder> {
        fs::create_dir_all(&path)?;
        Ok(Folder {
            path,
            temporary: false,
        })
    }

    /// A new temporary folder, with a first note in it.
    pub(crate) fn fresh() -> io::Result<Folder> {
        // `create_dir` fails if the folder exists, so another user cannot have prepared this one.
        let path = (0..100)
            .map(|attempt| env::temp_dir().join(format!("notes-{}-{attempt}", process::id())))
            .find(|path| fs::create_dir(path).is_ok())
            .ok_or_else(|| io::Error::other("could not create a folder for temporary files"))?;
        let folder = Folder {
            path,
            temporary: true,
        };
        let welcome = "Hello! This note came with the server.\n";
        fs::write(folder.path.join("welcome"), welcome)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// All notes, in order. A file whose name no client could use is not a note.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| self.existing(name).is_ok())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn read(&self, name: &str) -> Result<String, String> {
        fs::read_to_string(self.existing(name)?)
            .map_err(|error| format!("could not read '{name}': {error}"))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.file(name)?;
        let done = match fs::symlink_metadata(&path) {
            Err(_) => "Created",
            Ok(there) if there.is_file() => "Replaced",
            Ok(_) => return Err(format!("'{name}' is taken by something that is not a note")),
        };
        fs::write(path, text).map_err(|error| format!("could not write '{name}': {error}"))?;
        Ok(format!("{done} '{name}'"))
    }

    pub(crate) fn delete(&self, name: &str) -> Result<String, String> {
        fs::remove_file(self.existing(name)?)
            .map_err(|error| format!("could not delete '{name}': {error}"))?;
        Ok(format!("Deleted '{name}'"))
    }

    /// The lines of one note that contain `query`, ignoring case. A note that is not text has no lines.
    pub(crate) fn search(&self, name: &str, query: &str) -> Vec<String> {
        let (text, query) = (self.read(name).unwrap_or_default(), query.to_lowercase());
        (1..)
            .zip(text.lines())
            .filter(|(_, line)| line.to_lowercase().contains(&query))
            .map(|(number, line)| format!("{name}:{number}: {line}"))
            .collect()
    }

    /// The path of a note of this name, existing or not. The only way from a name to a path.
    fn file(&self, name: &str) -> Result<PathBuf, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || " _.-".contains(c);
        if matches!(name.len(), 1..=100) && !name.starts_with('.') && name.chars().all(plain) {
            return Ok(self.path.join(name));
        }
        let rule = "1 to 100 of A-Z a-z 0-9 space _ . - and no dot in front";
        Err(format!("'{name}' cannot be the name of a note: {rule}"))
    }

    /// As `file`, for an existing note; links are excluded, since they could lead out of the folder.
    fn existing(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.file(name)?;
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_file() => Ok(path),
            _ => Err(format!("there is no note '{name}'")),
        }
    }
}
