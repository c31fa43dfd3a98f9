//! A real browser in headless mode.

use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Protections that only some browsers have, or only for some pages, so that the servers must not rely on them.
const NO_SHIELDS: &str = "--disable-features=LocalNetworkAccessChecks,HttpsUpgrades,\
    HttpsFirstBalancedModeAutoEnable,BlockInsecurePrivateNetworkRequests";

/// A browser, until it is dropped.
pub struct Chromium {
    child: Child,
    folder: TempDir,
}

impl Chromium {
    /// Opens `url`. The names of all sites resolve to this machine.
    pub fn open(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("chromium");
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-extensions"])
            .arg("--host-resolver-rules=MAP *.test 127.0.0.1")
            .arg(NO_SHIELDS)
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg(url)
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0);
        let child = command.spawn();
        let child = child.unwrap_or_else(|err| panic!("chromium is needed: {err}"));
        Self { child, folder }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // It may have exited by itself.
        let _gone = kill_process_group(group, Signal::KILL);
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- chromium\n{}---", String::from_utf8_lossy(&log));
        }
    }
}
