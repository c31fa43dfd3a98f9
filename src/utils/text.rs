//! Text files as editors of all systems save them.

use std::io;
use std::path::Path;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The text of a file, without the byte order mark that some editors put before it.
///
/// # Errors
/// What the system says, and that the file is not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    text_of(read_file(path)?)
}

/// The bytes of a file that holds text among other things, likewise.
///
/// # Errors
/// What the system says, and that the file is UTF-16.
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    without_mark(read_file(path)?)
}

/// The text in `bytes`, without a byte order mark.
///
/// # Errors
/// That they are not UTF-8.
pub fn text_of(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(without_mark(bytes)?)
        .map_err(|_| invalid("it is not UTF-8 text; save it as UTF-8"))
}

/// Only shells know the short form of the home folder, and only in front of a word.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path).map_err(|err| {
        if path.starts_with("~") && err.kind() == io::ErrorKind::NotFound {
            let text =
                "no such file; '~' means the home folder to shells alone: give the full path";
            return io::Error::new(err.kind(), text);
        }
        err
    })
}

fn without_mark(mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    // Without a mark, every other byte of what begins with ASCII is 0.
    if matches!(
        *bytes,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..]
    ) {
        return Err(invalid("it is saved as UTF-16; save it as UTF-8"));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_named() {
        let fault = read(Path::new("~/no/such/file")).unwrap_err().to_string();
        assert!(fault.contains("give the full path"), "{fault}");
        let fault = read(Path::new("/no/~/file")).unwrap_err().to_string();
        assert!(!fault.contains("full path"), "{fault}");
    }

    #[test]
    fn a_byte_order_mark_is_no_text() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"a", "a"),
            (b"\xef\xbb\xbfa\n", "a\n"),
            (b"\xef\xbb\xbf", ""),
            ("a\u{feff}\u{e9}".as_bytes(), "a\u{feff}\u{e9}"),
        ] {
            assert_eq!(text_of(bytes.to_vec()).unwrap(), text);
        }
    }

    #[test]
    fn other_encodings_are_named() {
        for (bytes, problem) in [
            (&b"\xff\xfe{\0"[..], "UTF-16"),
            (b"\xfe\xff\0{", "UTF-16"),
            (b"{\0}\0", "UTF-16"),
            (b"\0{\0}", "UTF-16"),
            (b"\xff\xfe", "UTF-16"),
            (b"caf\xe9", "not UTF-8"),
        ] {
            let err = text_of(bytes.to_vec()).unwrap_err();
            assert!(err.to_string().contains(problem), "{bytes:?}: {err}");
        }
    }
}
