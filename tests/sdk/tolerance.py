"""Group `tolerance`: servers that behave oddly, with a real host alone and through the proxy, side by side.

What a host forgives a server that it starts itself, it must not miss through the proxy: an answer is better than an
error, and an error than nothing. Each scene has the number of what it shows, see SHOWN.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness import CLIENT_TIMEOUT, HERE, Client, Json, Part, Remote, Server, Stage, drive, fill, new_tag, stage
from odd_server import KINDS
from table import PY_LEGACY, PY_OLD, TS1

OWN_ERROR = "the server's own error"
HOSTS = (PY_LEGACY, TS1)
MIB = 1 << 20

# What is shown, by number, and by which test where no host and no stub take part in it.
SHOWN: dict[int, tuple[str, str]] = {
    1: ("a server that refuses versions it does not know", ""),
    2: ("ids that come back retyped", ""),
    3: ("null for absent", ""),
    4: ("much on stderr", "integration unread::"),
    5: ("a server that closes its stdin and lives on", "integration stuck::a_process_that_"),
    6: ("a name whose first address is dead", "src/transport/tcp/race.rs, integration client::a_dead_first_address_…"),
    7: ("a message over the limit", "integration oversize::"),
    8: ("arguments that are odd", "integration tolerance::, gate::, hostile"),
    9: ("a first process that never answers", "integration stuck::"),
    10: ("a host that says all and ends its side", "integration tcp::"),
    11: ("a plain GET on the WebSocket port", "integration probes::"),
    12: ("answers after a cancellation", "integration tolerance::what_comes_too_late_reaches_nobody"),
    13: ("list_changed storms", "integration changes::"),
    14: ("a closed terminal", "integration terminal::"),
    15: ("junk on the answer's line", "integration tolerance::"),
    16: ("files with a byte order mark", "integration files::"),
    17: ("tokens of the wild", "integration tokens::, auth::"),
    18: ("--host [::1]", "src/utils/host.rs, integration client::"),
    19: ("a misspelt key in a policy", "integration typos::"),
    20: ("a slow start", "integration stuck::a_slow_start_is_waited_for"),
}
RETYPED = ("id as text", "id with .0", "id with .00", "error, id as text")
NULLS = ("result, error null", "error, result null", "_meta null", "error with data null")


@dataclass(frozen=True)
class Scene:
    """A stub with these habits, what a host does with it, and the flags of the server between them."""

    number: int
    title: str
    habits: tuple[str, ...]
    step: Json
    hosts: tuple[Client, ...] = HOSTS
    flags: tuple[str, ...] = ()
    # Later hosts of the same stub, which its files outlive.
    again: int = 0
    patience: float = CLIENT_TIMEOUT
    # The gate refuses it by design: an error at once is enough.
    gated: bool = False


def script(*calls: tuple[str, str, float, Json]) -> Json:
    return {"do": "script", "calls": [{"as": name, "tool": tool, "within": s, "args": args} for name, tool, s, args in calls]}


def nested(depth: int) -> Json:
    return [nested(depth - 1)] if depth else []


# It ends the Python host, so that it is asked for apart.
FATAL = "not UTF-8"
ODD = {"do": "odd", "tools": [kind for kind in KINDS if kind != FATAL], "within": 3, "late": True}
PLAIN = script(("a call", "plain", 6, {}))
SCENES = (
    # By kind of answer.
    Scene(0, "any revision", (), ODD),
    Scene(15, "apart", (), script((FATAL, FATAL, 3, {}))),
    # It is the revision that this host asks for.
    Scene(1, "only its own revision", ("2024-11-05",), {"do": "odd", "tools": ["plain"], "within": 3}, (PY_OLD,)),
    Scene(4, "1 MiB on stderr", (), script(("a call", "chatty", 6, {}), ("the next", "plain", 6, {}))),
    Scene(5, "stdin closed", (), script(("a call", "deaf", 6, {}), ("the next", "plain", 8, {}))),
    Scene(7, "a server for 10 MiB", ("small",), script(("8 MiB", "plain", 20, {"x": "x" * 8 * MIB}), ("12 MiB", "plain", 20, {"x": "x" * 12 * MIB}), ("the next", "plain", 8, {}))),
    Scene(7, "a higher limit", (), script(("12 MiB", "plain", 20, {"x": "x" * 12 * MIB})), flags=("--max-message-size", "16MiB")),
    Scene(8, "odd arguments", (), script(("100 deep", "plain", 6, {"x": nested(100)}), ("2^70 and 1e300", "plain", 6, {"x": [2**70, 1e300]}), ("U+2028, U+0000", "plain", 6, {"x": "\u2028\u0000"}))),
    Scene(8, "what Python's host does not write", (), script(("half a character", "plain", 6, {"x": "\ud83d"})), (TS1,)),
    Scene(8, "arguments too deep for the gate", (), script(("200 deep", "plain", 6, {"x": nested(200)}), ("the next", "plain", 6, {})), gated=True),
    Scene(9, "silent once", ("silent-once={root}/mark",), PLAIN, flags=("--handshake-timeout", "1s"), again=1, patience=10),
    Scene(13, "a storm", ("stormy",), {"do": "storm", "seconds": 2}),
    Scene(20, "a start of 4 s", ("slow-start=4",), PLAIN, flags=("--handshake-timeout", "1s")),
)
# Alone, sharing a process, with a process of its own.
ROUTES: dict[str, tuple[str, tuple[str, ...]]] = {
    "tcp": ("tcp", ()),
    "ws": ("ws", ()),
    "--isolate": ("tcp", ("--isolate",)),
}


def odd(*habits: str) -> Server:
    command = (sys.executable, str(HERE / "odd_server.py"), *habits)
    return Server("odd", command, ("legacy",), many=None)


def number_of(kind: str) -> int:
    """What a kind of answer shows."""
    if kind == "after a late answer":
        return 12
    return 2 if kind in RETYPED else 3 if kind in NULLS else 15


def outcome_of(scene: Scene, here: Stage, part: Part, launch: Json) -> Json:
    """By what was called; a host that does not even connect has one outcome for all."""
    tag = new_tag(part)
    verdict = drive(here, part, tag, launch(tag), {}, scene.patience)
    if verdict.ok:
        seen = verdict.plain(here.files)[scene.step["do"]]
        return seen if isinstance(seen, dict) else {"told": seen}
    ended = "no end within" not in verdict.error
    return {"connect": {"message": verdict.error} if ended else "no answer"}


def alone(scene: Scene, part: Part) -> list[Json]:
    with stage() as here:
        command, *args = fill(odd(*scene.habits).command, {"{root}": here.files})
        launch = {"command": command, "args": args, "env": here.env()}
        return [outcome_of(scene, here, part, lambda _tag: launch) for _ in range(scene.again + 1)]


def through(scene: Scene, part: Part, binary: Path, route: tuple[str, tuple[str, ...]]) -> list[Json]:
    transport, extra = route
    with stage() as here:
        remote = Remote(binary, transport, odd(*scene.habits), here, (*scene.flags, *extra))
        seen = [outcome_of(scene, here, part, lambda tag: remote.launch(tag, part.role)) for _ in range(scene.again + 1)]
        wrong = list(remote.stop())
        return [{"the server": str(wrong)}] if wrong else seen


def rank(outcome: Json) -> int:
    """The better, the more. Of errors the server's own says most."""
    if outcome == "ok":
        return 3
    if isinstance(outcome, int):
        # Once a second at most, and the last one.
        return 3 if 1 <= outcome <= 4 else 1
    if isinstance(outcome, dict):
        return 2 if outcome.get("message") == OWN_ERROR else 1
    return 0


