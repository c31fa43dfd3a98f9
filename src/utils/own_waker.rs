//! A future that is polled when it was woken itself, and not whenever its task was.

use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// See [`own_waker`].
pub struct OwnWaker<F> {
    future: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// As `future`, which is put on the heap. A task that waits for many things at once would otherwise
/// look at all of them each time that one of them happens, and keep room for each of them twice.
pub fn own_waker<F: Future>(future: F) -> OwnWaker<F> {
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        task: AtomicWaker::new(),
    });
    OwnWaker {
        future: Box::pin(future),
        waker: Waker::from(Arc::clone(&bell)),
        bell,
    }
}

impl<F: Future> Future for OwnWaker<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self {
            future,
            bell,
            waker,
        } = &mut *self;
        // In this order: a wake-up after the check wakes this task.
        bell.task.register(context.waker());
        if bell.rung.swap(false, Ordering::AcqRel) {
            future.as_mut().poll(&mut Context::from_waker(waker))
        } else {
            Poll::Pending
        }
    }
}

struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn others_that_are_woken_do_not_poll_it() {
        let mut polls = 0;
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        {
            let mut quiet = own_waker(poll_fn(|context| {
                polls += 1;
                receiver.poll_recv(context)
            }));
            for _ in 0..10 {
                tokio::select! {
                    biased;
                    _ = &mut quiet => panic!("nothing was sent"),
                    () = tokio::task::yield_now() => {}
                }
            }
            sender.send(7).await.unwrap();
            assert_eq!(quiet.await, Some(7));
        }
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn one_that_wakes_itself_goes_on() {
        let mut left = 1000;
        let busy = poll_fn(|context| {
            left -= 1;
            if left == 0 {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        own_waker(busy).await;
    }
}
