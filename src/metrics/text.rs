//! The numbers as Prometheus reads them.

use super::histogram::Histogram;
use super::{AuthFailure, Counters, Label, Metrics, OTHER, ROWS, Transport, Verdict};
use crate::mcp::Method;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// What is looked up at each scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The memory kept for all clients, in bytes.
    pub backlog: usize,
    /// Lines that wait for clients.
    pub waiting: usize,
}

impl Metrics {
    /// All metrics in the text format of Prometheus, version 0.0.4, which every scraper reads.
    ///
    /// # Errors
    /// A bug in the encoder.
    pub fn text(&'static self, now: Now) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("mcp_remote");
        registry.register_collector(Box::new(Snapshot { metrics: self, now }));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(classic(&text))
    }
}

/// The older format from OpenMetrics, in which counters and infos are described without the ends of their
/// names.
fn classic(text: &str) -> String {
    let mut lines = Vec::new();
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let (end, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                kind => ("", kind),
            };
            let (_, help) = help.take().unwrap_or_default();
            lines.push(format!("# HELP {name}{end} {help}"));
            lines.push(format!("# TYPE {name}{end} {kind}"));
        } else if line != "# EOF" {
            lines.push(line.to_owned());
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[derive(Debug)]
struct Snapshot {
    metrics: &'static Metrics,
    now: Now,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let (out, metrics) = (&mut encoder, self.metrics);
        build(out)?;
        connections(out, metrics)?;
        messages(out, metrics)?;
        bytes(out, metrics)?;
        durations(out, metrics)?;
        processes(out, metrics)?;
        backlog(out, self.now)?;
        losses(out, metrics)?;
        certificate(out, metrics)
    }
}

fn build(out: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let version = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("built_from", env!("BUILT_FROM")),
    ];
    let mut build = out.encode_descriptor("build", "What is running", None, MetricType::Info)?;
    build.encode_info(&version)
}

fn connections(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    counters::<Transport, 4>(
        out,
        "connections",
        "Connections that have come",
        "transport",
        &metrics.connections,
    )?;
    gauges(
        out,
        "open_connections",
        "Connections that are open",
        &metrics.open_connections,
    )?;
    gauges(
        out,
        "open_sessions",
        "Sessions that are open, connected or waiting for their client",
        &metrics.open_sessions,
    )?;
    counters::<AuthFailure, 6>(
        out,
        "authentication_failures",
        "Peers that were not let in",
        "reason",
        &metrics.failures,
    )
}

fn bytes(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    counter(
        out,
        "received_bytes",
        "Bytes of the messages that peers have sent",
        metrics.received.load(Ordering::Relaxed),
    )?;
    counter(
        out,
        "sent_bytes",
        "Bytes of the messages for peers",
        metrics.sent.load(Ordering::Relaxed),
    )
}

fn durations(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let help = "Time that the proxy adds: to a request until it is handed over, its wait for room included, and to a message of the MCP server until it is queued for its peers";
    histograms(
        out,
        "proxy_duration_seconds",
        help,
        &[
            ("to_server", &metrics.to_server),
            ("to_client", &metrics.to_client),
        ],
    )?;
    let help = "Time from a request that the MCP server is given to its answer";
    let mut server =
        out.encode_descriptor("server_duration_seconds", help, None, MetricType::Histogram)?;
    histogram(&mut server, &metrics.server)
}

/// The processes of the MCP server.
fn processes(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    gauge(
        out,
        "server_processes",
        "Processes of the MCP server that run",
        metrics.running.load(Ordering::Relaxed),
    )?;
    counter(
        out,
        "server_starts",
        "Processes of the MCP server that were started",
        metrics.starts.load(Ordering::Relaxed),
    )?;
    counter(
        out,
        "server_exits",
        "Processes of the MCP server that ended while they were needed",
        metrics.exits.load(Ordering::Relaxed),
    )?;
    counter(
        out,
        "server_restarts",
        "Of those that were started, the ones that took the place of one that had ended",
        metrics.restarts.load(Ordering::Relaxed),
    )?;
    counter(
        out,
        "unasked_answers",
        "Answers of a shared MCP server under ids that it was not given",
        metrics.unasked_answers.load(Ordering::Relaxed),
    )
}

/// What waits for clients.
fn backlog(out: &mut DescriptorEncoder<'_>, now: Now) -> fmt::Result {
    gauge(
        out,
        "waiting_lines",
        "Lines that wait for clients",
        now.waiting,
    )?;
    gauge(
        out,
        "backlog_bytes",
        "Memory that is kept for all clients",
        now.backlog,
    )
}

/// What the logs lack.
fn losses(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    counter(
        out,
        "lost_log_lines",
        "Lines of the log that nobody has read",
        (metrics.lost_log_lines)(),
    )?;
    counter(
        out,
        "lost_audit_events",
        "Events that are missing in the audit log",
        metrics.lost_audit_events.load(Ordering::Relaxed),
    )
}

fn certificate(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let end = metrics.certificate_end.load(Ordering::Relaxed);
    if end != 0 {
        gauge(
            out,
            "certificate_expiry_timestamp_seconds",
            "When the certificate that is shown expires",
            end,
        )?;
    }
    Ok(())
}

fn counter(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl TryInto<i64>,
) -> fmt::Result {
    let value: i64 = value.try_into().unwrap_or(i64::MAX);
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(&value)
}

fn counters<L: Label, const N: usize>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &Counters<N>,
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (word, value) in L::NAMES.iter().zip(values) {
        let value = value.load(Ordering::Relaxed);
        let labels = [(label, *word)];
        let mut one = metric.encode_family(&labels)?;
        one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauges(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &[AtomicI64; 4],
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (word, value) in Transport::NAMES.iter().zip(values) {
        let labels = [("transport", *word)];
        metric
            .encode_family(&labels)?
            .encode_gauge(&value.load(Ordering::Relaxed))?;
    }
    Ok(())
}

/// Leaves out zeros: most methods are never used.
fn messages(out: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    let help = "Messages of peers; 'other' is every method that MCP does not know, 'response' what has none";
    let mut metric = out.encode_descriptor("messages", help, None, MetricType::Counter)?;
    for row in 0..ROWS {
        let method = match Method::ALL.get(row) {
            Some(method) => method.name(),
            None if row == OTHER => "other",
            None => "response",
        };
        for (verdict, value) in Verdict::NAMES.iter().zip(&metrics.messages[row]) {
            let value = value.load(Ordering::Relaxed);
            if value > 0 {
                let labels = [("method", method), ("verdict", verdict)];
                let mut one = metric.encode_family(&labels)?;
                one.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
    }
    Ok(())
}

fn histograms(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    parts: &[(&str, &Histogram)],
) -> fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (direction, part) in parts {
        let labels = [("direction", *direction)];
        histogram(&mut metric.encode_family(&labels)?, part)?;
    }
    Ok(())
}

fn histogram(metric: &mut MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let (sum, count, buckets) = histogram.read();
    metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}
