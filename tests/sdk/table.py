"""The table: which servers, which clients, and what each row makes them do and see.

A row is one `mcp-remote server` and one or more waves of clients; the clients of a wave run at the same time. Steps
are data, understood by plan.py and client_ts.mjs; `{tag}` is the client's own mark, `{tag0}`, `{tag1}` are those of
the row's first and second client. What a client saw is compared with a direct run of the same steps; what only makes
sense behind the proxy is judged by the row's `check`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeVar

from harness import HERE, NODE, PACKAGES, REPO, WORK, Client, Json, Part, Server

T = TypeVar("T")
Check = Callable[[list[Json]], Iterable[str]]
DENIED = {"code": -32601, "message": "Method not allowed: Access denied for method 'tools/call'"}
LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
NOTE = "note://one"
# Seconds from the end of a process to the last answer of what it owed.
KILLED_LIMIT = 2.0
LIST_CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
MESSAGE = "notifications/message"
# The barrier at which the runner restarts the server, and what the server says of each session then.
RESTARTED = "restarted"
REVIVED = "a session from before the restart goes on"
PYTHON = str(WORK / "py/bin/python")

PY_AUTO, PY_LEGACY, PY_MODERN = (
    Client(f"py-{mode}", (PYTHON, str(HERE / "client_py.py")), mode) for mode in ("auto", "legacy", "modern")
)
PY_OLD = Client("py-old", (str(WORK / "old/bin/python"), str(HERE / "client_old.py")), "legacy")
TS1 = Client("ts1", ("node", str(NODE / "client_ts.mjs"), "1"), "legacy")
TS2_AUTO, TS2_MODERN = (
    Client(f"ts2-{mode}", ("node", str(NODE / "client_ts.mjs"), "2"), mode) for mode in ("auto", "modern")
)
CLIENTS = (PY_AUTO, PY_LEGACY, PY_OLD, TS1, TS2_AUTO)
MODERN_ONLY = (PY_MODERN, TS2_MODERN)
# Of an SDK that serves both eras, what a client of each mode ends up with.
LEGACY_PEERS = (PY_LEGACY, TS1)
MODERN_PEERS = (PY_AUTO, TS2_AUTO)

FILESYSTEM = Server(
    "filesystem",
    ("node", str(PACKAGES / "server-filesystem/dist/index.js"), "{root}"),
    ("legacy",),
    many={"tool": "write_file", "args": {"path": "{root}/{tag}-{i}.txt", "content": "{tag} \u2028 é {i}"}},
    read="file:///nowhere",  # it has no resources: its own error must come through
    big={"tool": "write_file", "args": {"path": "{root}/{tag}.txt", "content": "{big}"}},
)
EVERYTHING = Server(
    "everything",
    ("node", str(PACKAGES / "server-everything/dist/index.js"), "stdio"),
    ("legacy",),
    http=("node", str(PACKAGES / "server-everything/dist/index.js"), "streamableHttp"),
    many={"tool": "echo", "args": {"message": "{tag} \u2028 é 😀 {i}"}},
    progress={"tool": "trigger-long-running-operation", "args": {"duration": 0.4, "steps": 4}},
    read="demo://resource/static/document/architecture.md",
    prompt={"name": "args-prompt", "args": {"city": "{tag}"}},
    complete={"name": "completable-prompt", "argument": "department", "value": "S"},
    pages=True,
    big={"tool": "echo", "args": {"message": "{tag} {big}"}},
    varying=(
        "get-roots-list",
        "trigger-elicitation-request",
        "trigger-elicitation-request-async",
        "trigger-sampling-request",
        "trigger-sampling-request-async",
        "trigger-url-elicitation",
    ),
    roots="get-roots-list",
)
PY_SERVER = Server(
    "python",
    (PYTHON, str(HERE / "py_server.py")),
    ("legacy", "modern"),
    http=(PYTHON, str(HERE / "py_server.py"), "{port}"),
    many={"tool": "echo", "args": {"text": "\u2028 é 😀 {i}", "tag": "{tag}"}},
    progress={"tool": "slow", "args": {"ms": 400, "tag": "{tag}", "steps": 4}},
    read="note://by/{tag}",
    prompt={"name": "greet", "args": {"name": "{tag}"}},
    complete={"name": "greet", "argument": "name", "value": "{tag}"},
    pages=True,
    big={"tool": "echo", "args": {"text": "{big}", "tag": "{tag}"}},
)


def servers(examples: Path) -> list[Server]:
    """The servers of the main group. The project's own example is among them as soon as it exists."""
    found = [FILESYSTEM, EVERYTHING, *dual(examples)]
    if (REPO / "examples/notes_server").exists():
        found.append(notes(examples / "notes_server"))
    return found


