#!/usr/bin/env python3
"""Runs `mcp-remote` between the official MCP SDKs: server × client × transport × number of clients.

Every client is a real SDK that launches `mcp-remote client` as its stdio server, with a token and a role; every row
is compared with a direct run, the same SDK launching the MCP server itself, so that a failure of an SDK is not taken
for one of ours. Needs Python 3.11, node 20 and npm, and the package registries on the first run; what it installs
goes to tests/sdk/.work. A missing tool fails, it never skips.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import CLOSE_LIMIT, REPO, Directs, Elsewhere, Failed, Json, Part, Remote, Server, Verdict, drive, install
from harness import new_tag, stage
from inspector import inspector_row
from policies import policy_row
from table import RESTARTED, REVIVED, Row, dual, rows, servers
from tolerance import tolerance_rows


def compared(row: Row, part: Part, seen: Json, alone: Json) -> Iterator[str]:
    """What differs between the proxy and the direct run."""
    for step in alone:
        want, got = alone[step], seen.get(step)
        if step == "connect" and len({part.client.name for part in row.parts}) > 1:
            # On a shared child the first client's revision is everybody's.
            want, got = want["server"], got["server"]
        elif step == "tools" and row.group == "main":
            want, got = ([name for name in names if name not in row.server.varying] for names in (want, got))
        elif step == "tools":
            # A shared child was told that its client can do everything but roots; nothing else may be missing.
            got = [name for name in got if name in want or name not in row.server.varying]
            if not row.extra:
                want = [name for name in want if name != row.server.roots]
        elif step == "asked" and got:
            # server-everything asks for roots some time after the handshake.
            want, got = sorted(want), sorted(got)
        elif step == "progress" and got and "heard" in got:
            # The TypeScript SDKs drop a progress that arrives together with the answer, so only the wire is exact.
            if not got["heard"] or any(note not in [wire[:2] for wire in want["wire"]] for note in got["heard"]):
                yield f"the progress callback heard {got['heard']}"
            want, got = want | {"heard": 0}, got | {"heard": 0}
        if want != got:
            yield f"{step}: directly {short(want)}, through the proxy {short(got)}"


def short(value: Json) -> str:
    text = repr(value)
    return text if len(text) < 300 else f"{text[:150]} … {text[-150:]}"


def tags_missing(part: Part, seen: Json) -> Iterator[str]:
    """Every answer that should quote the client's tag and number does, whatever the direct run saw."""
    for step in part.steps:
        answers = seen.get(step.get("as", "many"))
        if step["do"] != "many" or part.role == "reader":
            continue
        lost = [text for n, text in enumerate(answers) if "{tag}" not in str(text) or str(n) not in str(text)]
        if lost:
            yield f"{step['tool']}: answers that are not this client's: {short(lost)}"


def judge(row: Row, directs: Directs, verdicts: list[Verdict], root: str) -> Iterator[str]:
    """Everything that is wrong with what the clients of a row saw."""
    seen = [verdict.plain(root) for verdict in verdicts]
    for index, (part, verdict) in enumerate(zip(row.parts, verdicts)):
        who = f"client {index} ({part.client.name})"
        if row.fails:
            alone = directs.get(row.server, part)
            if verdict.ok or alone["ok"] or seen[index] != alone["seen"]:
                yield f"{who}: directly {short(alone['seen'])}, through the proxy {short(seen[index])}"
            continue
        if not verdict.ok:
            yield f"{who}: {verdict.error}{tail(verdict.stderr)}"
            continue
        if verdict.close > CLOSE_LIMIT:
            yield f"{who}: closing took {verdict.close:.1f} s, so the SDK had to kill `mcp-remote client`"
        reasons: list[str] = []
        if part.compare:
            alone = directs.get(row.server, part)
            if not alone["ok"]:
                yield f"{who}: the direct run failed: {alone['seen']}{tail(alone['stderr'])}"
                continue
            reasons += compared(row, part, seen[index], alone["seen"])
        reasons = reasons or list(tags_missing(part, seen[index]))
        yield from (f"{who}: {reason}" for reason in reasons)
    if row.check and all(verdict.ok for verdict in verdicts):
        yield from row.check(seen)


def tail(text: str, lines: int = 12) -> str:
    """The last lines of a log, each on a line of its own, after a line end if there are any."""
    return "".join(f"\n      | {line[:200]}" for line in text.splitlines()[-lines:])


def attempt(row: Row, binary: Path, directs: Directs) -> list[str]:
    """Runs one row; the reasons why it failed, or none."""
    with stage() as here:
        try:
            if row.transport == "elsewhere":
                remote: Remote = Elsewhere(binary, row.server, here)
            else:
                remote = Remote(binary, row.transport, row.server, here, row.extra)
        except (Failed, OSError) as error:
            log = here.root / "server.log"
            return [f"{error}{tail(log.read_text(errors='replace')) if log.exists() else ''}"]
        reasons: list[str] = []
        try:
            tags = [new_tag(part) for part in row.parts]
            marks = {f"{{tag{n}}}": tag for n, tag in enumerate(tags)}
            launches = [remote.launch(part.user or tag, part.role) for part, tag in zip(row.parts, tags)]
            todo = list(zip(row.parts, tags, launches))
            verdicts: list[Verdict] = []
            for wave in row.waves:
                now, todo = todo[: len(wave)], todo[len(wave) :]
                with ThreadPoolExecutor(len(wave)) as pool:
                    jobs = [pool.submit(drive, here, part, tag, launch, marks) for part, tag, launch in now]
                    if row.kills:
                        here.kill(row.server, sum(step.get("workers", 0) for part in wave for step in part.steps))
                    if row.restarts:
                        here.meet(RESTARTED, len(wave), remote.restart)
                    verdicts += [job.result() for job in jobs]
            reasons += judge(row, directs, verdicts, here.files)
        except Failed as error:
            reasons.append(str(error))
        reasons += remote.stop()
        if row.restarts and (count := remote.log.read_text().count(REVIVED)) != len(row.parts):
            reasons.append(f"{count} sessions have gone on after the restart")
        if reasons:
            reasons.append(f"the server's stderr:{tail(remote.log.read_text(errors='replace'))}")
        return reasons


