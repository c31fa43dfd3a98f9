#!/usr/bin/env bash
# Compiles the program for macOS (types only) and for Windows, and runs the Windows program under Wine: its client and its
# server, with a process behind it that must end with it. rustup has only this machine's standard library, so the others are
# built from source, by the compiler whose source Debian has. Nothing is linked for macOS, so no SDK is needed: what C there
# is, in the crypto library, is not compiled. Needs Debian with rustc-web, cargo-web, rust-web-src, gcc-mingw-w64-x86-64 and
# wine64, and installs them where it can.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The security updates of Debian have a newer compiler than its release.
oldest=$(sed --quiet 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
missing=()
for package in rustc-web cargo-web rust-web-src gcc-mingw-w64-x86-64 wine64; do
    version=$(dpkg-query --show --showformat '${Version}' "$package" 2>/dev/null) || version=
    case $package in
        rust* | cargo*) dpkg --compare-versions "$version" ge "$oldest" || missing+=("$package") ;;
        *) [[ $version ]] || missing+=("$package") ;;
    esac
done
if ((${#missing[@]})); then
    apt-get update
    apt-get install -y --no-install-recommends "${missing[@]}"
fi

folder=$(mktemp -d)
trap 'jobs -p | xargs --no-run-if-empty kill 2>/dev/null; WINEPREFIX=$folder/wine /usr/lib/wine/wineserver64 -k 2>/dev/null; rm -rf "$folder"' EXIT

export CARGO_TARGET_DIR=$PWD/target/systems CARGO_PROFILE_DEV_DEBUG=0
debian_cargo() {
    RUSTFLAGS='-D warnings' PATH=/usr/bin:$PATH RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
        /usr/bin/cargo "$@" --locked -Z build-std=std,panic_unwind
}

printf '#!/bin/sh\n' >"$folder/no-compiler"
chmod +x "$folder/no-compiler"
CC_x86_64_apple_darwin=$folder/no-compiler AR_x86_64_apple_darwin=$folder/no-compiler \
    debian_cargo check --target x86_64-apple-darwin
echo "the types fit on macOS"

windows=x86_64-pc-windows-gnu
debian_cargo build --bins --target "$windows"
program=$CARGO_TARGET_DIR/$windows/debug/mcp-remote.exe

# Debian's Wine lacks this library of Windows 10, of which Rust needs one function.
x86_64-w64-mingw32-gcc -shared -o "$(dirname "$program")/bcryptprimitives.dll" tests/systems/bcryptprimitives.c -ladvapi32
export WINEPREFIX=$folder/wine WINEDEBUG=-all
windows() {
    timeout --kill-after=5 120 /usr/lib/wine/wine64 "$program" "$@"
}
windows --version | grep --quiet "$windows"

cargo build --locked --bins --examples --target-dir target
host=(--host 127.0.0.1)

# The port of a server that was started with --port 0, once its log $1 says it.
port() {
    for _ in $(seq 300); do
        sed --quiet 's/.*listening on port \([0-9]*\)\r*$/\1/p' "$1" | grep . && return
        sleep 0.1
    done
    echo "no server: $(cat "$1")" >&2
    return 1
}

# Asks for the tools, as a host does, and fails where there is no answer.
ask() {
    {
        echo '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"host","version":"1"}}}'
        echo '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        echo '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
    } | "$@" | grep --quiet '"id":2,"result":{"tools":\[.*write_note'
}

secret=$(windows generate-secret | tr -d '\r' | tail -n 1)
export MCP_REMOTE_JWT_SECRET=$secret
MCP_REMOTE_JWT_TOKEN=$(windows generate-token --user alice --roles user --quiet | tr -d '\r')
export MCP_REMOTE_JWT_TOKEN
for transport in tcp ws; do
    target/debug/mcp-remote server "$transport" "${host[@]}" --port 0 -- target/debug/examples/notes_server >"$folder/near" 2>&1 &
    near=$(port "$folder/near")
    ask windows client "$transport" "${host[@]}" --port "$near"
    echo "client $transport on Windows: ok"
    # Its MCP server is a client of the other one.
    /usr/lib/wine/wine64 "$program" server "$transport" "${host[@]}" --port 0 -- "Z:${program//\//\\}" client "$transport" \
        "${host[@]}" --port "$near" --jwt-token "$MCP_REMOTE_JWT_TOKEN" >"$folder/far" 2>&1 &
    server=$!
    ask target/debug/mcp-remote client "$transport" "${host[@]}" --port "$(port "$folder/far")"
    kill -KILL "$server"
    for _ in $(seq 100); do
        pgrep --full 'mcp-remote.exe.* client' >/dev/null || continue 2
        sleep 0.1
    done
    echo "the MCP server has outlived a Windows server that was killed" >&2
    exit 1
done
echo "the server on Windows, and its end: ok"