def dual(examples: Path) -> tuple[Server, ...]:
    """The servers on SDKs that serve both eras; they offer the same, by different code."""
    rmcp = (str(examples / "rmcp_server"),)
    return PY_SERVER, replace(PY_SERVER, name="rmcp", command=rmcp, http=(*rmcp, "--http", "{port}"))


def notes(path: Path) -> Server:
    return Server(
        "notes",
        (str(path), "{root}"),
        ("legacy", "modern"),
        many={"tool": "write_note", "args": {"name": "{tag}-{i}", "text": "{tag} \u2028 é {i}"}},
        read="note:///{tag}-7",
        prompt={"name": "summarise", "args": {"note": "{tag}-7"}},
        complete={"name": "summarise", "argument": "note", "value": "{tag}-1"},
        big={"tool": "write_note", "args": {"name": "{tag}", "text": "{big}"}},
    )


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    group: str
    name: str
    server: Server
    transport: str
    waves: tuple[tuple[Part, ...], ...]
    check: Check | None = None
    extra: tuple[str, ...] = ()
    quick: bool = False
    # The clients must fail, in the same way as without the proxy.
    fails: bool = False
    # The server's processes are killed when every client has its calls in flight.
    kills: bool = False
    # `mcp-remote server` is killed and started again between two calls of every client, whose sessions go on.
    restarts: bool = False

    @property
    def title(self) -> str:
        return f"{self.server.name} × {self.name} × {self.transport}"

    @property
    def parts(self) -> list[Part]:
        return [part for wave in self.waves for part in wave]


def rows(examples: Path) -> list[Row]:
    return [*main_rows(examples), *peer_rows(examples)]


# --- group main: one child and its users -----------------------------------------------------------------------------


def session(server: Server, client: Client) -> tuple[Json, ...]:
    """What a host does in a session."""
    steps: list[Json] = [{"do": "tools"}, {"do": "many", "count": 20, **server.many}]
    if server.read:
        steps.append({"do": "read", "uri": server.read})
    if server.prompt:
        steps.append({"do": "prompt", **server.prompt})
    if server.complete:
        steps.append({"do": "complete", **server.complete})
    if server.pages:
        steps.append({"do": "resources"})
    if server.progress:
        steps.append({"do": "progress", **server.progress})
    if client.mode == "legacy":
        steps.append({"do": "ping"})
    steps.append({"do": "call", "tool": "no-such-tool"})
    steps.append({"do": "many", "as": "many again", "count": 20, **server.many})
    return tuple(steps)


def reading(server: Server) -> tuple[Json, ...]:
    """What a role without `tools/call` does: it is told no, and its session goes on."""
    steps: list[Json] = [{"do": "tools"}, {"do": "call", **server.many}, {"do": "many", "count": 5, **server.many}]
    if server.pages:
        steps.append({"do": "read", "uri": server.read})
    steps.append({"do": "tools", "as": "tools again"})
    return tuple(steps)


def reader(server: Server, client: Client) -> Part:
    return Part(client, reading(server), role="reader", compare=False)


