//! Three people, one MCP server, one port: `mcp-remote` at work, in a few seconds.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! Nothing here is faked: the real `mcp-remote` makes the secret and the tokens, puts the real
//! `notes_server` on a free port, and serves one real `mcp-remote client` per person. This program is
//! the MCP host of all three. It fails when any response is not the expected one, and cleans up
//! its processes and its folder.

mod host;
mod programs;
mod table;

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use host::Host;
use programs::{Programs, Server};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The participants, with the role in their token. The roles are those of `permissions.example.json`.
const PEOPLE: [(&str, &str); 3] = [("alice", "admin"), ("bob", "user"), ("carol", "readonly")];

/// One row of the table: a request that all three send at the same time, with the same id.
struct Step {
    title: &'static str,
    method: &'static str,
    /// The parameters of the request, by person.
    params: fn(&str) -> Value,
    /// What the response must contain, by person; `None` where it must be denied.
    expect: fn(&str) -> Option<&str>,
    /// The response in a few words.
    show: fn(&Value) -> String,
}

/// The first step is the handshake that MCP demands before anything else.
const STEPS: [Step; 8] = [
    Step {
        title: "say hello",
        method: "initialize",
        params: |name| {
            let client = json!({"name": name, "version": "1"});
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
        },
        expect: |_| Some("notes"),
        show: |result| format!("I am '{}'", words(&result["serverInfo"]["name"])),
    },
    Step {
        title: "list the tools",
        method: "tools/list",
        params: |_| json!({}),
        expect: |_| Some("write_note"),
        show: |result| format!("{} tools", count(&result["tools"])),
    },
    Step {
        title: "write a note",
        method: "tools/call",
        params: |name| {
            let arguments = json!({"name": name, "text": format!("Written by {name}.")});
            json!({"name": "write_note", "arguments": arguments})
        },
        expect: |name| (name != "carol").then_some(name),
        show: |result| words(&result["content"][0]["text"]),
    },
    Step {
        title: "read it by a tool",
        method: "tools/call",
        params: |name| json!({"name": "read_note", "arguments": {"name": name}}),
        expect: |name| (name != "carol").then_some(name),
        show: |result| words(&result["content"][0]["text"]),
    },
    Step {
        title: "list the notes",
        method: "resources/list",
        params: |_| json!({}),
        expect: |_| Some("note:///welcome"),
        show: |result| {
            let resources = result["resources"].as_array().into_iter().flatten();
            let names: Vec<_> = resources.map(|resource| words(&resource["name"])).collect();
            names.join(", ")
        },
    },
    Step {
        title: "read a note",
        method: "resources/read",
        params: |name| json!({"uri": format!("note:///{}", note_of(name))}),
        expect: |name| Some(note_of(name)),
        show: |result| words(&result["contents"][0]["text"]),
    },
    Step {
        title: "get a prompt",
        method: "prompts/get",
        params: |name| json!({"name": "summarise", "arguments": {"note": note_of(name)}}),
        expect: |name| Some(note_of(name)),
        show: |result| format!("{} messages", count(&result["messages"])),
    },
    Step {
        title: "delete a resource",
        method: "resources/delete",
        params: |name| json!({"uri": format!("note:///{name}")}),
        // No MCP revision has this method, so the server does not know it either.
        expect: |name| (name == "alice").then_some("Method not found"),
        show: |_| "passed, server: not found".to_owned(),
    },
];

/// The note that a person reads: carol cannot write one of her own.
fn note_of(name: &str) -> &str {
    if name == "carol" { "welcome" } else { name }
}

