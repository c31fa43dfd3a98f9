#!/usr/bin/env bash
# Runs the units of examples/systemd under a real systemd, in namespaces of its own: nothing of this machine is changed.
# Needs root, systemd, util-linux and node, and what `cargo build --bins --examples` has built.
set -euo pipefail

cd "$(dirname "$0")/../.."
binaries=$PWD/target/debug
[ "$(id -u)" = 0 ] || { echo 'tests/systemd/run.sh: only root may make the namespaces' >&2; exit 1; }
temporary=$(mktemp -d)
unshare --mount --pid --fork --mount-proc --cgroup --uts --ipc --net --kill-child \
    tests/systemd/boot.sh "$PWD" "$binaries" >"$temporary/log" 2>&1 &
outside=$!
trap 'kill -KILL "$outside" 2>/dev/null || true; wait "$outside" 2>/dev/null || true; rm -rf "$temporary"' EXIT

# The first process of the namespaces, once systemd serves there.
first=
for ((tries = 0; tries < 600; tries++)); do
    read -r first _ <"/proc/$outside/task/$outside/children" || true
    [ -n "$first" ] && nsenter --target "$first" --mount --pid systemctl is-active --quiet multi-user.target 2>/dev/null && break
    kill -0 "$outside" 2>/dev/null || { cat "$temporary/log" >&2; exit 1; }
    sleep 0.05
done
nsenter --target "$first" --mount --pid --cgroup --uts --ipc --net bash /run/repository/tests/systemd/checks.sh ||
    { cat "$temporary/log" >&2; exit 1; }