def last_is_denied(seen: list[Json]) -> Iterator[str]:
    """The row's last client has the role `reader`."""
    last = seen[-1]
    if last["call"] != DENIED:
        yield f"the forbidden call was answered with {last['call']}"
    if last["many"] != [DENIED] * 5:
        yield f"the forbidden calls were answered with {last['many']}"
    if not last["tools"] or last["tools"] != last["tools again"]:
        yield f"the tools before and after the denial differ: {last['tools']}, {last['tools again']}"
    if "read" in last and "sha256" not in last["read"]:
        yield f"a reader may read, but got {last['read']}"


def user(server: Server, client: Client) -> Part:
    return Part(client, session(server, client))


def main_rows(examples: Path) -> Iterator[Row]:
    for server in servers(examples):
        able = CLIENTS + (MODERN_ONLY if "modern" in server.eras else ())
        for transport in ("tcp", "ws"):
            for client in able:
                part = user(server, client)
                quick = client in (PY_AUTO, TS1) and transport == "tcp"
                # The reader comes when the users have left: a later client on the same child.
                yield Row(
                    "main",
                    f"{client.name} × 2, then a reader",
                    server,
                    transport,
                    ((part, part), (reader(server, client),)),
                    last_is_denied,
                    quick=quick,
                )
            yield Row(
                "main",
                "5 different clients and a reader",
                server,
                transport,
                ((*(user(server, client) for client in CLIENTS), reader(server, TS1)),),
                last_is_denied,
                quick=transport == "ws",
            )
        # By URL, without our client; the old SDK knows no such transport.
        for client in (client for client in able if client is not PY_OLD):
            part = user(server, client)
            quick = client in (PY_AUTO, TS1)
            yield Row("main", f"{client.name} × 2", server, "http", ((part, part),), quick=quick)
        # The other way round: the server's own HTTP, and our client.
        for client in (PY_AUTO, TS1, TS2_AUTO) if server.http else ():
            part = user(server, client)
            yield Row("main", f"{client.name} × 2", server, "elsewhere", ((part, part),), quick=client is TS1)
        for client, transport in zip(CLIENTS, ("tcp", "ws") * 3):
            part = user(server, client)
            yield Row("main", f"{client.name} × 5", server, transport, ((part,) * 5,))
        for client, transport in ((TS1, "tcp"), (PY_AUTO, "ws")):
            if server.big:
                steps = ({"do": "big", "repeat": 150_000, "timeout": 40, **server.big}, {"do": "tools"})
                yield Row("main", f"{client.name} × 4 MB", server, transport, ((Part(client, steps),) * 2,))
        if "modern" not in server.eras:
            for client, transport in zip(MODERN_ONLY, ("tcp", "ws")):
                part = Part(client, ({"do": "tools"},))
                yield Row("main", f"{client.name} is refused", server, transport, ((part,),), fails=True)
        yield from killed_rows(server)
    for client in (PY_LEGACY, TS1, TS2_AUTO):
        once = ({"do": "many", "count": 5, **FILESYSTEM.many}, {"do": "tools"})
        again = ({"do": "many", "as": "many again", "count": 5, **FILESYSTEM.many}, {"do": "tools", "as": "tools again"})
        part = Part(client, (*once, barrier(RESTARTED, 3), *again))
        name = f"{client.name} × 2, a restart"
        yield Row("main", name, FILESYSTEM, "http", ((part, part),), quick=client is TS1, restarts=True)
    for server in dual(examples):
        yield from cancel_rows(server)


