"""An MCP server that answers everything and writes down what it parsed, one JSON line per message.

Reads as servers on the Python SDK do: a text stream of its own, which ends lines at a bare CR, too
(`sys.stdin` would not), and `json`; members are taken by their alias or by their name in Python, as
pydantic does with `populate_by_name`.
"""

import io
import json
import re
import sys


def member(value, *names):
    if isinstance(value, dict):
        for name in names:
            if name in value:
                return value[name]
    return None


def plain(value):
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def main():
    out = open(sys.argv[1], "a", encoding="ascii")
    for line in io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8"):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
            if not line.strip():
                continue
            print("recorder: not JSON", file=sys.stderr)
            continue
        for message in value if isinstance(value, list) else [value]:
            params = member(message, "params")
            meta = member(params, "_meta", "meta")
            record = {
                "object": isinstance(value, dict),
                "answer": member(message, "result", "error") is not None,
                "method": plain(member(message, "method")),
                "id": plain(member(message, "id")),
                "name": plain(member(params, "name")),
                "uri": plain(member(params, "uri")),
                "requestId": plain(member(params, "requestId", "request_id")),
                "taskId": plain(member(params, "taskId", "task_id")),
                "progressToken": plain(member(meta, "progressToken", "progress_token")),
            }
            out.write(json.dumps(record) + "\n")
            out.flush()
            if record["method"] is not None and member(message, "id") is not None:
                answer = {"jsonrpc": "2.0", "id": message["id"], "result": {"method": record["method"]}}
                if record["method"] == "server/discover":
                    del answer["result"]
                    answer["error"] = {"code": -32601, "message": "Method not found"}
                print(json.dumps(answer), flush=True)


main()
