# Shared by the scripts beside it: what the packages say of themselves, and the files that all of them hold.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -1)
summary=$(sed -n 's/^description = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -1)

# The same sources give the same packages: files are as old as the last commit.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0)
fi
export SOURCE_DATE_EPOCH

# stage BINARY FOLDER: puts everything where it belongs below FOLDER, a root such as / or /usr/local is for others.
stage() {
    local binary=$1 usr=$2/usr
    install -D -m 755 "$binary" "$usr/bin/mcp-remote"
    "$binary" man --output "$usr/share/man/man1"
    gzip -9n "$usr"/share/man/man1/*.1
    mkdir -p "$usr/share/bash-completion/completions" "$usr/share/zsh/vendor-completions" "$usr/share/fish/vendor_completions.d"
    "$binary" completions bash >"$usr/share/bash-completion/completions/mcp-remote"
    "$binary" completions zsh >"$usr/share/zsh/vendor-completions/_mcp-remote"
    "$binary" completions fish >"$usr/share/fish/vendor_completions.d/mcp-remote.fish"
    local doc=$usr/share/doc/mcp-remote
    install -D -m 644 "$root/LICENSE" "$doc/copyright"
    install -m 644 "$root/README.md" "$root/CHANGELOG.md" "$doc"
    install -D -m 644 "$root/permissions.example.json" "$doc/examples/permissions.json"
    install -m 644 "$root"/examples/systemd/* "$doc/examples"
    find "$2" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}
