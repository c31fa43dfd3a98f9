"""Group `policies`: `generate-permissions` asks a real server, and then each role may do exactly what its table says.

The role's peer speaks the wire itself and asks for everything that the server offers, at once. A denial is answered by
the proxy without delay, so what has no answer after a while is a tool at work, and was not denied.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from harness import Failed, Json, Remote, Server, fill, stage

ROLES = ("admin", "user", "readonly")
USES = (("tools", "name", "tools/call"), ("prompts", "name", "prompts/get"), ("resources", "uri", "resources/read"))
DENIED = "Method not allowed: Access denied"
# Seconds without an answer after which nothing more is waited for.
QUIET = 2.0


def generated(binary: Path, server: Server, root: Path, files: str) -> Json:
    """What the command says, once it has written `permissions.json`."""
    file = root / "permissions.json"
    command = [str(binary), "generate-permissions", "--json", "--output", str(file), "--"]
    command += fill(server.command, {"{root}": files})
    made = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if made.returncode:
        raise Failed(f"generate-permissions: exit code {made.returncode}: {made.stderr.strip()}")
    return json.loads(made.stdout)


def answers(remote: Remote, role: str, calls: list[Json]) -> dict[int, Json]:
    """What a peer with this role is answered, by the place of its call."""
    token = remote.token(role, role)
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": role, "version": "1"}}
    with socket.create_connection(("127.0.0.1", remote.port), timeout=30) as peer:
        lines = peer.makefile("rb")

        def send(message: Json) -> None:
            peer.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

        peer.sendall(token.encode() + b"\n")
        lines.readline()
        send({"id": "hello", "method": "initialize", "params": hello})
        while json.loads(lines.readline()).get("id") != "hello":
            pass
        send({"method": "notifications/initialized"})
        for at, call in enumerate(calls):
            send({"id": at, **call})
        seen: dict[int, Json] = {}
        last = time.monotonic()
        peer.settimeout(QUIET)
        buffer = b""
        while len(seen) < len(calls) and time.monotonic() - last < QUIET:
            try:
                part = peer.recv(1 << 16)
            except TimeoutError:
                break
            if not part:
                raise Failed(f"{role} was closed")
            *whole, buffer = (buffer + part).split(b"\n")
            for message in map(json.loads, whole):
                if "method" not in message and isinstance(message.get("id"), int):
                    seen[message["id"]] = message
                    last = time.monotonic()
        return seen


def policy_row(binary: Path, server: Server) -> Iterator[str]:
    """What is wrong with the policy that is made for this server."""
    with stage() as here:
        report = generated(binary, server, here.root, here.files)
        if not report["tools"]:
            yield "no tools were found"
        entries = [(method, key, entry) for kind, key, method in USES for entry in report[kind]]
        calls = [{"method": method, "params": {key: entry[key], "arguments": {}}} for method, key, entry in entries]
        remote = Remote(binary, "tcp", server, here, policy=here.root / "permissions.json")
        for role in ROLES:
            seen = answers(remote, role, calls)
            for at, (method, key, entry) in enumerate(entries):
                message = seen.get(at, {}).get("error", {}).get("message", "")
                denied, may = message.startswith(DENIED), role in entry["roles"]
                if denied == may:
                    yield f"{role}, {method} {entry[key]}: the table says {may}, the answer is {seen.get(at)}"
        yield from remote.stop()