def attempt_direct(row: Row, directs: Directs) -> list[str]:
    """The direct runs of a row, alone."""
    reasons = []
    for part in row.parts:
        if part.compare:
            alone = directs.get(row.server, part)
            if alone["ok"] == row.fails:
                reasons.append(f"{part.client.name}: {alone['seen']}{tail(alone['stderr'])}")
            elif not row.fails:
                reasons += tags_missing(part, alone["seen"])
    return reasons


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = os.environ.get("MCP_REMOTE_BINARY", str(REPO / "target/release/mcp-remote"))
    parser.add_argument("--binary", type=Path, default=Path(default), help="mcp-remote (default: %(default)s)")
    parser.add_argument(
        "--examples",
        type=Path,
        default=REPO / "target/debug/examples",
        help="where the servers of the project itself are (default: %(default)s)",
    )
    parser.add_argument("--group", choices=("main", "peers", "policies", "inspector", "tolerance", "all"), default="all")
    parser.add_argument("--filter", default="", help="only rows whose title has all of these words")
    parser.add_argument("--quick", action="store_true", help="a dozen rows that touch everything once")
    parser.add_argument("--direct", action="store_true", help="only the direct runs, without mcp-remote")
    parser.add_argument("--list", action="store_true", help="print the rows and leave")
    parser.add_argument(
        "--jobs", type=int, default=max(1, min(3, os.cpu_count() or 1)), help="rows at a time (%(default)s)"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    binary = args.binary.resolve()
    chosen = [
        row
        for row in rows(args.examples.resolve())
        if args.group in (row.group, "all")
        and (row.quick or not args.quick)
        and all(word in f"{row.group} {row.title}" for word in args.filter.split())
    ]
    asked = [
        (f"{group} {server.name}", check, server)
        for group, check, those in (("policies", policy_row, servers), ("inspector", inspector_row, dual))
        for server in those(args.examples.resolve())
        if args.group in (group, "all")
        and not args.direct
        and all(word in f"{group} {server.name}" for word in args.filter.split())
    ]
    tolerant = args.group in ("tolerance", "all") and not args.direct and not args.filter
    if args.list:
        print("\n".join(f"{row.group}  {row.title}" for row in chosen))
        print("\n".join(title for title, _, _ in asked))
        return 0
    if not chosen and not asked and not tolerant:
        print("no row matches", file=sys.stderr)
        return 2
    try:
        install()
        if not args.direct and not binary.is_file():
            raise Failed(f"{binary} is missing: cargo build --release --bins")
        if not args.examples.is_dir():
            raise Failed(f"{args.examples} is missing: cargo build --examples")
    except Failed as error:
        print(f"FAILED  setup: {error}\n0 passed, {len(chosen) + len(asked)} failed", flush=True)
        return 1

    directs, failed = Directs(), 0
    started = time.monotonic()

    def one(row: Row) -> tuple[Row, list[str], float]:
        begin = time.monotonic()
        try:
            reasons = attempt_direct(row, directs) if args.direct else attempt(row, binary, directs)
        except Exception as error:  # a broken row must not end the table
            reasons = [f"{type(error).__name__}: {error}"]
        return row, reasons, time.monotonic() - begin

    def ask(what: tuple[str, Callable[[Path, Server], Iterator[str]], Server]) -> tuple[str, list[str], float]:
        (title, check, server), begin = what, time.monotonic()
        try:
            reasons = list(check(binary, server))
        except Exception as error:
            reasons = [f"{type(error).__name__}: {error}"]
        return title, reasons, time.monotonic() - begin

    def show(title: str, reasons: list[str], took: float) -> None:
        print(f"{'FAILED' if reasons else 'ok':7} {title}  ({took:.1f} s)", flush=True)
        for reason in reasons:
            print(f"    {reason}", flush=True)

    with ThreadPoolExecutor(args.jobs) as pool:
        for row, reasons, took in pool.map(one, chosen):
            failed += bool(reasons)
            show(f"{row.group:5} {row.title}", reasons, took)
        for title, reasons, took in pool.map(ask, asked):
            failed += bool(reasons)
            show(title, reasons, took)
    begin, told = time.monotonic(), 0
    for title, reasons in tolerance_rows(binary) if tolerant else ():
        failed, told = failed + bool(reasons), told + 1
        show(f"tolerance {title}", reasons, time.monotonic() - begin)
    print(f"took {time.monotonic() - started:.0f} s")
    print(f"{len(chosen) + len(asked) + told - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
