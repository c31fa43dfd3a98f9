"""Group `tolerance`: servers that answer oddly, with a real host alone and through the proxy, side by side.

What a host forgives a server that it starts itself, it must not miss through the proxy: an answer is better than an
error, and an error than nothing.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import HERE, Json, Part, Remote, Server, direct, drive, new_tag, stage
from odd_server import KINDS
from table import PY_LEGACY, PY_OLD, TS1

OWN_ERROR = "the server's own error"
# Alone, sharing a process, with a process of its own.
ROUTES: dict[str, tuple[str, ...]] = {"tcp": (), "--isolate": ("--isolate",)}


def odd(*arguments: str) -> Server:
    command = (sys.executable, str(HERE / "odd_server.py"), *arguments)
    return Server("odd", command, ("legacy",), many=None)


def through(binary: Path, server: Server, part: Part, extra: tuple[str, ...]) -> Json:
    """What the client sees through the proxy, in the form of a direct run."""
    with stage() as here:
        remote = Remote(binary, "tcp", server, here, extra)
        tag = new_tag(part)
        verdict = drive(here, part, tag, remote.launch(tag, part.role), {})
        wrong = list(remote.stop())
        return {"ok": verdict.ok and not wrong, "seen": verdict.plain(here.files), "wrong": wrong}


def rank(outcome: Json) -> int:
    """The better, the more. Of errors the server's own says most."""
    if outcome == "ok":
        return 3
    if isinstance(outcome, dict):
        return 2 if outcome.get("message") == OWN_ERROR else 1
    return 0


def short(outcome: Json) -> str:
    return f"error: {outcome['message'][:40]}" if isinstance(outcome, dict) else str(outcome)


def outcomes(run: Json) -> Json:
    """By kind; a client that did not get that far has nothing of any."""
    return run["seen"].get("odd", {}) if run["ok"] else {}


def tolerance_rows(binary: Path) -> Iterator[tuple[str, list[str]]]:
    """Titles, and what is wrong."""
    steps = ({"do": "odd", "tools": list(KINDS), "within": 3, "late": True},)
    strict = ({"do": "odd", "tools": ["plain"], "within": 3},)
    rows = [(client, odd(), steps) for client in (PY_LEGACY, TS1)]
    # It is the revision that this host asks for.
    rows.append((PY_OLD, odd("2024-11-05"), strict))
    for client, server, steps in rows:
        part = Part(client, steps)
        with ThreadPoolExecutor(3) as pool:
            alone = pool.submit(direct, server, part)
            routes = {name: pool.submit(through, binary, server, part, extra) for name, extra in ROUTES.items()}
            runs = {"alone": alone.result()} | {name: run.result() for name, run in routes.items()}
        yield from compared(f"{client.name}, {' '.join(server.command[2:]) or 'any revision'}", runs)


def compared(title: str, runs: dict[str, Json]) -> Iterator[tuple[str, list[str]]]:
    """A row for each kind of answer."""
    if not runs["alone"]["ok"]:
        yield title, [f"the direct run failed: {runs['alone']['seen']}"]
        return
    seen = {name: outcomes(run) for name, run in runs.items()}
    for kind, alone in seen["alone"].items():
        cells = [f"{name}: {short(found.get(kind, runs[name]['seen']))}" for name, found in seen.items()]
        worse = [
            f"{name} is worse than alone: {found.get(kind, runs[name]['seen'])}"
            for name, found in seen.items()
            if rank(found.get(kind)) < rank(alone)
        ]
        yield f"{title}, {kind}  [{' | '.join(cells)}]", worse
