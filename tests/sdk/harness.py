"""Starts and stops what a row of the table needs: packages, the MCP server, `mcp-remote`, the SDK clients."""

import fcntl
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Json = Any
HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
WORK = HERE / ".work"
NODE = WORK / "node"
PACKAGES = NODE / "node_modules/@modelcontextprotocol"
CLIENT_TIMEOUT = 60.0
# The SDKs close stdin, wait 2 s and then kill; a client that took longer than this was killed.
CLOSE_LIMIT = 1.9
# Not MCP_REMOTE_…: `mcp-remote server` keeps its own settings from its child.
MARK = "SDK_TABLE_ROW"

ROLES: Json = {
    "permissions": {
        "user": {"allowedMethods": ["*"]},
        "reader": {
            "allowedMethods": ["initialize", "server/discover", "ping", "tools/list", "prompts/list", "resources/*"],
            "blockedMethods": ["tools/call"],
        },
        "narrow": {
            "allowedMethods": ["*"],
            "allowedTools": ["echo", "touch"],
            "blockedPrompts": ["*"],
            "allowedResources": ["note://*", "demo://resource/static/*"],
        },
    }
}


class Failed(Exception):
    """Why a row failed."""


@dataclass(frozen=True)
class Server:
    """A stdio MCP server and what its clients find there. `{root}` is a folder of the row's own."""

    name: str
    command: tuple[str, ...]
    eras: tuple[str, ...]
    many: Json
    progress: Json = None
    read: str | None = None
    prompt: Json = None
    complete: Json = None
    # Its list of resources is the same for all and may come in pages.
    pages: bool = False
    big: Json = None
    # Tools that it offers by what its client declared, so a shared child may offer more or fewer of them.
    varying: tuple[str, ...] = ()
    # The one of them that needs a client with roots.
    roots: str = ""
    # How it serves HTTP itself, at the port `{port}`, which it may take from PORT.
    http: tuple[str, ...] = ()


@dataclass(frozen=True)
class Client:
    """An SDK in one mode. `mode` is what it negotiates: auto, legacy or modern."""

    name: str
    command: tuple[str, ...]
    mode: str


@dataclass(frozen=True)
class Part:
    """One client of a row and what it does."""

    client: Client
    steps: tuple[Json, ...]
    role: str = "user"
    user: str | None = None
    able: bool = False
    log_level: str | None = None
    # Compare what it saw with a direct run of the same steps.
    compare: bool = True


@dataclass
class Verdict:
    """What a client script printed, and what it wrote to stderr."""

    tag: str
    ok: bool
    seen: Json
    error: str
    close: float
    stderr: str

    def plain(self, root: str) -> Json:
        """What was seen, without what differs between two correct runs."""
        text = json.dumps(self.seen if self.ok else self.error)
        return json.loads(text.replace(self.tag, "{tag}").replace(root, "{root}"))


