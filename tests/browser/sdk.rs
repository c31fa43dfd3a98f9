//! Pages with the official TypeScript SDK against `server http`: one from an allowed origin calls a tool
//! like any client; one from another origin reaches nothing, under any name.

use crate::chromium::Chromium;
use crate::common::{Setup, token_with};
use crate::process::eventually;
use crate::site::{Port, Reports};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The page's script, including the SDK. Needs npm and, once, its registry.
fn bundle() -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/sdk");
    let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser-sdk");
    std::fs::create_dir_all(&work).unwrap();
    for name in ["package.json", "package-lock.json", "page.mjs"] {
        std::fs::copy(source.join(name), work.join(name)).unwrap();
    }
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command.args(arguments).current_dir(&work).output();
        let output = output.unwrap_or_else(|err| panic!("{program} is needed: {err}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    };
    run(
        "npm",
        &["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    );
    let esbuild = "node_modules/.bin/esbuild";
    run(
        esbuild,
        &["page.mjs", "--bundle", "--format=esm", "--outfile=out.js"],
    );
    std::fs::read_to_string(work.join("out.js")).unwrap()
}

#[test]
fn a_page_of_an_allowed_origin_calls_a_tool_with_the_official_sdk() {
    let bundle = bundle();
    let page = |name: &str, url: &str, next: Option<&str>| {
        let token = token_with(&["user"]);
        let settings = json!({"name": name, "url": url, "token": token, "next": next});
        format!(
            "<!doctype html><meta charset=\"utf-8\"><title>a page</title>\
             <script>globalThis.SETTINGS = {settings};</script><script type=\"module\">{bundle}</script>"
        )
    };
    let reports = Reports::new();
    let (evil_site, allowed_site, rebound_site) = (Port::new(), Port::new(), Port::new());
    let origin = |name: &str, port: &Port| format!("http://{name}.test:{}", port.number());
    let allowed_origin = origin("allowed", &allowed_site);
    let server = Setup::new("http")
        .secret()
        .args(&["--host", "127.0.0.1", "--allow-origin", &allowed_origin])
        .start();
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    // From the last page to the first. A name of the last one resolves to the server (DNS rebinding).
    let rebound_origin = origin("rebound", &rebound_site);
    let rebound = page("rebound", &format!("{rebound_origin}/mcp"), None);
    let allowed = page("allowed", &url, Some(&format!("{rebound_origin}/page/x")));
    let evil = page("evil", &url, Some(&format!("{allowed_origin}/page/x")));
    let start = format!("{}/page/x", origin("evil", &evil_site));
    reports.serve(rebound_site, rebound, Some(server.port));
    reports.serve(allowed_site, allowed, None);
    reports.serve(evil_site, evil, None);

    let browser = Chromium::open(&start);
    let results: Vec<Value> = (0..3).map(|_| reports.next()).collect();
    drop(browser);
    let of = |name: &str| {
        let report = results.iter().find(|report| report["page"] == name);
        &report.expect("each page reports")["result"]
    };
    let right = json!({"called": true, "session": true});
    assert_eq!(*of("allowed"), right, "{results:?}");
    for name in ["evil", "rebound"] {
        assert_eq!(of(name)["called"], false, "{results:?}");
    }
    let seen = server.wait_seen("CALL allowed");
    assert!(seen.contains("tools/call"), "{seen}");
    let seen = server.seen();
    assert!(
        !seen.contains("evil") && !seen.contains("rebound"),
        "{seen}"
    );
    eventually("both have knocked", || {
        let log = server.log.text();
        let refused = |reason: &str| log.contains(reason);
        (refused("this origin is not allowed") && refused("this Host is not allowed")).then_some(())
    });
}