fn main() -> ExitCode {
    let mut out = io::stdout().lock();
    match programs::locate().and_then(|programs| play(&programs, &mut out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(programs: &Programs, out: &mut impl Write) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("mcp-remote-quickstart-")
        .tempdir()?;
    let log_path = folder.path().join("log");
    // The programs' stderr: shown only when something fails.
    let log = File::create(&log_path)?;
    scene(programs, folder.path(), &log, out).map_err(|error| {
        let log = fs::read_to_string(&log_path).unwrap_or_default();
        format!("{error}\n\nWhat the programs logged:\n{log}").into()
    })
}

fn scene(programs: &Programs, folder: &Path, log: &File, out: &mut impl Write) -> Result<()> {
    let notes = folder.join("notes");
    fs::create_dir(&notes)?;
    fs::write(notes.join("welcome"), "Hello and welcome!")?;

    writeln!(out, "\nThree people, one MCP server, one TCP port.\n")?;
    writeln!(out, "  $ mcp-remote generate-secret")?;
    let secret = programs.secret()?;
    let mut tokens = Vec::new();
    for (name, role) in PEOPLE {
        let shown = format!("generate-token --user {name} --roles {role} --quiet");
        writeln!(out, "  $ mcp-remote {shown}")?;
        tokens.push(programs.token(&secret, name, role)?);
    }
    let shown = "server tcp --port 0 --permissions-config permissions.example.json";
    writeln!(out, "  $ mcp-remote {shown} \\")?;
    writeln!(out, "      -- notes_server {}", notes.display())?;
    let mut server = Server::start(programs, &secret, &notes, log)?;
    let shown = format!("client tcp --port {}", server.port());
    writeln!(
        out,
        "  $ mcp-remote {shown}    (three times, each with a token)\n"
    )?;
    let mut hosts = Vec::new();
    for token in &tokens {
        hosts.push(Host::start(programs, server.port(), token, log)?);
    }

    let mut denials = Vec::new();
    let rows = (1..)
        .zip(&STEPS)
        .map(|(id, step)| ask_all(&mut hosts, id, step, &mut denials))
        .collect::<Result<Vec<_>>>()?;
    hosts.into_iter().try_for_each(Host::leave)?;
    server.stop()?;
    report(&rows, &denials, out)
}

/// One request per person, all sent before any response is read.
fn ask_all(
    hosts: &mut [Host],
    id: u32,
    step: &Step,
    denials: &mut Vec<String>,
) -> Result<table::Row> {
    for ((name, _), host) in PEOPLE.iter().zip(&mut *hosts) {
        host.ask(id, step.method, (step.params)(name))?;
    }
    let mut cells = Vec::new();
    for ((name, _), host) in PEOPLE.iter().zip(hosts) {
        let answer = host.answer(id)?;
        cells.push(judge(step, name, &answer)?);
        if is_denial(&answer) {
            denials.push(format!("as {name}'s host received it:\n  {answer}"));
        }
        if step.method == "initialize" {
            host.notify("notifications/initialized")?;
        }
    }
    let (title, method) = (step.title, step.method);
    Ok(table::Row {
        id,
        title,
        method,
        cells,
    })
}

fn report(rows: &[table::Row], denials: &[String], out: &mut impl Write) -> Result<()> {
    table::print(&PEOPLE, rows, out)?;
    writeln!(
        out,
        "\n'resources/delete' is no method of MCP: an admin may send it all the same."
    )?;
    if let Some(denial) = denials.first() {
        writeln!(out, "\nThe first denial, {denial}")?;
    }
    let (last, answers) = (rows.len(), rows.len() * PEOPLE.len());
    writeln!(
        out,
        "\n{answers} requests, {answers} answers, each to the one who asked, although"
    )?;
    writeln!(
        out,
        "all three used the ids 1 to {last} at the same moments."
    )?;
    writeln!(out, "{NEXT}")?;
    Ok(())
}

/// The cell for one response, or an error when this person should not have got it.
fn judge(step: &Step, name: &str, answer: &Value) -> Result<table::Cell> {
    let expected = match (step.expect)(name) {
        None => is_denial(answer),
        Some(text) => !is_denial(answer) && answer.to_string().contains(text),
    };
    if !expected {
        return Err(format!("{name} asked for {} and got {answer}", step.method).into());
    }
    if is_denial(answer) {
        return Ok(table::Cell::Denied(format!(
            "denied ({})",
            answer["error"]["code"]
        )));
    }
    let told = answer.get("result").unwrap_or(&answer["error"]);
    Ok(table::Cell::Answered((step.show)(told)))
}

fn is_denial(answer: &Value) -> bool {
    let message = answer["error"]["message"].as_str();
    message.is_some_and(|message| message.starts_with("Method not allowed: Access denied"))
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or("?").to_owned()
}

fn count(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

const NEXT: &str = "
What to do next
  cargo install --path .                           puts mcp-remote on your PATH
  export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
  mcp-remote generate-token --user you --roles user --expires-in 7d --quiet
  mcp-remote server tcp --host 127.0.0.1 --port 8080 \\
      --permissions-config permissions.example.json -- npx -y @modelcontextprotocol/server-filesystem ~/Documents
  examples/hosts/                                  entries for Claude, VS Code and Cursor
  examples/systemd/mcp-remote.service              the same as a systemd service
  docs/                                            everything else";