@dataclass
class Stage:
    """The folder and the mark of one row or direct run; everything that it started carries the mark."""

    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="mcp-remote-sdk-")))
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        (self.root / "files").mkdir()
        (self.root / "sync/loaded").mkdir(parents=True)

    @property
    def files(self) -> str:
        return str(self.root / "files")

    def env(self, **more: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {MARK: self.mark} | more

    def running(self) -> dict[int, str]:
        """The processes that carry this stage's mark, zombies not counted."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue  # it is gone, or not ours
        return found

    def kill(self, server: Server, loaded: int) -> None:
        """Waits until so many workers of the clients are at it, then kills the server's processes and says when."""
        end = time.monotonic() + CLIENT_TIMEOUT / 2
        while len(list((self.root / "sync/loaded").iterdir())) < loaded:
            if time.monotonic() > end:
                raise Failed(f"not all of the {loaded} workers were served")
            time.sleep(0.02)
        command = " ".join(fill(server.command, {"{root}": self.files}))
        victims = [pid for pid, line in self.running().items() if line == command]
        if not victims:
            raise Failed(f"{command} is not running")
        # A fast server would have answered everything. Of one that has stopped every worker soon waits for something,
        # and no more is sent.
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        before, now = -1, 0
        while not now or now != before:
            if time.monotonic() > end:
                raise Failed("nothing is in flight to the stopped server")
            time.sleep(0.2)
            before, now = now, sum(map(unread, victims))
        (self.root / "sync/now").write_text(str(time.time()))
        (self.root / "sync/now").rename(self.root / "sync/killed")
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    def meet(self, barrier: str, parties: int, then: Callable[[], None]) -> None:
        """Waits for all clients at a barrier, does something, and lets them go on."""
        where, end = self.root / "sync" / barrier, time.monotonic() + CLIENT_TIMEOUT / 2
        while not where.is_dir() or len(list(where.iterdir())) < parties:
            if time.monotonic() > end:
                raise Failed(f"not all clients have come to '{barrier}'")
            time.sleep(0.02)
        then()
        (where / "the runner").touch()

    def gone(self, within: float) -> dict[int, str]:
        """Waits for all of them to end; what is left then is killed and returned."""
        end = time.monotonic() + within
        while (left := self.running()) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def unread(pid: int) -> int:
    """How many bytes wait in the pipes that a process reads: not all keep the one that was their stdin there."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())
        if not os.readlink(entry).startswith("pipe:") or not flags or int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY:
            continue
        pipe = os.open(entry, os.O_RDONLY | os.O_NONBLOCK)
        try:
            found += int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
        finally:
            os.close(pipe)
    return found


def connected_to(port: int) -> int:
    """How many connections to a port of IPv4 have no end, for those who have made them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    return sum(row[3] == established and int(row[2].split(":")[1], 16) == port for row in rows)


@contextmanager
def stage() -> Iterator[Stage]:
    """A stage that leaves neither files nor processes behind."""
    here = Stage()
    try:
        yield here
    finally:
        here.gone(0)
        shutil.rmtree(here.root, ignore_errors=True)


def run(command: list[str], cwd: Path = HERE, timeout: float = 600) -> None:
    """Runs a command of the setup; its output is shown only if it fails."""
    if shutil.which(command[0]) is None:
        raise Failed(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def install() -> None:
    """Installs the SDKs into .work, unless the same lock files have been installed there before."""
    for name, requirements in (("py", "requirements.txt"), ("old", "requirements-old.txt")):
        with fresh(WORK / name, sys.version, HERE / requirements) as stale:
            if stale:
                run([sys.executable, "-m", "venv", str(WORK / name)])
                run([str(WORK / name / "bin/python"), "-m", "pip", "install", "-q", "-r", requirements])
    # `npm ci` wants a package for Windows that the Inspector asks for and the registry does not have.
    for where, source, command in ((NODE, HERE, "ci"), (WORK / "inspector", HERE / "inspector", "install")):
        with fresh(where, "", source / "package-lock.json") as stale:
            if stale:
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(source / name, where)
                run(["npm", command, "--no-audit", "--no-fund", "--ignore-scripts"], cwd=where)
    # Node looks for packages beside the script.
    shutil.copy(HERE / "client_ts.mjs", NODE)


@contextmanager
def fresh(where: Path, salt: str, lock: Path) -> Iterator[bool]:
    """Yields whether `where` has to be made anew, and stamps it when that went well."""
    stamp, want = where / ".installed", hashlib.sha256(salt.encode() + lock.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == want:
        yield False
        return
    print(f"installing {lock.name}", flush=True)
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    yield True
    stamp.write_text(want)


def fill(value: Json, marks: dict[str, str]) -> Json:
    """Replaces the marks in every string of a JSON value."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, list | tuple):
        return [fill(item, marks) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, marks) for key, item in value.items()}
    return value


def new_tag(part: Part) -> str:
    return f"{part.client.name}-{uuid.uuid4().hex[:12]}"


def drive(
    here: Stage, part: Part, tag: str, launch: Json, marks: dict[str, str], patience: float = CLIENT_TIMEOUT
) -> Verdict:
    """Runs one client script to its end."""
    plan = {
        "tag": tag,
        "mode": part.client.mode,
        "able": part.able,
        "log_level": part.log_level,
        "launch": launch,
        "sync": str(here.root / "sync"),
        "steps": fill(part.steps, {"{tag}": tag, "{root}": here.files} | marks),
    }
    path = here.root / f"{tag}.json"
    path.write_text(json.dumps(plan))
    process = subprocess.Popen(
        [*part.client.command, str(path)],
        env=here.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = (data.decode(errors="replace") for data in process.communicate(timeout=patience))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()  # its pipes may be held open by what it started; the stage ends that
        return Verdict(tag, False, None, f"no end within {patience:.0f} s", 0.0, "")
    try:
        said = json.loads(out.strip().split("\n")[-1])  # splitlines() would also split at U+2028
    except (IndexError, ValueError):
        error = f"exit code {process.returncode}, and no verdict: {out[-300:]!r}"
        return Verdict(tag, False, None, error, 0.0, err)
    return Verdict(tag, said["ok"], said.get("seen"), said.get("error", ""), said.get("close", 0.0), err)


def direct(server: Server, part: Part) -> Json:
    """What the client sees without the proxy: it launches the MCP server itself, and there is no other client."""
    part = replace(part, steps=tuple(step for step in part.steps if step["do"] != "barrier"))
    with stage() as here:
        tag = new_tag(part)
        command, *args = fill(server.command, {"{root}": here.files})
        launch = {"command": command, "args": args, "env": here.env()}
        verdict = drive(here, part, tag, launch, {})
        return {"ok": verdict.ok, "seen": verdict.plain(here.files), "stderr": verdict.stderr}


class Remote:
    """A running `mcp-remote server`."""

    def __init__(
        self,
        binary: Path,
        transport: str,
        server: Server,
        here: Stage,
        extra: Iterable[str] = (),
        policy: Path | None = None,
    ) -> None:
        self.binary, self.transport, self.here = binary, transport, here
        self.secret = uuid.uuid4().hex + uuid.uuid4().hex
        self.log = here.root / "server.log"
        roles = policy or here.root / "permissions.json"
        if not policy:
            roles.write_text(json.dumps(ROLES))
        self.options = ["--host", "127.0.0.1", "--permissions-config", str(roles), *extra]
        self.options += ["--", *fill(server.command, {"{root}": here.files})]
        self.process = self._start(0)
        self.port = self._port()

    def _start(self, port: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [str(self.binary), "server", self.transport, "--port", str(port), *self.options],
                env=self.here.env(MCP_REMOTE_JWT_SECRET=self.secret),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def restart(self) -> None:
        """Kills it, as a crash does, and starts another one at its port."""
        self.process.kill()
        self.process.wait()
        # On a busy machine its clients get the ends of their connections later, and would go on with them.
        end = time.monotonic() + CLIENT_TIMEOUT / 2
        while connected_to(self.port) and time.monotonic() < end:
            time.sleep(0.01)
        self.process = self._start(self.port)
        self._port()

    def _port(self) -> int:
        """Reads the line that promises an open port."""
        assert self.process.stdout
        name = {"tcp": "TCP", "ws": "WebSocket", "http": "HTTP"}[self.transport]
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline().decode() if ready else ""
        found = re.fullmatch(rf"MCP Remote {name} server listening on port (\d+)\n", line)
        if not found:
            self.process.kill()
            raise Failed(f"the server did not announce its port, but said {line!r}")
        return int(found[1])

    def token(self, user: str, role: str) -> str:
        """A token for this user."""
        command = [str(self.binary), "generate-token", "--user", user, "--roles", role, "--quiet"]
        env = self.here.env(MCP_REMOTE_JWT_SECRET=self.secret)
        made = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        if made.returncode or not made.stdout.strip():
            raise Failed(f"generate-token: exit code {made.returncode}: {made.stderr.strip()}")
        return made.stdout.strip()

    def launch(self, user: str, role: str) -> Json:
        """How an SDK client starts `mcp-remote client` as its stdio server, or the URL that it connects to by itself."""
        token = self.token(user, role)
        if self.transport == "http":
            return {"url": f"http://127.0.0.1:{self.port}/mcp", "token": token}
        args = ["client", self.transport, "--host", "127.0.0.1", "--port", str(self.port)]
        env = self.here.env(MCP_REMOTE_JWT_TOKEN=token)
        return {"command": str(self.binary), "args": args, "env": env}

    def stop(self) -> Iterator[str]:
        """Stops the server as an operator does, and says what was wrong with its end."""
        assert self.process.stdout
        if self.process.poll() is not None:
            yield f"the server had ended with exit code {self.process.returncode}"
        else:
            self.process.terminate()
            try:
                if code := self.process.wait(timeout=8):
                    yield f"the server ended with exit code {code} on SIGTERM"
            except subprocess.TimeoutExpired:
                self.process.kill()
                yield "the server did not end within 8 s of SIGTERM"
        # Whatever it left behind may hold its stdout open, so that comes first.
        if left := self.here.gone(3):
            yield f"left running: {list(left.values())}"
        if rest := self.process.stdout.read().decode(errors="replace"):
            yield f"the server's stdout held more than its one line: {rest[:200]!r}"
        if "panicked" in self.log.read_text(errors="replace"):
            yield "the server panicked"


class Elsewhere(Remote):
    """An MCP server that serves HTTP itself, and that SDK clients reach by `mcp-remote client http`."""

    def __init__(self, binary: Path, server: Server, here: Stage) -> None:
        self.binary, self.here, self.log = binary, here, here.root / "server.log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                fill(server.http, {"{port}": str(self.port)}),
                env=here.env(PORT=str(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + CLIENT_TIMEOUT / 2
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            if time.monotonic() > end:
                raise Failed(f"{server.name} does not listen")
            time.sleep(0.05)

    def launch(self, _user: str, _role: str) -> Json:
        args = ["client", "http", "--url", f"http://127.0.0.1:{self.port}/mcp"]
        return {"command": str(self.binary), "args": args, "env": self.here.env()}

    def stop(self) -> Iterator[str]:
        if self.process.poll() is not None:
            yield f"the server had ended with exit code {self.process.returncode}"
        self.process.kill()
        self.process.wait()
        if left := self.here.gone(3):
            yield f"left running: {list(left.values())}"


class Directs:
    """The direct runs, each made once: many rows compare themselves with the same one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._made: dict[str, Json] = {}

    def get(self, server: Server, part: Part) -> Json:
        key = json.dumps([server.name, part.client.name, part.steps, part.able, part.log_level])
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                self._made[key] = direct(server, part)
            return self._made[key]
