#!/usr/bin/env bash
# packaging/homebrew.sh URL SHA256: prints a Homebrew formula that builds the sources at URL.
set -euo pipefail
source "$(dirname "$0")/common.sh"

cat <<FORMULA
class McpRemote < Formula
  desc "Put any stdio MCP server on the network, with tokens and a policy"
  homepage "${1%/*}"
  url "$1"
  version "$version"
  sha256 "$2"
  license "MIT"

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args
    generate_completions_from_executable(bin/"mcp-remote", "completions")
    system bin/"mcp-remote", "man", "--output", man1
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/mcp-remote --version")
  end
end
FORMULA
