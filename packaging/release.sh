#!/usr/bin/env bash
# packaging/release.sh FOLDER: builds a release for this machine and puts into FOLDER the binary as an archive, a Debian
# package, npm tarballs, a list of all crates in it (SBOM, CycloneDX) and checksums. With the same toolchain, the same
# sources give the same bytes.
set -euo pipefail
source "$(dirname "$0")/common.sh"

folder=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$root"
target=$(rustc -vV | sed -n 's/^host: //p')
# No path of this machine is in the binary.
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$root=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
# With cargo-auditable the crates are in the binary, too, where 'cargo audit bin' finds them.
build=(cargo)
cargo auditable --version >/dev/null 2>&1 && build+=(auditable)
"${build[@]}" build --locked --release --bins
binary=$root/target/release/mcp-remote
size=$(stat -c %s "$binary")
limit=$((8 << 20))
if ((size > limit)); then
    printf '%s has %d bytes, more than %d\n' "$binary" "$size" "$limit" >&2
    exit 1
fi

name=mcp-remote-$version-$target
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
stage "$binary" "$stage/$name"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$stage" -c "$name" |
    gzip -9n >"$folder/$name.tar.gz"
command -v dpkg-deb >/dev/null && packaging/deb.sh "$binary" "$folder"
command -v npm >/dev/null && packaging/npm.sh "$binary" "$folder"
if cargo cyclonedx --version >/dev/null 2>&1; then
    cargo cyclonedx --format json --override-filename mcp-remote.cdx
    mv mcp-remote.cdx.json "$folder/mcp-remote-$version.cdx.json"
else
    echo 'no SBOM: cargo install cargo-cyclonedx' >&2
fi
(cd "$folder" && sha256sum -- *.tar.gz *.deb *.tgz *.cdx.json 2>/dev/null >SHA256SUMS) || true
cat "$folder/SHA256SUMS"
