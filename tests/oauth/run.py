#!/usr/bin/env python3
"""`mcp-remote server http` as a resource server of a real OAuth authorization server, for the OAuth clients of the
official SDKs: 401, metadata, registration, consent, token, calls, and a further scope in the middle of a session.

Everything speaks https with a certificate of an authority of its own. The authorization server is npm's oidc-provider,
the user's browser is a few lines in each client. Needs Python 3.11, node 20 and npm, what tests/sdk installs, and the
registries on the first run. First: cargo build
"""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))
from harness import REPO, WORK as SDK, fresh, install, run  # noqa: E402

Json = Any
NODE = HERE / ".work"
PYTHON = SDK / "py/bin/python"
PATIENCE = 60.0
USERS = {"ann": ["mcp:read", "mcp:write"], "bob": ["mcp:read"]}
METHODS = ["initialize", "server/discover", "notifications/*", "subscriptions/listen", "tools/*"]
POLICY = {
    "permissions": {
        "mcp:read": {"allowedMethods": METHODS, "allowedTools": ["echo"]},
        "mcp:write": {"allowedMethods": ["tools/*"], "allowedTools": ["touch"]},
    }
}
ECHO = {"name": "echo", "arguments": {"text": "hi", "tag": "t"}}
CALLS = [ECHO, {"name": "touch", "arguments": {"uri": "note://x"}}, {"name": "fail", "arguments": {"tag": "t"}}, ECHO]

def free_port() -> int:
    """A port for a server whose URL has to be known before it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def started(command: list[str], folder: Path, name: str, **more: str) -> Iterator[str]:
    """A program that runs while its first line of output is used."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | more
        )
    try:
        assert process.stdout
        line = process.stdout.readline().strip()
        if not line:
            raise SystemExit(f"{name} did not start:\n{(folder / f'{name}.log').read_text()}")
        yield line
    finally:
        process.terminate()
        process.wait(PATIENCE)


def claims(token: str) -> tuple[Json, Json]:
    """The header and the claims of a token."""
    head, body, _ = token.split(".")
    decoded = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (head, body))
    header, claims = (json.loads(part) for part in decoded)
    return header, claims


def denied(seen: Json, name: str) -> bool:
    return "error" in seen and f"Access denied for tool '{name}'" in seen["message"]


def check(said: Json, client: str, user: str, issuer: str, url: str) -> Iterator[str]:
    """What is wrong with what a client has seen."""
    echo, touch, fail, again = said["seen"]
    if echo != "t: hi" or again != "t: hi":
        yield f"the tool of the first scope answers {echo!r}, then {again!r}"
    # No scope of this server's gives it.
    if not denied(fail, "fail"):
        yield f"the tool that nobody may use answers {fail!r}"
    may = user == "ann"
    if may and touch != "touched note://x" or not may and "error" not in touch:
        yield f"the tool of the second scope answers {touch!r}"
    if said["tools"] != (["echo", "touch"] if may else ["echo"]):
        yield f"it is shown the tools {said['tools']}"
    asked = [set(one["scope"].split()) - {"offline_access"} for one in said["asked"]]
    if asked[:2] != [{"mcp:read"}, {"mcp:read", "mcp:write"}]:
        yield f"it has asked for {asked}"
    if any(one["resource"] != url for one in said["asked"]):
        yield f"it has asked for other resources: {said['asked']}"
    header, body = claims(said["token"])
    algorithm = "RS256" if client == "python" else "ES256"
    if (header["alg"], header["typ"], body["iss"], body["aud"]) != (algorithm, "at+jwt", issuer, url):
        yield f"its token says {header} {body}"
    if set(body["scope"].split()) - {"offline_access"} != set(USERS[user]):
        yield f"its token is for {body['scope']!r}"


def client(command: list[str], folder: Path, mode: str) -> Json:
    """Runs a client to its end."""
    trust = {"NODE_EXTRA_CA_CERTS": str(folder / "ca.pem"), "SSL_CERT_FILE": str(folder / "ca.pem")}
    environment = os.environ | trust | {"MODE": mode}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        return f"exit code {done.returncode}:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout)


def table(folder: Path, binary: Path) -> Iterator[str]:
    """Runs every client as every user; what is wrong."""
    port = free_port()
    url = f"https://localhost:{port}/mcp"
    (folder / "policy.json").write_text(json.dumps(POLICY))
    provider = ["node", str(NODE / "provider.mjs"), str(folder / "key.pem"), str(folder / "cert.pem"), json.dumps(USERS)]
    with started(provider, folder, "provider") as issuer:
        flags = [
            *("--host", "127.0.0.1", "--port", str(port), "--public-url", f"https://localhost:{port}"),
            *("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")),
            *("--authorization-server", issuer, "--jwt-issuer", issuer, "--jwt-audience", url),
            *("--jwks", f"{issuer}/jwks", "--jwks-ca", str(folder / "ca.pem")),
            *("--roles-claim", "scope", "--require-roles", "mcp:read"),
            *("--permissions-config", str(folder / "policy.json"), "--audit-log", str(folder / "audit")),
        ]
        child = [str(PYTHON), str(HERE.parent / "sdk/py_server.py")]
        with started([str(binary), "server", "http", *flags, "--", *child], folder, "server", RUST_LOG="trace"):
            tokens = []
            with ThreadPoolExecutor(3) as pool:
                rows = []
                for name, words in CLIENTS.items():
                    for user in USERS:
                        for mode in ("auto", "legacy"):
                            command = [*words, url, user, json.dumps(CALLS)]
                            rows.append((name, user, mode, pool.submit(client, command, folder, mode)))
                for name, user, mode, job in rows:
                    said = job.result()
                    wrong = [said] if isinstance(said, str) else list(check(said, name, user, issuer, url))
                    print(f"{'FAILED' if wrong else 'ok':6} {name} {mode} as {user}", flush=True)
                    yield from (f"{name} {mode} as {user}: {one}" for one in wrong)
                    if not isinstance(said, str):
                        tokens.append(said["token"])
    written = (folder / "server.log").read_text() + (folder / "audit").read_text()
    for token in tokens:
        if any(part in written for part in token.split(".")[1:]):
            yield "a token stands in the log"
    events = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
    for user in USERS:
        own = [event for event in events if event.get("user") == user]
        if not any(event["event"] == "authenticate" for event in own):
            yield f"{user} has never come in"
        if not any(event["event"] == "block" and event.get("tool") == "touch" for event in own):
            yield f"{user} has not been refused the second scope's tool"


CLIENTS = {
    "typescript-1": ["node", str(NODE / "client_ts.mjs"), "1"],
    "typescript-2": ["node", str(NODE / "client_ts.mjs"), "2"],
    "python": [str(PYTHON), str(HERE / "client_py.py")],
}


def main() -> int:
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))
    install()
    with fresh(NODE, "", HERE / "package-lock.json") as stale:
        if stale:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, NODE)
            run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE)
    # Node looks for packages beside the script.
    for name in ("provider.mjs", "client_ts.mjs"):
        shutil.copy(HERE / name, NODE)
    with tempfile.TemporaryDirectory(prefix="mcp-remote-oauth-") as folder:
        run([str(PYTHON), str(HERE / "certificates.py"), folder])
        wrong = list(table(Path(folder), target / "debug/mcp-remote"))
        for one in wrong:
            print(one)
        if wrong:
            print((Path(folder) / "server.log").read_text()[-3000:])
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
