//! The program's output for shells and for `man`, read by real ones. `.ci/run` installs them.

use crate::process::{Outcome, binary, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn outcome(command: &mut Command) -> String {
    let Outcome {
        code,
        stdout,
        stderr,
        ..
    } = run(command, b"");
    assert_eq!(code, Some(0), "{command:?}: {stdout}{stderr}");
    assert_eq!(stderr, "", "{command:?}");
    stdout
}

/// The script for this shell, in a file.
fn script(folder: &Path, shell: &str, name: &str) -> PathBuf {
    let script = outcome(binary().args(["completions", shell]));
    assert!(script.contains("inspect-token"), "{script}");
    assert!(
        !script.contains("reap"),
        "commands of its own are completed"
    );
    let path = folder.join(name);
    std::fs::write(&path, script).unwrap();
    path
}

#[test]
fn bash_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = script(folder.path(), "bash", "mcp-remote");
    for (typed, expected) in [
        ("mcp-remote inspect-t", "inspect-token"),
        ("mcp-remote server --jwt-secret-f", "--jwt-secret-file"),
        ("mcp-remote doctor cl", "client"),
    ] {
        let words: Vec<&str> = typed.split(' ').collect();
        let ask = format!(
            "source {}; COMP_WORDS=({typed}); COMP_CWORD={}; _mcp__remote mcp-remote {} {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let replies = outcome(Command::new("bash").args(["--norc", "-c", &ask]));
        assert_eq!(replies.trim(), expected, "{typed}");
    }
}

/// A real zsh, on a terminal of its own, in which the Tab key is pressed.
#[test]
fn zsh_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), "zsh", "_mcp-remote");
    for (typed, expected) in [
        ("mcp-remote inspect-t", "inspect-token"),
        ("mcp-remote server --jwt-secret-f", "--jwt-secret-file"),
    ] {
        let ask = format!(
            r#"zmodload zsh/zpty
zpty shell "HOME={home} TERM=dumb zsh -f -i"
zpty -w shell 'PS1=; fpath=({home} $fpath); autoload -Uz compinit; compinit -D -u; echo "rea""dy"'
zpty -r shell seen '*ready*'
zpty -w -n shell $'{typed}\t'
zpty -r shell seen '*{expected}*' && print -r -- "$seen"
zpty -d shell"#,
            home = folder.path().display(),
        );
        let seen = outcome(Command::new("timeout").args(["20", "zsh", "-f", "-c", &ask]));
        assert!(seen.contains(expected), "{typed}: {seen}");
    }
}

#[test]
fn fish_completes_commands_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let file = script(folder.path(), "fish", "mcp-remote.fish");
    for (typed, expected) in [
        ("mcp-remote inspect-t", "inspect-token\t"),
        ("mcp-remote server --jwt-secret-f", "--jwt-secret-file\t"),
    ] {
        let ask = format!("source {}; complete -C '{typed}'", file.display());
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", &ask]);
        let replies = outcome(fish.env("HOME", folder.path()));
        assert!(replies.starts_with(expected), "{typed}: {replies}");
    }
}

