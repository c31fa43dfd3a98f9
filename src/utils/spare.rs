//! Memory that large messages leave behind: allocators keep it for the next ones.

use super::signal::Signal;
use std::convert::Infallible;
use std::time::Duration;

/// From this many bytes in use at once, memory is worth returning to the system.
pub const LARGE: usize = 256 * 1024;

/// What is kept is released when there was no large message for so long.
const QUIET: Duration = Duration::from_secs(1);

static USED: Signal = Signal::new();

/// Notes that this many bytes have been in use, in one piece or many.
pub fn used(bytes: usize) {
    if bytes >= LARGE {
        USED.raise();
    }
}

/// Calls `release` after large messages, once it is quiet again. One for each process.
pub async fn tidy(release: fn()) -> Infallible {
    after_each(&USED, release).await
}

async fn after_each(used: &Signal, release: impl Fn()) -> Infallible {
    loop {
        used.wait().await;
        while tokio::time::timeout(QUIET, used.wait()).await.is_ok() {}
        release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn it_is_released_once_when_it_is_quiet() {
        let (used, released) = (Signal::new(), AtomicUsize::new(0));
        let using = async {
            for _ in 0..5 {
                used.raise();
                tokio::time::sleep(QUIET / 2).await;
            }
            assert_eq!(released.load(Ordering::Relaxed), 0);
            tokio::time::sleep(3 * QUIET).await;
            assert_eq!(released.load(Ordering::Relaxed), 1);
        };
        let release = || {
            released.fetch_add(1, Ordering::Relaxed);
        };
        tokio::select! {
            () = using => {}
            never = after_each(&used, release) => match never {},
        }
    }
}
