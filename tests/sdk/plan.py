"""Runs one plan: the part of the Python clients that does not depend on the SDK's version.

A plan is a JSON file from run.py: how to launch the MCP server, who the client is, and a list of steps. What each step
saw is printed as one JSON line; run.py judges it. client_ts.mjs does the same for the TypeScript SDKs, so every verb
below has its twin there.
"""

import asyncio
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

Json = Any
Heard = Callable[[float, float | None], None]


class Failure(Exception):
    """A JSON-RPC error, whatever the SDK calls it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.seen = {"code": code, "message": message}


class Adapter(Protocol):
    """What plan.py needs of an SDK; a verb that an SDK lacks is simply not defined."""

    async def tools(self) -> list[str]: ...
    async def call(self, tool: str, args: Json, heard: Heard | None = None) -> Json: ...
    async def read(self, uri: str) -> str: ...
    async def prompt(self, name: str, args: Json) -> str: ...
    async def complete(self, name: str, argument: str, value: str) -> Json: ...
    async def resources(self, cursor: str | None) -> tuple[list[str], str | None]: ...
    async def ping(self) -> Json: ...


class Wire:
    """What crossed the wire: it sees answers and notifications that an SDK would drop in silence."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Json]] = []
        self.asked: list[str] = []
        self.strays: list[str] = []
        self._open: set[Json] = set()

    def sent(self, message: Json) -> None:
        if "method" in message and "id" in message:
            self._open.add(message["id"])

    def received(self, message: Json) -> None:
        if "method" in message and "id" in message:
            self.asked.append(message["method"])
        elif "method" in message:
            params = message.get("params") or {}
            self.notes.append((message["method"], params))
            listening = (params.get("_meta") or {}).get("io.modelcontextprotocol/subscriptionId")
            if listening is not None and listening not in self._open:
                self.strays.append(f"{message['method']} for subscription {listening}")
        elif message.get("id") in self._open:
            self._open.remove(message["id"])
        else:  # answered twice, or never asked by this client
            self.strays.append(f"an answer to {message.get('id')}")

    def take(self, method: str) -> list[Json]:
        """The parameters of the notifications with this method, which are forgotten then."""
        taken = [plain(params) for name, params in self.notes if name == method]
        self.notes = [note for note in self.notes if note[0] != method]
        return taken


def plain(params: Json) -> Json:
    """Parameters without the members that differ from run to run."""
    return {key: value for key, value in params.items() if key not in ("_meta", "progressToken")}


def digest(text: str, tag: str) -> Json:
    """A long text, short enough to compare and print; the client's own tag does not count as a difference."""
    text = text.replace(tag, "{tag}")
    return {"length": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest(), "head": text[:60]}


