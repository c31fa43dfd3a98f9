//! Requests of the system to the program.

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop; which signal it was, for the log.
    Stop(&'static str),
    /// The terminal has closed, or a reload is requested.
    HangUp,
}

/// What SIGHUP means to a program that has files to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// The terminal that the program was started on has closed: it ends with it.
    Stop,
    /// The files are to be read again.
    Reload,
}
