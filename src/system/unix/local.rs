//! Unix sockets: bind, accept, connect. Only the user that the server runs as gets to its socket.

use socket2::SockRef;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// A connection.
pub type Stream = UnixStream;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Who may connect: the owner.
const MODE: u32 = 0o600;

/// A socket in the file system. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, which tell it from one that somebody else has put there; `None` where it
    /// is not ours.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Creates the socket at `path`. A stale one is replaced.
    ///
    /// # Errors
    /// Another process listens there, something else is there, or the system's error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = UnixSocket::new_stream()?;
        // Never through a symbolic link, and never over a file: either is "address in use".
        socket.bind(path)?;
        // No peer can connect before `listen`, so none does before the mode is set.
        fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
        let file = identity(path)?;
        Ok(Self {
            listener: socket.listen(BACKLOG)?,
            path: path.to_owned(),
            file: Some(file),
        })
    }

    /// A listening socket that was inherited from our parent process, which also removes it.
    ///
    /// # Errors
    /// What the system says.
    pub fn inherited(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            path: address.as_pathname().unwrap_or(Path::new("?")).to_owned(),
            listener: UnixListener::from_std(listener)?,
            file: None,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// What the system says; the listener stays usable.
    pub fn poll_accept(
        &self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<Stream>> {
        let accepted = self.listener.poll_accept(context);
        accepted.map(|accepted| accepted.map(|(stream, _)| stream))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(own) = self.file
            && identity(&self.path).is_ok_and(|file| file == own)
            && let Err(err) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %err, "could not remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a stale socket, left by a server that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    if !is_socket {
        let text = "something that is no socket is there, and stays";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // It listens, or it is not ours to say.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Waits for a byte and leaves it where it is; 0 at the end of the stream. Cancel safe.
///
/// # Errors
/// What the system says.
pub async fn peek(stream: &Stream) -> io::Result<usize> {
    let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
    stream.async_io(Interest::READABLE, peek).await
}

/// Connects to the socket at `path`.
///
/// # Errors
/// What the system says.
pub async fn connect(path: &Path) -> io::Result<Stream> {
    UnixStream::connect(path).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let first = Listener::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, MODE);
        let kind = |path: &Path| Listener::bind(path).unwrap_err().kind();
        assert_eq!(kind(&path), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // Left by a server that was killed.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let second = Listener::bind(&path).unwrap();
        // Created by a successor that has replaced it meanwhile.
        fs::remove_file(&path).unwrap();
        let third = Listener::bind(&path).unwrap();
        drop(second);
        assert!(path.exists());
        drop(third);
        fs::write(&path, "mine").unwrap();
        assert_eq!(kind(&path), io::ErrorKind::AlreadyExists);
        let link = folder.path().join("link.sock");
        for target in [&path, &folder.path().join("nothing")] {
            std::os::unix::fs::symlink(target, &link).unwrap();
            assert_eq!(kind(&link), io::ErrorKind::AlreadyExists);
            fs::remove_file(&link).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}
