#!/usr/bin/env bash
# packaging/npm.sh BINARY FOLDER: packs two tarballs into FOLDER, 'mcp-remote-proxy' and the one with the binary of this platform.
set -euo pipefail
source "$(dirname "$0")/common.sh"

binary=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd)
platform=$(node -p '`${process.platform}-${process.arch}`')
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
cp -r "$root/packaging/npm" "$stage/wrapper"
sed -i "s/VERSION/$version/g" "$stage/wrapper/package.json"
install -D -m 755 "$binary" "$stage/platform/bin/mcp-remote"
cat >"$stage/platform/package.json" <<JSON
{
  "name": "mcp-remote-proxy-$platform",
  "version": "$version",
  "description": "The binary of mcp-remote-proxy for $platform",
  "license": "MIT",
  "os": ["${platform%-*}"],
  "cpu": ["${platform##*-}"],
  "files": ["bin"]
}
JSON
for package in wrapper platform; do
    install -m 644 "$root/LICENSE" "$stage/$package"
    (cd "$stage/$package" && npm pack --silent --pack-destination "$folder" >&2)
done