def short(outcome: Json) -> str:
    return f"error: {outcome['message'][:40]}" if isinstance(outcome, dict) else str(outcome)


def is_worse(scene: Scene, found: Json, directly: Json) -> bool:
    least = min(rank(directly), 1) if scene.gated else rank(directly)
    return rank(found) < least


def compared(scene: Scene, host: Client, runs: dict[str, list[Json]]) -> Iterator[tuple[int, str, list[str]]]:
    """A row for each call of each host: its number, its title, what is wrong."""
    for turn, directly in enumerate(runs["alone"]):
        seen = {name: found[min(turn, len(found) - 1)] for name, found in runs.items()}
        calls = dict.fromkeys(call for found in seen.values() for call in found if call != "connect") or {"connect": None}
        for call in calls:
            # Who has no outcome of this call has not come so far.
            cells = {name: found.get(call, found.get("connect", "no answer")) for name, found in seen.items()}
            worse = [f"{name} is worse than alone: {cell}" for name, cell in cells.items() if is_worse(scene, cell, cells["alone"])]
            text = " | ".join(f"{name}: {short(cell)}" for name, cell in cells.items())
            host_name = f"{host.name}, host {turn + 1}" if scene.again else host.name
            yield scene.number or number_of(call), f"{host_name}, {scene.title}, {call}  [{text}]", worse


