//! The server's location: redirects, proxies, TLS, and invalid settings.

use super::*;
use crate::certificates::Files;
use crate::process::{assert_fails, binary, run};

/// Some frameworks redirect `/mcp` to `/mcp/`. Redirects to another host are not followed.
#[test]
fn redirects_are_followed_on_the_same_host_only() {
    let elsewhere = Site::start();
    let (mut client, site) = established(&["--header", "Authorization: Bearer secret"]);
    client.send(&request(1, "tools/call", json!({"name":"t"})));
    site.next().answer(307, "Location: /mcp/\r\n", "");
    let moved = site.next();
    assert_eq!((&*moved.target, &moved.body["id"]), ("/mcp/", &json!(1)));
    moved.result(&json!({}));
    client.next();
    for status in [301, 302, 303, 307, 308] {
        client.send(&request(status, "tools/call", json!({"name":"t"})));
        let place = format!("Location: http://localhost:{}/mcp\r\n", elsewhere.port);
        let exchange = site.next();
        assert_eq!(exchange.target, "/mcp/", "it is known by now");
        exchange.answer(status, &place, "");
        let answer = client.next();
        assert_failed(&answer, status.into(), "http-status", "no");
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("--url"),
            "{answer}"
        );
    }
    assert!(elsewhere.is_quiet());
    leave(&mut client, &site);
}

/// A proxy sees the whole URL, and resolves the name itself.
#[test]
fn a_proxy_is_used_for_http() {
    let proxy = Site::start();
    let variables = [(
        "HTTP_PROXY",
        &*format!("http://user:p%40ss@127.0.0.1:{}", proxy.port),
    )];
    let mut client = TestClient::http("http://mcp.example.test/mcp?x=1", &[], &variables);
    client.send(&request(0, "initialize", initialize()));
    let exchange = proxy.next();
    assert_eq!(exchange.target, "http://mcp.example.test/mcp?x=1");
    assert_eq!(exchange.header("host"), Some("mcp.example.test"));
    assert_eq!(
        exchange.header("proxy-authorization"),
        Some("Basic dXNlcjpwQHNz")
    );
    exchange.result(&initialized());
    client.next();
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn tls_and_client_certificates_work_and_their_lack_is_told() {
    let files = Files::new();
    let site = Site::start_tls(files.config(true));
    let url = format!("https://localhost:{}/mcp", site.port);
    let ca = files.path("ca.pem");
    let mut args = vec!["--tls-ca".to_owned(), ca];
    let start = |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut client = TestClient::http(&url, &args, &[]);
        client.send(&request(0, "initialize", initialize()));
        client
    };
    let mut stranger = start(&[]);
    assert_failed(&stranger.next(), 0, "connection-lost", "no");
    assert_eq!(stranger.wait(), Some(1));
    stranger.log.wait_for("authority that is not trusted");

    args.extend(files.identity("client"));
    let mut client = start(&args);
    let exchange = site.next();
    assert_eq!(
        exchange.header("host"),
        Some(&*format!("localhost:{}", site.port))
    );
    exchange.result(&initialized());
    client.next();
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

/// A proxy that only forwards bytes, after a correct CONNECT.
#[test]
fn a_proxy_is_used_for_https() {
    let files = Files::new();
    let site = Site::start_tls(files.config(false));
    let proxy = Site::start();
    let variables = [("HTTPS_PROXY", &*format!("http://127.0.0.1:{}", proxy.port))];
    let ca = files.path("ca.pem");
    // A name that only the proxy knows.
    let url = format!("https://mcp.example.test:{}/mcp", site.port);
    let mut client = TestClient::http(&url, &["--tls-ca", &ca], &variables);
    client.send(&request(0, "initialize", initialize()));
    let exchange = proxy.next();
    assert_eq!(exchange.method, "CONNECT");
    assert_eq!(exchange.target, format!("mcp.example.test:{}", site.port));
    exchange.status(407);
    assert_failed(&client.next(), 0, "connection-lost", "no");
    assert_eq!(client.wait(), Some(1));
    client.log.wait_for("HTTP 407");

    let mut client = TestClient::http(&url, &["--tls-ca", &ca], &variables);
    client.send(&request(0, "initialize", initialize()));
    proxy.next().tunnel(site.port);
    // TLS goes through: the certificate is for another name than the URL's.
    assert_failed(&client.next(), 0, "connection-lost", "no");
    assert_eq!(client.wait(), Some(1));
    client
        .log
        .wait_for("certificate is not for 'mcp.example.test'");
}

#[test]
fn wrong_settings_are_named() {
    for (args, says) in [
        (&["--port", "1"][..], "--url"),
        (&["--url", "ws://a/"], "http:// or https://"),
        (&["--url", "http://u:p@a/"], "--header"),
        (&["--url", "http://a/", "--tls"], "https://"),
        (&["--url", "http://a/", "--tls-ca", "x"], "https://"),
        (&["--url", "http://a/", "--header", "x"], "'Name: value'"),
        (
            &["--url", "http://a/", "--header", "Host: x"],
            "sets itself",
        ),
        (
            &["--url", "http://a/", "--header", "X: ${MCP_REMOTE_NO_SUCH}"],
            "is not set",
        ),
        (
            &["--url", "http://a/", "--header-file", "/nonexistent"],
            "--header-file",
        ),
        (
            &[
                "--url",
                "http://a/",
                "--jwt-token",
                "x",
                "--header",
                "Authorization: y",
            ],
            "one of them",
        ),
    ] {
        let outcome = run(binary().args(["client", "http"]).args(args), b"");
        assert_fails(&outcome, 2, says);
    }
    let outcome = run(
        binary().args(["client", "tcp", "--port", "1", "--header", "A: b"]),
        b"",
    );
    assert_fails(&outcome, 2, "client http");
}

#[test]
fn headers_come_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    std::fs::write(&file, "\u{feff}# mine\n\nX-One: 1\r\nX-Two: ${TWO}\n").unwrap();
    let site = Site::start();
    let args = [
        "--header-file",
        file.to_str().unwrap(),
        "--header",
        "X-Three: 3",
    ];
    let mut client = TestClient::http(&site.url(), &args, &[("TWO", "2")]);
    client.send(&request(0, "initialize", initialize()));
    let exchange = site.next();
    for (name, value) in [("x-one", "1"), ("x-two", "2"), ("x-three", "3")] {
        assert_eq!(exchange.header(name), Some(value));
    }
    exchange.result(&initialized());
    client.next();
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}
