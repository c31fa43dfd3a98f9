"""The MCP Inspector (its command line) by URL: it has to show through the proxy what it shows of the server itself."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

from harness import WORK, Failed, Json, Remote, Server, Stage, fill, stage

INSPECTOR = WORK / "inspector/node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"
TIMEOUT = 60


def requests(server: Server) -> Iterator[list[str]]:
    """What it asks for: the lists, and one call."""
    for family in ("tools", "prompts", "resources"):
        yield ["--method", f"{family}/list"]
    pairs = [f"{name}={value}" for name, value in fill(server.many["args"], {"{tag}": "inspector", "{i}": "1"}).items()]
    yield ["--method", "tools/call", "--tool-name", server.many["tool"], "--tool-arg", *pairs]


def show(here: Stage, target: list[str], request: list[str]) -> Json:
    """What the Inspector prints, and how it ends."""
    command = ["node", str(INSPECTOR), "--cli", *target, *request]
    # It keeps a catalogue at home.
    env = here.env(HOME=str(here.root))
    ran = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)
    return {"code": ran.returncode, "shown": ran.stdout}


def inspector_row(binary: Path, server: Server) -> Iterator[str]:
    """What differs between the proxy and the server itself."""
    with stage() as here:
        direct = fill(list(server.command), {"{root}": here.files})
        remote = Remote(binary, "http", server, here)
        try:
            launch = remote.launch("inspector", "user")
            by_url = [launch["url"], "--transport", "http", "--header", f"Authorization: Bearer {launch['token']}"]
            for request in requests(server):
                want, got = (show(here, target, request) for target in (direct, by_url))
                if want != got:
                    yield f"{' '.join(request)}: directly {want}, through the proxy {got}"
                elif request[1] in ("tools/list", "tools/call") and want["code"]:
                    raise Failed(f"{' '.join(request)}: {want}")
        finally:
            yield from remote.stop()