def piped(command: Json, env: Json) -> Json:
    """A host that says all at once and ends its side, as `printf … | command` does; what it gets for its calls."""
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "pipe", "version": "1"}}
    lines = [{"id": 0, "method": "initialize", "params": params}, {"method": "notifications/initialized"}]
    lines += [{"id": n, "method": "tools/call", "params": {"name": name}} for n, name in enumerate(("plain", "slow", "slow"), 1)]
    said = "".join(json.dumps({"jsonrpc": "2.0"} | line) + "\n" for line in lines)
    done = subprocess.run(command, input=said.encode(), env=env, capture_output=True, timeout=30, check=False)
    answers = {answer.get("id"): answer for answer in map(json.loads, done.stdout.splitlines())}
    return {f"call {n}": "ok" if "result" in answers.get(n, {}) else str(answers.get(n, "no answer")) for n in range(1, 4)}


def pipe_rows(binary: Path) -> Iterator[tuple[int, str, list[str]]]:
    with stage() as here:
        runs = {"alone": piped(list(odd().command), here.env())}
    for name, (transport, extra) in ROUTES.items():
        with stage() as here:
            remote = Remote(binary, transport, odd(), here, extra)
            launch = remote.launch("pipe", "user")
            runs[name] = piped([launch["command"], *launch["args"]], launch["env"])
            assert not list(remote.stop())
    for call, directly in runs["alone"].items():
        cells = {name: run[call] for name, run in runs.items()}
        worse = [f"{name} is worse than alone: {cell}" for name, cell in cells.items() if rank(cell) < rank(directly)]
        text = " | ".join(f"{name}: {cell}" for name, cell in cells.items())
        yield 10, f"a pipe, all said at once, {call}  [{text}]", worse


def all_rows(binary: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Most of the time they wait, so that several scenes go on at a time."""

    def played(scene: Scene, host: Client) -> dict[str, list[Json]]:
        part = Part(host, (scene.step,))
        return {"alone": alone(scene, part)} | {name: through(scene, part, binary, route) for name, route in ROUTES.items()}

    with ThreadPoolExecutor(3) as pool:
        jobs = [(scene, host, pool.submit(played, scene, host)) for scene in SCENES for host in scene.hosts]
        for scene, host, job in jobs:
            yield from compared(scene, host, job.result())
    yield from pipe_rows(binary)


def tolerance_rows(binary: Path) -> Iterator[tuple[str, list[str]]]:
    """Titles, and what is wrong; at the end how many rows there are for what is shown."""
    counts = dict.fromkeys(SHOWN, 0)
    for number, title, wrong in all_rows(binary):
        counts[number] += 1
        yield f"{number:2} {title}", wrong
    print("number  rows  what is shown; tests without a host")
    for number, (what, tests) in SHOWN.items():
        print(f"{number:6}  {counts[number]:4}  {what}; {tests}", flush=True)
