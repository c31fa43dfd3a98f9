//! The process that started us.

/// Never completes: Windows tells by the end of our stdin that the host is gone.
pub async fn exited() {
    std::future::pending().await
}