def cancel_rows(server: Server) -> Iterator[Row]:
    """Cancelling one's own call, and leaving in the middle of one, while another client has the same ids in flight."""
    slow = {"tool": "slow", "args": {"ms": 20_000, "tag": "{tag}"}}
    meet = {"do": "barrier", "name": "meet", "parties": 2}
    cancels = (meet, {"do": "cancel", "after": 0.4, **slow}, {"do": "until", "tool": "cancelled", "contains": "{tag}"})
    works = (meet, {"do": "progress", "tool": "slow", "args": {"ms": 1500, "tag": "{tag}"}})
    leaves = (meet, {"do": "abandon", "after": 0.4, **slow})
    watches = (meet, {"do": "until", "tool": "cancelled", "contains": "{tag0}"})

    def cancelled(seen: list[Json]) -> Iterator[str]:
        if seen[0]["cancel"] != "CancelledError" or not str(seen[0].get("until")).startswith("cancelled: "):
            yield f"the cancellation did not reach the server: {seen[0]}"
        if seen[1]["progress"]["answer"] != "{tag}: done after 4 steps" or len(seen[1]["progress"]["wire"]) != 4:
            yield f"another client's cancellation disturbed this call: {seen[1]}"

    def left(seen: list[Json]) -> Iterator[str]:
        if not str(seen[1].get("until")).startswith("cancelled: "):
            yield f"the call of the client that left was not cancelled: {seen[1]}"

    for transport in ("tcp", "ws"):
        for client in (PY_AUTO, PY_LEGACY, TS1, TS2_AUTO):
            pair = (Part(client, cancels, compare=False), Part(client, works, compare=False))
            yield Row("main", f"{client.name} cancels a call", server, transport, (pair,), cancelled)
        for client in (PY_AUTO, PY_LEGACY):
            pair = (Part(client, leaves, compare=False), Part(client, watches, compare=False))
            yield Row("main", f"{client.name} leaves in a call", server, transport, (pair,), left)


def killed_rows(server: Server) -> Iterator[Row]:
    """Five different clients with eight calls in flight each, and the server's process is killed."""
    load = {"do": "load", "workers": 8, "timeout": 40, **server.many}

    def check(seen: list[Json]) -> Iterator[str]:
        loads = [one["load"] for one in seen]
        for one in loads:
            if one["wrong"] or one["late"] > KILLED_LIMIT or any("MCP server exited" not in why for why in one["failed"]):
                yield f"{one}"
        if not any(one["failed"] for one in loads):
            yield "nothing was in flight when the process was killed"

    for transport in ("tcp", "ws"):
        parts = tuple(Part(client, (load, {"do": "tools"}), compare=False) for client in CLIENTS)
        yield Row("main", "5 different clients, kill -9", server, transport, (parts,), check, kills=True)


# --- group peers: everything else that MCP can express, shared -------------------------------------------------------


def peer_rows(examples: Path) -> Iterator[Row]:
    for transport in ("tcp", "ws"):
        for server in dual(examples):
            yield from subscription_rows(server, transport)
            yield from log_rows(server, transport)
            yield from asking_rows(server, transport)
        yield from everything_rows(transport)
        yield from isolate_rows(examples, transport)
        yield from narrow_rows(examples, transport)


def alike(server: Server, what: str, transport: str, client: Client, steps: tuple[Json, ...], **more: Json) -> Row:
    """Two clients that do the same at the same time; each must see what it sees when it is alone."""
    part = Part(client, steps, **more)
    return Row("peers", f"{client.name} × 2 {what}", server, transport, ((part, part),))


def barrier(name: str, parties: int) -> Json:
    return {"do": "barrier", "name": name, "parties": parties}