#[test]
fn scripts_for_the_other_shells_have_all_commands() {
    for (shell, says) in [
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion:arg-completer"),
    ] {
        let script = outcome(binary().args(["completions", shell]));
        assert!(script.contains(says), "{shell}: {script}");
        for command in ["server", "client", "doctor", "check", "--jwt-secret-file"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
}

fn read(man: &mut Command) -> String {
    man.env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8");
    outcome(man.env("MANPAGER", "cat"))
}

#[test]
fn man_reads_every_page() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    outcome(binary().args(["man", "--output"]).arg(&pages));
    let names = std::fs::read_dir(&pages).unwrap();
    let mut names: Vec<String> = names
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands = [
        "check",
        "client",
        "completions",
        "doctor-client",
        "doctor-server",
        "doctor",
        "generate-permissions",
        "generate-secret",
        "generate-token",
        "inspect-token",
        "man",
        "server",
    ];
    let mut expected: Vec<String> = commands
        .iter()
        .map(|command| format!("mcp-remote-{command}.1"))
        .collect();
    expected.push("mcp-remote.1".to_owned());
    expected.sort();
    assert_eq!(names, expected);
    for name in &names {
        let text = read(
            Command::new("man")
                .args(["--warnings", "-l"])
                .arg(pages.join(name)),
        );
        assert!(text.contains("SYNOPSIS"), "{name}: {text}");
    }
    // By name, as a user looks one up.
    let text = read(
        Command::new("man")
            .arg("-M")
            .args([folder.path().as_os_str(), "mcp-remote-server".as_ref()]),
    );
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("--permissions-config <FILE>"), "{text}");
    assert!(words.contains("MCP_REMOTE_PERMISSIONS_CONFIG"), "{text}");
    // Examples are unchanged.
    assert!(text.contains("permissions.json -- \\\n"), "{text}");
    assert!(
        words.contains("[OPTIONS] --port <PORT> <TRANSPORT> -- <CMD>..."),
        "{text}"
    );
    for nested in [&["doctor", "client"][..], &["doctor-client"]] {
        let page = outcome(binary().arg("man").args(nested));
        let file = std::fs::read_to_string(pages.join("mcp-remote-doctor-client.1")).unwrap();
        assert_eq!(page, file);
    }
    // The same on stdout.
    let page = outcome(binary().args(["man", "server"]));
    let file = std::fs::read_to_string(pages.join("mcp-remote-server.1")).unwrap();
    assert_eq!(page, file);
}

#[test]
fn a_page_that_is_not_there_is_named_with_the_one_that_was_meant() {
    let outcome = run(binary().args(["man", "sever"]), b"");
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("was 'server' meant?"),
        "{}",
        outcome.stderr
    );
}

/// `build.rs` as cargo runs it: in a repository, in a package without one, and in neither.
#[test]
fn the_version_says_what_it_was_built_from() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let script = folder.join("script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile.args(["--edition", "2024", "-o"]).arg(&script);
    outcome(compile.arg(source));
    let built_from = |package: &Path, profile: &str| {
        let mut command = Command::new(&script);
        command.current_dir(package).env("PROFILE", profile);
        // A repository above the folder does not belong to this package.
        let output = outcome(command.env("TARGET", "z80-cpm"));
        let lines = output.lines();
        let mut lines = lines.filter_map(|line| line.strip_prefix("cargo:rustc-env=BUILT_FROM="));
        lines.next().unwrap().to_owned()
    };
    let git = |package: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .current_dir(package)
            .args(["-c", "user.name=x", "-c", "user.email=x@example.com"]);
        outcome(command.args(arguments)).trim().to_owned()
    };
    let nothing = folder.join("nothing");
    std::fs::create_dir(&nothing).unwrap();
    assert_eq!(built_from(&nothing, "release"), "z80-cpm");
    let package = folder.join("package");
    std::fs::create_dir_all(package.join("src")).unwrap();
    std::fs::write(package.join("src/x"), "x").unwrap();
    git(&package, &["init", "--quiet"]);
    git(&package, &["add", "."]);
    git(&package, &["commit", "--quiet", "-m", "x"]);
    let commit = git(&package, &["rev-parse", "--short=12", "HEAD"]);
    assert_eq!(
        built_from(&package, "release"),
        format!("{commit}, z80-cpm")
    );
    std::fs::write(package.join("src/x"), "y").unwrap();
    assert_eq!(
        built_from(&package, "release"),
        format!("{commit}+, z80-cpm")
    );
    assert_eq!(built_from(&package, "debug"), "development build, z80-cpm");
    // Unpacked from crates.io, inside another repository.
    let unpacked = package.join("vendor");
    std::fs::create_dir(&unpacked).unwrap();
    let info =
        r#"{"git": {"sha1": "0123456789abcdef0123456789abcdef01234567"}, "path_in_vcs": ""}"#;
    std::fs::write(unpacked.join(".cargo_vcs_info.json"), info).unwrap();
    assert_eq!(built_from(&unpacked, "release"), "0123456789ab, z80-cpm");
}
