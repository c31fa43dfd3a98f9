#!/usr/bin/env bash
# Builds the Dockerfile, and runs what it makes: tests/packaging/image.sh BINARY, the binary of a release. Its base images come
# from registries that a test does not ask, so others of the same names take their places: instead of compiling once more the
# first hands out BINARY, and the last has what distroless/cc has of Debian (libc, libgcc, certificates), and no shell.
# Needs root, buildah, apt-get, and what `cargo build --examples` has built.
set -euo pipefail

cd "$(dirname "$0")/../.."
binary=$(realpath "$1")
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
export BUILDAH_ISOLATION=chroot
echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$temporary/policy.json"
buildah() {
    command buildah --root "$temporary/root" --runroot "$temporary/run" --storage-driver vfs "$@"
}

# base NAME FOLDER [CONFIG…]: an image with what is in the folder.
base() {
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$2" / >/dev/null
    [ $# -eq 2 ] || buildah config "${@:3}" "$container"
    buildah commit --quiet --signature-policy "$temporary/policy.json" "$container" "$1" >/dev/null
    buildah rm "$container" >/dev/null
}

# unpack FOLDER PACKAGE…
unpack() {
    local folder=$1 package
    mkdir -p "$folder" "$temporary/debs"
    shift
    (cd "$temporary/debs" && apt-get download -q -o APT::Sandbox::User=root "$@" >/dev/null)
    for package in "$@"; do
        dpkg-deb --extract "$temporary/debs/$package"_*.deb "$folder"
    done
}

unpack "$temporary/last" libc6 libgcc-s1 ca-certificates
unpack "$temporary/first" libc6 dash coreutils libacl1 libattr1 libselinux1 libpcre2-8-0 libgmp10 libssl3
ln -sf dash "$temporary/first/bin/sh"
install -D "$binary" "$temporary/first/opt/mcp-remote"
install -D /dev/stdin "$temporary/first/bin/cargo" <<'CARGO'
#!/bin/sh
# The sources have arrived, and nothing of a build.
[ "$*" = 'build --locked --release --bins' ] && [ -s Cargo.lock ] && [ -s src/main.rs ] && [ ! -e target ] && [ ! -e .git ] || exit 1
mkdir -p target/release && cp /opt/mcp-remote target/release/mcp-remote
CARGO
base rust:1.89-slim-bookworm "$temporary/first" --env PATH=/usr/bin:/bin
base gcr.io/distroless/cc-debian12:nonroot "$temporary/last"
buildah build --quiet --pull-never --signature-policy "$temporary/policy.json" --tag mcp-remote . >/dev/null

expect() {
    [ "$1" = "$2" ] || { printf 'expected %q, not %q\n' "$2" "$1" >&2; exit 1; }
}
config=$(buildah inspect --type image --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.ExposedPorts}}' mcp-remote)
expect "$config" '65532:65532 [/usr/local/bin/mcp-remote] map[8080/tcp:{}]'
container=$(buildah from --pull-never --signature-policy "$temporary/policy.json" mcp-remote)
expect "$(buildah run "$container" -- /usr/local/bin/mcp-remote --version)" "$("$binary" --version)"
# It starts an MCP server there, as nobody in particular.
mkdir "$temporary/data"
buildah copy --quiet "$container" target/debug/examples/notes_server /usr/local/bin/notes >/dev/null
buildah copy --quiet --chown 65532:65532 "$container" "$temporary/data" /data >/dev/null
buildah run "$container" -- /usr/local/bin/mcp-remote generate-permissions -- /usr/local/bin/notes /data/notes 2>/dev/null |
    grep -q '"read_note"'
expect "$(stat -c %u "$(buildah mount "$container")/data/notes")" 65532
printf 'image: all passed\n'