def subscription_rows(server: Server, transport: str) -> Iterator[Row]:
    """Two clients subscribe, the third does not; the first one touches the resource and changes the tool list."""

    def wait(name: str, method: str, count: int) -> Json:
        return {"do": "wait", "as": name, "method": method, "count": count, "within": 3, "settle": 0.5}

    def script(opening: tuple[Json, ...], acts: bool, subscribed: bool, listed: bool) -> tuple[Json, ...]:
        touch = ({"do": "call", "as": "touch", "tool": "touch", "args": {"uri": NOTE}},) if acts else ()
        announce = ({"do": "call", "as": "announce", "tool": "announce"},) if acts else ()
        return (
            *opening,
            barrier("ready", 3),
            *touch,
            wait("updated", UPDATED, int(subscribed)),
            barrier("seen", 3),
            *announce,
            wait("listed", LIST_CHANGED, int(listed)),
            barrier("done", 3),
        )

    def expect(listed: list[int]) -> Check:
        def check(seen: list[Json]) -> Iterator[str]:
            for index, one in enumerate(seen):
                want = [{"uri": NOTE}] if index < 2 else []
                if one["updated"] != want:
                    yield f"client {index} should have got {want}, but got {one['updated']}"
                if len(one["listed"]) != listed[index]:
                    yield f"client {index} should have got {listed[index]} list changes, but got {one['listed']}"

        return check

    for client in LEGACY_PEERS:
        opening: tuple[Json, ...] = ({"do": "subscribe", "uri": NOTE},)
        # Legacy list changes are for everybody.
        parts = tuple(
            Part(client, script(opening if n < 2 else (), n == 0, n < 2, True), compare=False) for n in range(3)
        )
        yield Row("peers", f"{client.name} × 3 subscribe", server, transport, (parts,), expect([1, 1, 1]))
        steps = (
            *opening,
            {"do": "call", "tool": "touch", "args": {"uri": NOTE}},
            wait("updated", UPDATED, 1),
            {"do": "unsubscribe", "uri": NOTE},
            {"do": "call", "as": "touch again", "tool": "touch", "args": {"uri": NOTE}},
            wait("updated again", UPDATED, 0),
        )
        yield Row("peers", f"{client.name} × 1 unsubscribe", server, transport, ((Part(client, steps),),))
    for client in MODERN_PEERS:
        opening = ({"do": "listen", "uris": [NOTE], "tools": True},)
        parts = tuple(
            Part(client, script(opening if n < 2 else (), n == 0, n < 2, n < 2), compare=False) for n in range(3)
        )
        yield Row("peers", f"{client.name} × 3 listen", server, transport, (parts,), expect([1, 1, 0]))


def log_rows(server: Server, transport: str) -> Iterator[Row]:
    """Each client gets the log level that it asked for, whatever the others ask for."""

    def levels(level: str) -> list[str]:
        return LEVELS[LEVELS.index(level) :]

    def got(seen: Json) -> list[str]:
        return [note["level"] for note in seen["log"]]

    act: Json = {"do": "call", "tool": "log", "args": {"tag": "{tag}"}}
    wait: Json = {"do": "wait", "as": "log", "method": MESSAGE, "count": 99, "within": 1.5}
    for client in LEGACY_PEERS:

        def script(level: str, acts: bool) -> tuple[Json, ...]:
            return ({"do": "level", "level": level}, barrier("ready", 2), *((act,) if acts else ()), wait)

        def check(seen: list[Json]) -> Iterator[str]:
            for one, level in zip(seen, ("debug", "error")):
                if got(one) != levels(level):
                    yield f"the client at {level} got {got(one)}"

        scripts = (script("debug", True), script("error", False))
        parts = tuple(Part(client, steps, compare=False) for steps in scripts)
        yield Row("peers", f"{client.name} × 2 log levels", server, transport, (parts,), check)
        steps = ({"do": "level", "level": "warning"}, act, wait)
        yield Row("peers", f"{client.name} × 1 log level", server, transport, ((Part(client, steps),),))
    for client in MODERN_PEERS:
        part = Part(client, (act, wait), log_level="warning")
        yield Row("peers", f"{client.name} × 1 log level", server, transport, ((part,),))


def in_turns(steps: tuple[Json, ...]) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """The same steps for two clients, one after the other, both connected all the time.

    A legacy question does not say which call it belongs to; only while one client alone has calls in flight can
    anybody tell whom it is for.
    """
    return (
        (barrier("both here", 2), *steps, barrier("first done", 2), barrier("second done", 2)),
        (barrier("both here", 2), barrier("first done", 2), *steps, barrier("second done", 2)),
    )


