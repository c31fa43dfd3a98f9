//! The file of the audit log, and the thread that writes it.

use super::event::{Event, Who};
use super::queue::{Asked, Queue, Work};
use crate::system::{descriptors, files};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long events gather before they are written, unless there were none for a while.
const GATHER: Duration = Duration::from_millis(10);

/// How long a file that cannot be written is left alone …
const RETRY: Duration = Duration::from_secs(1);

/// … and one whose reader, that of a FIFO say, has to take something first.
const SLOW: Duration = Duration::from_millis(20);

/// The path of the log, and its permissions.
#[derive(Clone, Debug)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The permissions of a file that has to be made, less the umask; an existing one that allows
    /// more earns a warning.
    pub mode: u32,
}

impl Place {
    /// Opens it to append whole lines. Never waits for the reader of a FIFO, and never follows a
    /// link: anyone with write access to the folder could make us append to any of our files.
    pub(super) fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let opened = self.open_as(options.append(true).create(true));
        let mut file = opened.map_err(|err| {
            if files::is_link(&err) {
                io::Error::other("it is a link; name the file itself")
            } else {
                err
            }
        })?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            self.warn(&metadata);
            if metadata.len() > 0 && self.ends_within_a_line().unwrap_or(false) {
                file.write_all(b"\n")?;
            }
        }
        Ok(file)
    }

    fn open_as(&self, options: &mut OpenOptions) -> io::Result<File> {
        files::open_with_care(options, self.mode, self.is_open_already());
        options.open(&self.path)
    }

    /// True for names such as `/dev/stderr`, which are links, but the system's own.
    fn is_open_already(&self) -> bool {
        let folder = self.path.parent().and_then(Path::to_str);
        let stream = ["/dev/stdout", "/dev/stderr"].map(Path::new);
        matches!(folder, Some("/dev/fd" | "/proc/self/fd")) || stream.contains(&&*self.path)
    }

    fn warn(&self, metadata: &Metadata) {
        let mode = files::mode(metadata);
        let file = self.path.display();
        let more = mode & 0o077 & !self.mode;
        if more & 0o022 > 0 {
            tracing::warn!(%file, mode = format_args!("{mode:04o}"), "others can write to the audit log, and forge what it says: take the permission away (chmod), or allow it with --audit-log-mode");
        } else if more > 0 {
            tracing::warn!(%file, mode = format_args!("{mode:04o}"), "others can read the audit log: take the permission away (chmod), or allow it with --audit-log-mode");
        }
        if let Some(owner) = files::foreign_owner(metadata) {
            tracing::warn!(%file, owner, "the audit log belongs to another user, who can change what it says");
        }
    }

    /// True if the last writer of the file was stopped in the middle of a line.
    fn ends_within_a_line(&self) -> io::Result<bool> {
        let mut file = self.open_as(OpenOptions::new().read(true))?;
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    }
}

/// Writes the lines of the queue.
pub(super) struct Writer {
    queue: Arc<Queue>,
    place: Place,
    file: File,
    lines: Vec<u8>,
    /// How much of them is written.
    written: usize,
    /// How many lost events the last of them reports.
    lost: u64,
    /// Writing has failed, which has been logged.
    broken: bool,
}

