"""An MCP host for the client scenarios of the conformance suite: it runs `mcp-remote client http` as its stdio
server, lists what there is, and calls and reads it. The suite appends the URL of its server:
host.py PATH_OF_MCP_REMOTE URL"""

import json
import os
import subprocess
import sys

MODERN = "2026-07-28"
EXAMPLES = {"string": "x", "integer": 1, "number": 2, "boolean": True, "array": [], "object": {}}


class Host:
    def __init__(self, command, modern):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.modern = modern
        self.last = 0

    def send(self, message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def ask(self, method, params=None, version=MODERN):
        """The answer to a request; what the server asks meanwhile is accepted."""
        self.last += 1
        params = dict(params or {})
        if self.modern:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": {"name": "host", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
            }
        self.send({"id": self.last, "method": method, "params": params})
        for line in self.process.stdout:
            message = json.loads(line)
            if message.get("method") == "elicitation/create":
                self.send({"id": message["id"], "result": accept(message["params"])})
            elif message.get("id") == self.last:
                return message
        sys.exit(f"no answer to {method}")

    def result(self, method, params=None):
        answer = self.ask(method, params)
        return answer.get("result", {})

    def call(self, name, arguments, between=None):
        params = {"name": name, "arguments": arguments}
        result = self.result("tools/call", params)
        if result.get("resultType") == "input_required":
            if between:
                self.result("tools/call", {"name": between, "arguments": {}})
            requests = result.get("inputRequests", {})
            params["inputResponses"] = {key: accept(it["params"]) for key, it in requests.items()}
            if "requestState" in result:
                params["requestState"] = result["requestState"]
            self.result("tools/call", params)

    def begin(self):
        if not self.modern:
            client = {"name": "host", "version": "1"}
            self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": client})
            return self.send({"method": "notifications/initialized"})
        answer = self.ask("server/discover")
        if answer.get("error", {}).get("code") == -32022:
            answer = self.ask("server/discover", version=answer["error"]["data"]["supported"][0])

    def leave(self):
        self.process.stdin.close()
        return self.process.wait(10)


def accept(params):
    properties = params.get("requestedSchema", {}).get("properties", {})
    content = {name: it.get("default", EXAMPLES.get(it.get("type"))) for name, it in properties.items()}
    return {"action": "accept", "content": content}


def example(schema):
    properties = schema.get("properties", {})
    return {name: EXAMPLES.get(properties.get(name, {}).get("type"), "x") for name in schema.get("required", [])}


def arguments(tool, tools):
    """Examples for what a tool requires; a schema is that of another tool, as the host has received it."""
    made = example(tool.get("inputSchema", {}))
    if "schema" in made:
        made["schema"] = next(other["inputSchema"] for other in tools if other["name"] != tool["name"])
    return made


def main():
    program, url = sys.argv[1:]
    modern = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION") == MODERN
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    host = Host([program, "client", "http", "--url", url], modern)
    host.begin()
    tools = host.result("tools/list").get("tools", [])
    names = [tool["name"] for tool in tools]
    calls = context.get("toolCalls")
    if calls is None:
        calls = [{"name": tool["name"], "arguments": arguments(tool, tools)} for tool in tools]
    unrelated = next((name for name in names if name.endswith("_unrelated")), None)
    for call in calls:
        if call["name"] in names:
            host.call(call["name"], call["arguments"], unrelated)
    for resource in host.result("resources/list").get("resources", []):
        host.result("resources/read", {"uri": resource["uri"]})
    for prompt in host.result("prompts/list").get("prompts", []):
        host.result("prompts/get", {"name": prompt["name"]})
    sys.exit(host.leave())


main()