def asking_rows(server: Server, transport: str) -> Iterator[Row]:
    """The server asks its client back; each client answers with its own tag, and only its own questions."""

    def script(*tools: str) -> tuple[Json, ...]:
        args = {"tag": "{tag}-{i}"}
        calls = ({"do": "many", "as": tool, "tool": tool, "args": args, "count": 3} for tool in tools)
        return (*calls, {"do": "asked"})

    question = ({"do": "call", "tool": "ask", "args": {"tag": "{tag}"}},)

    def refused(seen: list[Json]) -> Iterator[str]:
        for one in seen:
            if isinstance(one["call"], str):
                yield f"nobody could be asked, but the answer is {one['call']}"

    roots = ({"do": "call", "tool": "roots", "args": {"tag": "{tag}"}},)
    for client in LEGACY_PEERS:
        pair = tuple(Part(client, turn, able=True) for turn in in_turns(script("ask", "sample")))
        yield Row("peers", f"{client.name} × 2 are asked in turns", server, transport, (pair,))
        # They are folders of one client's machine.
        alone = Part(client, roots, able=True, compare=False)
        yield Row("peers", f"{client.name} × 1 is not asked for roots", server, transport, ((alone,),), refused)
        # The shared child was told that its client can be asked, so the error is another one than directly.
        poor = Part(client, question, compare=False)
        yield Row("peers", f"{client.name} × 2 cannot be asked", server, transport, ((poor, poor),), refused)
    for client in MODERN_PEERS:
        yield alike(server, "are asked", transport, client, script("ask", "sample", "roots"), able=True)
        yield alike(server, "cannot be asked", transport, client, question)
    calls = tuple({"do": "call", "as": tool, "tool": tool, "args": {"tag": "{tag}"}} for tool in ("ask", "sample"))
    yield from at_once_rows(server, transport, calls, roots)


ASKED_AT_ONCE = (PY_AUTO, PY_LEGACY, TS1, TS2_AUTO, TS1)
ASKING = ("--isolate=asking",)


def at_once_rows(server: Server, transport: str, calls: tuple[Json, ...], roots: tuple[Json, ...]) -> Iterator[Row]:
    """Five clients, which all sample and elicit at the same time, several times over.

    With a process for each that can be asked, each sees what it sees alone. Where they share one, nobody can tell whom
    a question is for while others are at work: the tool then fails, and nobody is asked in another's place.
    """
    here = barrier("here", len(ASKED_AT_ONCE))
    rounds = [{**call, "as": f"{call['as']} {n}"} for n in range(4) for call in calls]
    parts = tuple(Part(client, (here, *rounds, *roots, {"do": "asked"}), able=True) for client in ASKED_AT_ONCE)
    yield Row("peers", "5 different clients are asked at once", server, transport, (parts,), extra=ASKING)

    def check(seen: list[Json]) -> Iterator[str]:
        for index, one in enumerate(seen):
            answers = [answer for step, answer in one.items() if step[-1].isdigit()]
            served = [answer for answer in answers if isinstance(answer, str)]
            # Its own tag is masked, so any that is left is another client's.
            if foreign := [answer for answer in answers if re.search(r"\b(py|ts)\w*(-\w+)?-[0-9a-f]{12}", str(answer))]:
                yield f"client {index}: answers of others: {foreign}"
            if wrong := [answer for answer in served if "{tag}" not in answer]:
                yield f"client {index}: answers that are not its own: {wrong}"
            # Clients of 2026-07-28 are asked in answers to their own calls.
            if len(one["asked"]) not in (0, len(served)):
                yield f"client {index}: was asked {one['asked']}, but served {served}"

    parts = tuple(Part(client, (here, *rounds, {"do": "asked"}), able=True, compare=False) for client in ASKED_AT_ONCE)
    yield Row("peers", "5 different clients are asked at once, sharing", server, transport, (parts,), check)


