//! Servers that are started by hand, on a real terminal.

use crate::common::example;
use crate::process::{Process, binary, eventually, is_alive, kill, wait_gone};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A server on a terminal of its own.
struct OnTerminal {
    terminal: Process,
    server: u64,
    child: u64,
    folder: TempDir,
}

impl OnTerminal {
    /// These pieces of shell stand before and behind the command line.
    fn start(before: &str, behind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {folder}; echo $$ > server; {before} {program} server tcp --port 0 -- sh -c 'echo $$ > child; exec {echo}' {behind}",
            folder = folder.path().display(),
            program = binary().get_program().display(),
            echo = example("echo_server").display(),
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &script]);
        command
            .arg(folder.path().join("typescript"))
            .env("DEBUG", "true");
        let terminal = Process::spawn(command.stdin(Stdio::piped()));
        let pid = |name: &str| {
            eventually(&format!("the {name} starts"), || {
                let text = std::fs::read_to_string(folder.path().join(name)).ok()?;
                text.trim().parse().ok()
            })
        };
        let (server, child) = (pid("server"), pid("child"));
        let started = Self {
            terminal,
            server,
            child,
            folder,
        };
        started.wait_for("listening on port");
        started
    }

    /// Waits until the terminal, or the file that takes its place, shows this.
    fn wait_for(&self, part: &str) {
        let shows = |path: &Path| {
            std::fs::read(path)
                .is_ok_and(|text| memchr::memmem::find(&text, part.as_bytes()).is_some())
        };
        let files = ["typescript", "output"].map(|name| self.folder.path().join(name));
        eventually(&format!("{part:?} is shown"), || {
            files.iter().any(|file| shows(file)).then_some(())
        });
    }

    fn close(&mut self) {
        kill(self.terminal.child.id().into());
        self.terminal.wait();
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if is_alive(self.server) {
            kill(self.server);
        }
    }
}

/// Bug: such a server went on, with its port and its child, since SIGHUP means reload.
#[test]
fn a_server_ends_with_the_terminal_it_was_started_on() {
    let mut started = OnTerminal::start("exec", "");
    started.close();
    wait_gone(started.server);
    wait_gone(started.child);
}

#[test]
fn a_server_that_is_to_stay_does() {
    for (before, behind) in [
        ("exec nohup", "> output 2>&1"),
        ("trap '' HUP; exec", "2> output"),
    ] {
        let mut started = OnTerminal::start(before, behind);
        started.close();
        started.wait_for("reloaded");
        assert!(is_alive(started.server));
    }
}
