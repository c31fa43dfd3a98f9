//! Command lines, and what they are parsed into.

use super::*;
use crate::server::Isolation;
use clap::CommandFactory;

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

/// Bug: the last words of `server --help` were on lines of their own.
#[test]
fn examples_are_not_wrapped_at_80_columns() {
    let whole = Cli::visible();
    let all = whole.get_subcommands().chain([&whole]);
    let texts: Vec<String> = all
        .filter_map(|command| Some(command.get_after_help()?.to_string()))
        .collect();
    assert!(texts.len() > 8);
    for line in texts.iter().flat_map(|text| text.lines()) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn what_was_typed_does_not_show_secrets() {
    for typed in [
        "server tcp --port 1 --jwt-secret hunter2 --jwt-secret hunter3 -- x",
        "client tcp --port 1 --jwt-token hunter2",
        "generate-token --jwt-secret hunter2",
        "inspect-token hunter2 --jwt-secret hunter2",
        "inspect-token --jwt-token hunter2 --jwt-secret -hunter",
    ] {
        let typed = ["mcp-remote"].into_iter().chain(typed.split(' '));
        let debug = format!("{:?}", Cli::try_parse_from(typed).unwrap());
        assert!(
            !debug.contains("hunter") && debug.contains("Secret(…)"),
            "{debug}"
        );
    }
}

#[test]
fn isolation_takes_a_value_or_none() {
    for (flag, isolation) in [
        (None, Isolation::Never),
        (Some("--isolate"), Isolation::Always),
        (Some("--isolate=always"), Isolation::Always),
        (Some("--isolate=asking"), Isolation::Asking),
        (Some("--isolate=never"), Isolation::Never),
        (Some("--isolate=false"), Isolation::Never),
    ] {
        let typed = ["mcp-remote", "server", "tcp", "--port", "1"];
        let typed = typed.into_iter().chain(flag).chain(["--", "asking"]);
        let Command::Server(Deferred(args)) = Cli::try_parse_from(typed).unwrap().command else {
            panic!("not a server")
        };
        assert_eq!(args.isolate, isolation, "{flag:?}");
        assert_eq!(args.command, ["asking"]);
    }
    let typed = ["mcp-remote", "server", "tcp", "--port", "1"];
    let wrong = typed.into_iter().chain(["--isolate=sometimes", "--", "x"]);
    assert!(Cli::try_parse_from(wrong).is_err());
}

#[test]
fn behind_the_dashes_all_is_the_childs() {
    let cli = Cli::try_parse_from([
        "mcp-remote",
        "server",
        "tcp",
        "--port",
        "1",
        "--",
        "cmd",
        "--port",
        "2",
        "--jwt-secret",
        "x",
        "--",
        "y",
    ]);
    let Command::Server(Deferred(args)) = cli.unwrap().command else {
        panic!("not a server")
    };
    assert_eq!(args.port, 1);
    assert!(args.secret.jwt_secret.is_empty());
    assert_eq!(
        args.command,
        ["cmd", "--port", "2", "--jwt-secret", "x", "--", "y"]
    );
}
