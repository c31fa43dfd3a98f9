"""An MCP server that answers each tool call in its own odd way: `python odd_server.py [HABIT …]`.

A HABIT is a protocol version (it refuses every other one), `silent-once=FILE` (it answers nothing unless there is this
file, which it makes), `slow-start=SECONDS`, `small` (it ends at a line of more than 10 MiB, as servers on the
TypeScript SDK do), or `stormy` (with each list it says that the list has changed). A call of `late` is answered when
the client cancels it, one of `chatty` after much on stderr, one of `slow` after more than a second; after one of `deaf`
it reads no more, and lives on.
"""

import json
import os
import sys
import time
from pathlib import Path

RESULT = '{"content":[{"type":"text","text":"ok"}]}'
ANSWER = f'{{"jsonrpc":"2.0","id":ID,"result":{RESULT}}}'
ERROR = '{"code":-32000,"message":"the server\'s own error"}'
STRAY = '{"jsonrpc":"2.0","id":987654,"result":{}}'


def meta(value: str) -> str:
    """An answer that brings this, too."""
    return ANSWER.replace('{"content"', f'{{"_meta":{{"x":{value}}},"content"')


# ID stands for the id of the call.
KINDS = {
    "plain": ANSWER,
    "id as text": ANSWER.replace("ID", '"ID"'),
    "id with .0": ANSWER.replace("ID", "ID.0"),
    "id with .00": ANSWER.replace("ID", "ID.00"),
    "error, id as text": f'{{"jsonrpc":"2.0","id":"ID","error":{ERROR}}}',
    "result, error null": f'{{"jsonrpc":"2.0","id":ID,"result":{RESULT},"error":null}}',
    "error, result null": f'{{"jsonrpc":"2.0","id":ID,"result":null,"error":{ERROR}}}',
    "_meta null": ANSWER.replace('{"content"', '{"_meta":null,"content"'),
    "a notice first": f"npm notice New version\r{ANSWER}",
    "a line of junk first": f"Ready.\n{ANSWER}",
    "an empty line first": f"\n{ANSWER}",
    "byte order mark": f"\ufeff{ANSWER}",
    "words around it": f"Ready. {ANSWER} (3 ms)",
    "two on a line": f"{STRAY}{ANSWER}",
    "no jsonrpc": ANSWER.replace('"jsonrpc":"2.0",', ""),
    "carriage return": f"{ANSWER}\r",
    "spaces": f"  {ANSWER}  ",
    "half a character": meta(r'"\ud83d"'),
    "a member twice": meta('1,"x":2'),
    "a huge number": meta("1e400"),
    "a long number": meta("123456789012345678901234567890.5e-7"),
    "escapes": meta(r'"\u0000\/\u007f"'),
    "deep nesting": meta("[" * 500 + "]" * 500),
    "a result with more": ANSWER.replace('{"content"', '{"structuredContent":{"x":null},"isError":false,"content"'),
    "more beside it": ANSWER.replace('"result"', '"extra":[1],"result"'),
    "error with data null": f'{{"jsonrpc":"2.0","id":ID,"error":{ERROR[:-1]},"data":null}}}}',
    "not a number": meta("[NaN,Infinity,-Infinity]"),
    "not UTF-8": meta('"\udcff \udce9"'),
    "after a stray answer": f"{STRAY}\n{ANSWER}",
}


def habits() -> dict[str, str]:
    """What follows the equals sign, by name; a version under `only`."""
    words = [word if not word[:1].isdigit() else f"only={word}" for word in sys.argv[1:]]
    return dict(word.partition("=")[::2] for word in words)


def deaf() -> None:
    """Reads no more, and lives on."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    time.sleep(600)


def main() -> None:
    habit = habits()
    only, late, changed = habit.get("only"), None, "notifications/tools/list_changed"
    time.sleep(float(habit.get("slow-start", 0)))
    if "silent-once" in habit and not Path(habit["silent-once"]).exists():
        Path(habit["silent-once"]).touch()
        for _ in sys.stdin.buffer:
            pass
        return

    def write(line: str) -> None:
        sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
        sys.stdout.buffer.flush()

    def say(line: str, asked: object) -> None:
        write(line.replace("ID", json.dumps(asked)))

    def answer(asked: object, outcome: dict[str, object]) -> None:
        write(json.dumps({"jsonrpc": "2.0", "id": asked} | outcome))

    for line in sys.stdin.buffer:
        if "small" in habit and len(line) > 10 << 20:
            sys.exit(1)
        message = json.loads(line)
        method, asked, params = message.get("method"), message.get("id"), message.get("params") or {}
        if method == "notifications/cancelled" and params.get("requestId") == late:
            say(ANSWER, late)
        if method is None or asked is None:
            continue
        if method == "initialize":
            version = params["protocolVersion"]
            info = {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": {"name": "odd", "version": "1"}}
            refused = {"code": -32602, "message": f"Unsupported protocol version {version}"}
            outcome = {"error": refused} if only and version != only else {"result": info}
            answer(asked, outcome)
        elif method == "tools/call" and params["name"] == "late":
            late = asked
        elif method == "tools/call" and params["name"] == "deaf":
            say(ANSWER, asked)
            deaf()
        elif method == "tools/call":
            if params["name"] == "chatty":
                sys.stderr.write(("x" * 1023 + "\n") * 1024)
                sys.stderr.flush()
            elif params["name"] == "slow":
                time.sleep(1.2)
            say(KINDS.get(params["name"], ANSWER), asked)
        else:
            if method == "tools/list" and "stormy" in habit:
                write(json.dumps({"jsonrpc": "2.0", "method": changed}))
            names = (*KINDS, "late", "chatty", "slow", "deaf")
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
            result = {"tools": tools} if method == "tools/list" else {}
            answer(asked, {"result": result})


if __name__ == "__main__":
    main()
