#!/usr/bin/env bash
# packaging/deb.sh BINARY FOLDER: makes mcp-remote_VERSION_ARCH.deb in FOLDER from a binary that was built for this machine.
set -euo pipefail
source "$(dirname "$0")/common.sh"

binary=$1 folder=$2
architecture=$(dpkg --print-architecture)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
stage "$binary" "$stage"
# The service is off until an MCP server follows the `--` of its ExecStart.
install -D -m 644 "$root/examples/systemd/mcp-remote.service" "$stage/usr/lib/systemd/system/mcp-remote.service"
sed -i 's#/usr/local/bin/mcp-remote #/usr/bin/mcp-remote #' "$stage/usr/lib/systemd/system/mcp-remote.service"
mkdir "$stage/DEBIAN"
cat >"$stage/DEBIAN/control" <<CONTROL
Package: mcp-remote
Version: $version
Architecture: $architecture
Maintainer: the authors of mcp-remote <mcp-remote@users.noreply.github.com>
Installed-Size: $(du -sk "$stage/usr" | cut -f1)
Depends: libc6 (>= 2.34), libgcc-s1
Recommends: ca-certificates
Section: net
Priority: optional
Description: $summary
 One program for both ends: 'mcp-remote server' starts an MCP server and offers it
 to many peers, 'mcp-remote client' brings it to an MCP host as a stdio server.
CONTROL
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
mkdir -p "$folder"
dpkg-deb --root-owner-group --build "$stage" "$folder/mcp-remote_${version}_$architecture.deb" >&2