def fill(value: Json, marks: dict[str, str]) -> Json:
    """Replaces the marks in every string of a JSON value."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, list):
        return [fill(item, marks) for item in value]
    if isinstance(value, dict):
        return {key: fill(item, marks) for key, item in value.items()}
    return value


class Runner:
    """The verbs. Each returns what it saw; `Failure` is an observation too."""

    def __init__(self, plan: Json, adapter: Any, wire: Wire) -> None:
        self.plan, self.adapter, self.wire = plan, adapter, wire

    async def run(self) -> Json:
        seen: Json = {}
        for step in self.plan["steps"]:
            verb: Callable[[Json], Awaitable[Json]] = getattr(self, "do_" + step["do"])
            try:
                seen[step.get("as", step["do"])] = await asyncio.wait_for(verb(step), step.get("timeout", 20))
            except Failure as failure:
                seen[step.get("as", step["do"])] = failure.seen
            except TimeoutError as error:
                raise AssertionError(f"step {step.get('as', step['do'])} timed out") from error
        if self.wire.strays:
            raise AssertionError(f"received what is not for this client: {self.wire.strays}")
        return seen

    async def do_tools(self, _step: Json) -> Json:
        return sorted(await self.adapter.tools())

    async def do_call(self, step: Json) -> Json:
        return await self.adapter.call(step["tool"], step.get("args", {}))

    async def do_many(self, step: Json) -> Json:
        async def one(index: int) -> Json:
            try:
                return await self.adapter.call(step["tool"], fill(step["args"], {"{i}": str(index)}))
            except Failure as failure:
                return failure.seen

        return await asyncio.gather(*(one(index) for index in range(step["count"])))

    async def one_odd(self, tool: str, within: float, args: Json = None) -> Json:
        """Calls a tool whose answer may never come."""
        try:
            return await asyncio.wait_for(self.adapter.call(tool, args or {}), within)
        except Failure as failure:
            return failure.seen
        except TimeoutError:
            return "no answer"
        except Exception as error:
            return type(error).__name__

    async def do_script(self, step: Json) -> Json:
        """The same, one after the other."""
        return {call["as"]: await self.one_odd(call["tool"], call["within"], call.get("args")) for call in step["calls"]}

    async def do_storm(self, step: Json) -> Json:
        """Asks for the list whenever the server says that it has changed; counts how often it does."""
        told, changed, end = 0, "notifications/tools/list_changed", time.monotonic() + step["seconds"]
        await self.adapter.tools()
        while time.monotonic() < end:
            if heard := len(self.wire.take(changed)):
                told += heard
                await self.adapter.tools()
            await asyncio.sleep(0.001)
        # Time for the last one.
        await asyncio.sleep(1.5)
        return told + len(self.wire.take(changed))

    async def do_odd(self, step: Json) -> Json:
        """Calls tools whose answers may never come, and then, if asked, one that is answered once it is cancelled."""

        async def one(tool: str, within: float = step["within"]) -> Json:
            return await self.one_odd(tool, within)

        seen = dict(zip(step["tools"], await asyncio.gather(*map(one, step["tools"]))))
        if step.get("late"):
            await one("late", 0.3)
            seen["after a late answer"] = await one("plain")
        # Alone some are taken for answers to nothing.
        self.wire.strays.clear()
        return seen

    async def do_big(self, step: Json) -> Json:
        text = "0123456789 äé€😀\u2028\n" * step["repeat"]
        answer = await self.adapter.call(step["tool"], fill(step["args"], {"{big}": text}))
        # A server that does not send the text back has a short answer.
        return digest(answer, self.plan["tag"]) if isinstance(answer, str) and len(answer) > 1000 else answer

    async def do_progress(self, step: Json) -> Json:
        heard: list[list[float | None]] = []
        self.wire.take("notifications/progress")
        answer = await self.adapter.call(step["tool"], step["args"], lambda done, total: heard.append([done, total]))
        notes = self.wire.take("notifications/progress")
        wire = [[note["progress"], note.get("total"), note.get("message")] for note in notes]
        return {"answer": answer, "heard": heard, "wire": wire}

    async def do_read(self, step: Json) -> Json:
        return digest(await self.adapter.read(step["uri"]), self.plan["tag"])

    async def do_prompt(self, step: Json) -> Json:
        return await self.adapter.prompt(step["name"], step["args"])

    async def do_complete(self, step: Json) -> Json:
        return await self.adapter.complete(step["name"], step["argument"], step["value"])

    async def do_resources(self, _step: Json) -> Json:
        """The URIs of each page."""
        page, cursor = await self.adapter.resources(None)
        pages = [page]
        while cursor is not None:
            page, cursor = await self.adapter.resources(cursor)
            pages.append(page)
        return pages

    async def do_ping(self, _step: Json) -> Json:
        return await self.adapter.ping()

    async def do_cancel(self, step: Json) -> Json:
        call = asyncio.create_task(self.adapter.call(step["tool"], step["args"]))
        await asyncio.sleep(step["after"])
        call.cancel()
        return (await asyncio.gather(call, return_exceptions=True))[0].__class__.__name__

    async def do_abandon(self, step: Json) -> Json:
        """Leaves as a crash does: the process that carries the connection is killed in the middle of a call."""
        call = asyncio.create_task(self.adapter.call(step["tool"], step["args"]))
        await asyncio.sleep(step["after"])
        children: list[str] = []
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError):  # a thread that has just ended
                children += (task / "children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        result = (await asyncio.gather(call, return_exceptions=True))[0]
        return "failed" if isinstance(result, BaseException) else result

    async def do_until(self, step: Json) -> Json:
        """Calls until the answer contains the text; the step's timeout ends it."""
        while step["contains"] not in str(answer := await self.adapter.call(step["tool"], step.get("args", {}))):
            await asyncio.sleep(0.1)
        return answer

    async def do_load(self, step: Json) -> Json:
        """Keeps calls in flight until run.py has killed the server's process, and then until each worker is served."""
        sync, calls, failed, wrong, late = Path(self.plan["sync"]), 0, set[str](), list[Json](), 0.0

        async def worker(number: int) -> None:
            nonlocal calls, late
            served = 0
            while True:
                killed = (sync / "killed").exists()
                mine = f"{number}-{served}"
                calls += 1
                try:
                    answer = await self.adapter.call(step["tool"], fill(step["args"], {"{i}": mine}))
                except Failure as failure:
                    answer = None
                    failed.add(failure.seen["message"])
                    # One that is served came too late for the process, and has waited for the next one's start.
                    late = max(late, time.time() - float((sync / "killed").read_text()))
                else:
                    served += 1
                    if self.plan["tag"] not in str(answer) or mine not in str(answer):
                        wrong.append(answer)
                if killed and answer is not None:
                    return
                if served == 3:
                    (sync / "loaded" / f"{self.plan['tag']}-{number}").touch()
                await asyncio.sleep(0.02 if answer is None else 0)

        await asyncio.gather(*(worker(number) for number in range(step["workers"])))
        return {"calls": calls, "failed": sorted(failed), "wrong": wrong, "late": round(late, 3)}

    async def do_barrier(self, step: Json) -> Json:
        """Waits for the other clients of the row, by files: the clients have nothing else in common."""
        where = Path(self.plan["sync"], step["name"])
        where.mkdir(parents=True, exist_ok=True)
        (where / self.plan["tag"]).touch()
        while len(list(where.iterdir())) < step["parties"]:
            await asyncio.sleep(0.02)

    async def do_level(self, step: Json) -> Json:
        return await self.adapter.level(step["level"])

    async def do_subscribe(self, step: Json) -> Json:
        return await self.adapter.subscribe(step["uri"])

    async def do_unsubscribe(self, step: Json) -> Json:
        return await self.adapter.unsubscribe(step["uri"])

    async def do_listen(self, step: Json) -> Json:
        return await self.adapter.listen(step)

    async def do_wait(self, step: Json) -> Json:
        """Waits for notifications, then `settle` seconds more for those that must not come."""
        end = time.monotonic() + step.get("within", 5)
        while sum(name == step["method"] for name, _ in self.wire.notes) < step["count"] and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await asyncio.sleep(step.get("settle", 0.2))
        return self.wire.take(step["method"])

    async def do_asked(self, _step: Json) -> Json:
        asked, self.wire.asked = self.wire.asked, []
        return asked


def main(connect: Callable[[Json, Wire], Any]) -> None:
    """Runs the plan named on the command line and prints the verdict as one JSON line."""
    plan = json.loads(Path(sys.argv[1]).read_text())

    async def session() -> Json:
        wire = Wire()
        async with connect(plan, wire) as adapter:
            seen = {"connect": adapter.connected} | await Runner(plan, adapter, wire).run()
            closing = time.monotonic()
        return {"ok": True, "seen": seen, "close": round(time.monotonic() - closing, 3)}

    try:
        verdict = asyncio.run(session())
    except BaseException as error:  # whatever it is, run.py must hear of it
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        verdict = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(verdict), flush=True)
