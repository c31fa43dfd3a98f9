# An image with mcp-remote, and nothing that runs as root. The MCP server has to be in the image, too: build yours
# on this one, on a base that has what your server needs:
#
#   FROM node:22-slim
#   COPY --from=mcp-remote /usr/local/bin/mcp-remote /usr/local/bin/
#   RUN npm install --global @modelcontextprotocol/server-filesystem && useradd --system mcp
#   USER mcp
#   ENTRYPOINT ["mcp-remote", "server", "http", "--port", "8080", "--", "mcp-server-filesystem", "/data"]
#
# With a secret (MCP_REMOTE_JWT_SECRET_FILE) it listens on all interfaces; without one only inside the container.
# docs/install.md shows how to build and run it.

FROM rust:1.89-slim-bookworm AS build
WORKDIR /source
COPY . .
# gcc, which the crypto library needs, is part of the image.
RUN cargo build --locked --release --bins

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/mcp-remote /usr/local/bin/mcp-remote
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/mcp-remote"]