def everything_rows(transport: str) -> Iterator[Row]:
    steps = (
        {"do": "tools"},
        {"do": "call", "as": "sampling", "tool": "trigger-sampling-request", "args": {"prompt": "{tag}"}},
        {"do": "call", "as": "elicitation", "tool": "trigger-elicitation-request"},
    )
    for client in LEGACY_PEERS:
        pair = tuple(Part(client, turn, able=True) for turn in in_turns(steps))
        yield Row("peers", f"{client.name} × 2 are asked in turns", EVERYTHING, transport, (pair,))
    roots = ({"do": "call", "as": "roots", "tool": EVERYTHING.roots},)
    yield from at_once_rows(EVERYTHING, transport, steps[1:], roots)
    subscribed = (
        {"do": "subscribe", "uri": NOTE},
        {"do": "call", "tool": "toggle-subscriber-updates"},
        {"do": "wait", "method": UPDATED, "count": 1},
    )
    yield Row("peers", "ts1 × 1 subscribe", EVERYTHING, transport, ((Part(TS1, subscribed),),))

    research = {"tool": "simulate-research-query", "args": {"topic": "{tag}"}}
    owner = ({"do": "task", "share": "task", **research}, barrier("made", 2), barrier("looked", 2))
    stranger = (barrier("made", 2), {"do": "foreign", "share": "task"}, barrier("looked", 2))

    def check(seen: list[Json]) -> Iterator[str]:
        if seen[0]["task"].get("status") != "completed":
            yield f"the owner's task: {seen[0]['task']}"
        foreign = seen[1]["foreign"]
        if foreign["listed"] or foreign["theirs"] != foreign["unknown"]:
            yield f"another user's task can be told from one that does not exist: {foreign}"

    pair = (
        Part(TS1, owner, user="alice", able=True, compare=False),
        Part(TS1, stranger, user="bob", able=True, compare=False),
    )
    yield Row("peers", "ts1 × 2 tasks", EVERYTHING, transport, (pair,), check)


def half_of(pairs: Iterable[T], transport: str) -> list[T]:
    """The other half is for the other transport: what is shown does not depend on it."""
    return list(pairs)[int(transport == "ws") :: 2]


def isolate_rows(examples: Path, transport: str) -> Iterator[Row]:
    """A child for each session: then each client is alone, even with a server that remembers its first one."""
    alone = Part(TS1, ({"do": "call", "tool": "get-roots-list"}, {"do": "tools"}), able=True)
    yield Row("peers", "ts1 × 2 roots, isolated", EVERYTHING, transport, ((alone, alone),), extra=("--isolate",))
    for server, client in half_of(product(servers(examples), CLIENTS), transport):
        part = user(server, client)
        yield Row("peers", f"{client.name} × 2, isolated", server, transport, ((part, part),), extra=("--isolate",))


def narrow_rows(examples: Path, transport: str) -> Iterator[Row]:
    """A role that may use one tool of the server and some of its resources sees no others, and is told no."""

    def denied(what: str) -> Json:
        return {"code": -32601, "message": f"Method not allowed: Access denied for {what}"}

    both = tuple((server, ["echo", "touch"]) for server in dual(examples))
    for server, tools in ((EVERYTHING, ["echo"]), *both):
        steps = (
            {"do": "tools"},
            {"do": "call", "as": "other tool", "tool": "slow", "args": {"ms": 1}},
            {"do": "many", "as": "own tool", "count": 3, **server.many},
            {"do": "read", "as": "own resource", "uri": server.read},
            {"do": "read", "as": "other resource", "uri": "demo://resource/dynamic/text/1"},
            {"do": "prompt", **server.prompt},
        )
        expected = {
            "tools": tools,
            "other tool": denied("tool 'slow'"),
            "other resource": denied("resource 'demo://resource/dynamic/text/1'"),
            "prompt": denied(f"prompt '{server.prompt['name']}'"),
        }

        def check(seen: list[Json], expected: Json = expected) -> Iterator[str]:
            for one in seen:
                for step, want in expected.items():
                    if one[step] != want:
                        yield f"{step}: wanted {want}, got {one[step]}"
                if "code" in str(one["own tool"]) or "sha256" not in one["own resource"]:
                    yield f"what is allowed was refused: {one['own tool']}, {one['own resource']}"

        for client in half_of(CLIENTS, transport):
            part = Part(client, steps, role="narrow", compare=False)
            yield Row("peers", f"{client.name} × 1, narrow", server, transport, ((part,),), check)
