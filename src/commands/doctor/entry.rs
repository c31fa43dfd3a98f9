//! The entry with which an MCP host starts the client that was just tested.

use crate::cli::{ClientArgs, ClientTransport};
use crate::utils::escape::escape;
use crate::utils::secret::Secret;
use serde_json::{Value, json};
use std::path::Path;

/// The file for a token that was given in a way an entry should not repeat.
pub(in crate::commands) const TOKEN_FILE: &str = "/path/to/token";

/// Hosts seldom restart a server that has given up.
pub(in crate::commands) const PATIENCE: [&str; 3] = ["--auto-reconnect", "--max-attempts", "0"];

/// The complete configuration for hosts with `mcpServers` (Claude Desktop, Claude Code, Cursor), and for
/// VS Code. It contains no token, only the path of its file.
pub(super) fn entries(args: &ClientArgs) -> Value {
    let entry = entry(&arguments(args), token_file(args));
    let mut typed = json!({"type": "stdio"});
    if let (Some(typed), Some(entry)) = (typed.as_object_mut(), entry.as_object()) {
        typed.extend(entry.clone());
    }
    json!({
        "mcpServers": {"remote": entry},
        "servers": {"remote": typed},
    })
}

/// The entry with which a host starts this program with these arguments.
pub(in crate::commands) fn entry(arguments: &[String], token_file: Option<String>) -> Value {
    let program = std::env::current_exe().unwrap_or_else(|_| "mcp-remote".into());
    let mut entry = json!({"command": program.display().to_string(), "args": arguments});
    if let Some(file) = token_file {
        entry["env"] = json!({"MCP_REMOTE_JWT_TOKEN_FILE": file});
    }
    entry
}

/// The same, for people, after the verdict.
pub(super) fn text(args: &ClientArgs, verdict: &str) -> String {
    let entries = entries(args);
    let whole = |key: &str| escape_lines(&format!("{:#}", json!({key: entries[key]})));
    let mut text = format!(
        "\n{verdict}\n\nAn entry for Claude Desktop (claude_desktop_config.json),\nClaude Code (.mcp.json) and Cursor (.cursor/mcp.json):\n\n{}\n\nFor VS Code (.vscode/mcp.json):\n\n{}\n",
        whole("mcpServers"),
        whole("servers")
    );
    if token_file(args).is_some_and(|file| file == TOKEN_FILE) {
        text.push_str(&format!(
            "\nPut the token into a file that only you can read, and name it in place of\n{TOKEN_FILE}.\n"
        ));
    }
    text
}

fn escape_lines(text: &str) -> String {
    let lines = text.lines().map(escape);
    lines.collect::<Vec<_>>().join("\n")
}

/// The token file, if there is a token.
fn token_file(args: &ClientArgs) -> Option<String> {
    let variable = std::env::var("MCP_REMOTE_JWT_TOKEN_FILE").ok();
    let file = args
        .token
        .jwt_token_file
        .clone()
        .or(variable.map(Into::into));
    let is_set = |name| std::env::var_os(name).is_some();
    if args.token.jwt_token.is_some() || file.is_none() && is_set("MCP_REMOTE_JWT_TOKEN") {
        return Some(TOKEN_FILE.to_owned());
    }
    file.map(|file| absolute(&file))
}

/// A host may start the client in any folder.
fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).display().to_string()
}

fn arguments(args: &ClientArgs) -> Vec<String> {
    let transport = match args.transport {
        ClientTransport::Tcp => "tcp",
        ClientTransport::Ws => "ws",
        ClientTransport::Http => "http",
        ClientTransport::Unix => "unix",
    };
    let mut list = vec!["client".to_owned(), transport.to_owned()];
    let mut add = |flag: &str, value: Option<String>| {
        list.push(flag.to_owned());
        list.extend(value);
    };
    match (&args.path, &args.url, args.port) {
        (Some(path), ..) => add("--path", Some(absolute(path))),
        (None, Some(url), _) => add("--url", Some(url.clone())),
        (None, None, port) => {
            add("--host", Some(args.host.clone()));
            add("--port", port.map(|port| port.to_string()));
            if args.tls {
                add("--tls", None);
            }
        }
    }
    for (flag, file) in [
        ("--tls-ca", &args.tls_ca),
        ("--tls-cert", &args.tls_cert),
        ("--tls-key", &args.tls_key),
        ("--header-file", &args.header_file),
    ] {
        if let Some(file) = file {
            add(flag, Some(absolute(file)));
        }
    }
    if let Some(command) = &args.jwt_token_command {
        add("--jwt-token-command", Some(command.clone()));
    }
    for header in &args.header {
        add("--header", Some(public(header)));
    }
    list.extend(PATIENCE.map(str::to_owned));
    list
}

/// The header with a variable in place of a value that may be secret.
fn public(header: &Secret) -> String {
    let line = header.expose();
    match line.split_once(':') {
        Some((_, value)) if value.contains("${") => line.to_owned(),
        Some((name, _)) => {
            let variable = name.trim().to_uppercase().replace('-', "_");
            format!("{}: ${{{variable}}}", name.trim())
        }
        None => String::new(),
    }
}