/// How far a write got.
#[derive(Debug, PartialEq, Eq)]
enum Wrote {
    All,
    /// It would block.
    Slow,
    /// It has failed.
    Failed,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, place: Place, file: File) -> Self {
        Self {
            queue,
            place,
            file,
            lines: Vec::new(),
            written: 0,
            lost: 0,
            broken: false,
        }
    }

    /// Writes until the queue is closed and empty, or closed and the file cannot be written.
    pub(super) fn run(mut self) {
        loop {
            let Work {
                lines,
                lost,
                reopen,
                last,
            } = self.queue.next();
            self.lines = lines;
            self.note_loss(lost);
            let all = self.write_all(reopen);
            if !all || last {
                return self.queue.leave(self.unwritten());
            }
            std::thread::sleep(GATHER);
        }
    }

    fn note_loss(&mut self, lost: u64) {
        self.lost = lost;
        if lost > 0 {
            tracing::warn!(
                lost,
                "events are missing in the audit log, whose file did not take them in time"
            );
            let event = Event::Lost { count: lost };
            event.write(SystemTime::now(), &Who::default(), &mut self.lines);
        }
    }

    /// False when that is not to be done before the end.
    fn write_all(&mut self, mut reopen: bool) -> bool {
        loop {
            let wrote = self.write();
            if std::mem::take(&mut reopen) {
                self.reopen();
                continue;
            }
            let pause = match wrote {
                Wrote::All => return true,
                Wrote::Slow => SLOW,
                Wrote::Failed => RETRY,
            };
            let Asked {
                reopen: again,
                close,
            } = self.queue.pause(pause);
            reopen = again;
            if close && !reopen {
                match wrote {
                    Wrote::Slow => std::thread::sleep(SLOW),
                    _ => return self.write() == Wrote::All,
                }
            }
        }
    }

    fn write(&mut self) -> Wrote {
        while let Some(rest @ [_, ..]) = self.lines.get(self.written..) {
            match self.file.write(rest) {
                Ok(0) => return self.failed(&ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Wrote::Slow,
                Err(err) => return self.failed(&err),
            }
        }
        self.lines.clear();
        self.written = 0;
        self.lost = 0;
        if std::mem::take(&mut self.broken) {
            tracing::warn!(file = %self.place.path.display(), "the audit log is written again");
        }
        Wrote::All
    }

    fn failed(&mut self, err: &io::Error) -> Wrote {
        if !self.broken {
            self.broken = true;
            tracing::error!(file = %self.place.path.display(), %err, "could not write the audit log; events wait, and are lost where too many do");
        }
        Wrote::Failed
    }

    /// Reopens the file, for example because it was rotated. A line that is half written in the old file will
    /// be complete in the new one.
    fn reopen(&mut self) {
        match descriptors::with_reserve(|| self.place.open()) {
            Ok(file) => {
                self.file = file;
                let done = self.lines.get(..self.written).unwrap_or_default();
                self.written = memchr::memrchr(b'\n', done).map_or(0, |end| end + 1);
            }
            Err(err) => {
                tracing::error!(file = %self.place.path.display(), %err, "could not open the audit log again, and goes on with the file that was open");
            }
        }
    }

    fn unwritten(&self) -> u64 {
        let rest = self.lines.get(self.written..).unwrap_or_default();
        let lines = memchr::memchr_iter(b'\n', rest).count() as u64;
        if lines > 0 && self.lost > 0 {
            lines - 1 + self.lost
        } else {
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &Path) -> Place {
        let path = path.to_owned();
        Place { path, mode: 0o600 }
    }

    fn writer(path: &Path) -> Writer {
        let place = place(path);
        let file = place.open().unwrap();
        Writer::new(Arc::default(), place, file)
    }

    #[test]
    fn half_a_line_at_the_end_of_the_file_stays_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        for (before, after) in [("", ""), ("whole\n", "whole\n"), ("ha", "ha\n")] {
            std::fs::write(&path, before).unwrap();
            place(&path).open().unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn streams_that_are_open_already_may_be_named() {
        for (name, already) in [
            ("/dev/stderr", true),
            ("/dev/fd/63", true),
            ("/proc/self/fd/2", true),
            ("/dev/shm/log", false),
            ("/dev/fd/63/log", false),
            ("audit.log", false),
        ] {
            assert_eq!(place(Path::new(name)).is_open_already(), already, "{name}");
        }
    }

    #[test]
    fn half_a_line_is_written_whole_into_the_next_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let mut writer = writer(&path);
        writer.lines = b"one\ntwo\nthree\n".to_vec();
        // The disk was full in the middle of "two".
        writer.written = 6;
        writer.reopen();
        assert_eq!(writer.write(), Wrote::All);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[test]
    fn a_full_disk_loses_nothing_that_was_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let mut writer = writer(Path::new("/dev/full"));
        writer.lines = b"one\ntwo\n".to_vec();
        writer.note_loss(5);
        assert_eq!(writer.write(), Wrote::Failed);
        // Two lines, and five that are missing.
        assert_eq!(writer.unwritten(), 7);
        writer.place.path = path.clone();
        writer.reopen();
        assert_eq!(writer.write(), Wrote::All);
        assert_eq!(writer.unwritten(), 0);
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.starts_with("one\ntwo\n{"), "{written}");
        assert!(written.ends_with("\"event\":\"lost\",\"count\":5}\n"));
    }
}
