//! From frames to lines.

use super::to_io;
use crate::json::{Part, Structure};
use crate::jsonrpc::Outline;
use crate::transport::line::LineError;
use crate::utils::spare;
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite::{self, Message};

/// Makes lines of frames, one at a time: a frame of nothing but newlines is no larger in here than
/// on the wire.
pub(super) struct Lines {
    /// What has not been looked at yet of the last frame.
    pub rest: Bytes,
    /// The beginning of a line whose end has not come.
    partial: BytesMut,
    balance: Balance,
    pub limit: usize,
    /// The message of the last frame goes on in the next one.
    pub continues: bool,
    /// The line under way, where it is too long.
    too_long: Option<Outline>,
    /// The last line that was too long.
    pub skipped: Outline,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            rest: Bytes::new(),
            partial: BytesMut::new(),
            balance: Balance::default(),
            limit: usize::MAX,
            continues: false,
            too_long: None,
            skipped: Outline::default(),
        }
    }
}

impl Lines {
    /// How much waits for its end, in bytes.
    pub(super) fn partial(&self) -> usize {
        self.partial.len()
    }

    /// The next line of the last frame; `None` when another frame is needed.
    pub(super) fn pop(&mut self) -> Option<Result<Bytes, LineError>> {
        if let Some(end) = memchr::memchr(b'\n', &self.rest) {
            let mut line = self.rest.split_to(end + 1);
            line.truncate(end);
            return Some(self.end_line(line));
        }
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            // The last fragment of a message may hold nothing.
            let ends = self.balance.is_whole() && !self.continues;
            return ends.then(|| self.end_line(rest));
        }
        // No newline: a whole message, or the beginning of one?
        self.balance.read(&rest);
        if self.balance.is_whole() && !self.continues {
            return Some(self.end_line(rest));
        }
        if let Some(outline) = &mut self.too_long {
            outline.see(&rest);
            return None;
        }
        if self.partial.len() + rest.len() > self.limit {
            let mut outline = Outline::of(&self.partial);
            outline.see(&rest);
            self.partial = BytesMut::new();
            self.too_long = Some(outline);
            return None;
        }
        self.partial.extend_from_slice(&rest);
        None
    }

    /// Takes a frame, after [`Lines::pop`] has given all of the last one; false at the end of the
    /// stream.
    pub(super) fn push_frame(
        &mut self,
        frame: Option<Result<Message, tungstenite::Error>>,
    ) -> Result<bool, LineError> {
        match frame {
            Some(Ok(Message::Text(text))) => self.rest = text.into(),
            Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed)) | None => {
                return Ok(false);
            }
            Some(Err(tungstenite::Error::Capacity(_))) => {
                let limit = self.limit;
                return Err(LineError::TooLongFrame { limit });
            }
            Some(Err(err)) => return Err(to_io(err).into()),
        }
        Ok(true)
    }

    fn end_line(&mut self, end: Bytes) -> Result<Bytes, LineError> {
        self.balance = Balance::default();
        if let Some(mut outline) = self.too_long.take() {
            outline.see(&end);
            self.skipped = outline;
            return Err(LineError::TooLong { limit: self.limit });
        }
        let line = if self.partial.is_empty() {
            end
        } else {
            self.partial.extend_from_slice(&end);
            self.partial.split().freeze()
        };
        if line.len() > self.limit {
            self.skipped = Outline::of(&line);
            return Err(LineError::TooLong { limit: self.limit });
        }
        spare::used(line.len());
        Ok(line)
    }
}

/// Tells a whole message from the beginning of one by its brackets. What is no object or list cannot
/// be a message, whole or not, so it counts as whole.
#[derive(Default)]
struct Balance {
    begun: bool,
    structure: Structure,
}

impl Balance {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            self.begun |= self.structure.take(byte) != Part::White;
            bytes = rest
                .get(self.structure.plain_text(rest)..)
                .unwrap_or_default();
        }
    }

    fn is_whole(&self) -> bool {
        self.begun && self.structure.depth() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(frames: &[&str]) -> Vec<String> {
        let mut lines = Lines {
            limit: 1000,
            ..Lines::default()
        };
        let mut read = Vec::new();
        for frame in frames {
            lines.rest = Bytes::copy_from_slice(frame.as_bytes());
            while let Some(line) = lines.pop() {
                read.push(String::from_utf8(line.unwrap().to_vec()).unwrap());
            }
        }
        read
    }

    #[test]
    fn frames_become_lines() {
        assert_eq!(lines_of(&["{\"a\":1}\n"]), ["{\"a\":1}"]);
        assert_eq!(lines_of(&["{\"a\":1}"]), ["{\"a\":1}"]);
        assert_eq!(
            lines_of(&["{\"a\":1}\n{}\n[]\n"]),
            ["{\"a\":1}", "{}", "[]"]
        );
        assert_eq!(
            lines_of(&["{\"a\":\"}\\\"", "\"}", "{}"]),
            ["{\"a\":\"}\\\"\"}", "{}"]
        );
        assert_eq!(
            lines_of(&["{\"a\":", "1}\n{\"b\":", "2}"]),
            ["{\"a\":1}", "{\"b\":2}"]
        );
        assert_eq!(lines_of(&["token"]), ["token"]);
        assert_eq!(lines_of(&["{"]), Vec::<String>::new());
        assert_eq!(lines_of(&["{", "oops\n{}"]), ["{oops", "{}"]);
        assert_eq!(lines_of(&["", "\r\n"]), ["\r"]);
    }
}
