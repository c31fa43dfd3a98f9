"""A stdio MCP server on the official Python SDK that serves legacy and modern clients.

Every answer quotes the `tag` that its caller sent, so that an answer which reaches the wrong client shows. It keeps
no state about its clients beyond what MCP itself asks for (log level, subscriptions), as a server that is to be
shared must.
"""

import asyncio
import sys
import warnings
from typing import Annotated, Any

from mcp.server.mcpserver import Context, Elicit, ListRoots, MCPServer, Resolve, Sample
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import (
    Completion,
    CompletionArgument,
    CreateMessageResult,
    EmptyResult,
    ListRootsResult,
    LoggingLevel,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel

# Logging, sampling and roots are deprecated since 2026-07-28, but legacy clients live on them.
warnings.simplefilter("ignore", MCPDeprecationWarning)

LEVELS: list[LoggingLevel] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
MODERN = "2026-07-28"

server = MCPServer("py-server", version="1.0.0", log_level="WARNING")
cancelled_tags: list[str] = []
subscribed: set[str] = set()
level: LoggingLevel = "debug"


@server.tool()
async def echo(text: str, tag: str) -> str:
    """Answer with the tag and the text."""
    return f"{tag}: {text}"


@server.tool()
async def slow(ms: int, tag: str, ctx: Context, steps: int = 4) -> str:
    """Work for `ms` milliseconds and report progress `steps` times."""
    try:
        for step in range(1, steps + 1):
            await asyncio.sleep(ms / 1000 / steps)
            await ctx.report_progress(step, steps, tag)
    except asyncio.CancelledError:
        cancelled_tags.append(tag)
        raise
    return f"{tag}: done after {steps} steps"


@server.tool()
async def cancelled() -> str:
    """Name the tags whose `slow` calls were cancelled."""
    return "cancelled: " + " ".join(cancelled_tags)


@server.tool()
async def whoami(ctx: Context) -> str:
    """Name the client as this server knows it."""
    # The handshake (legacy) or the request's own _meta (modern) says who calls.
    params = ctx.session.client_params
    return f"you are {params.client_info.name if params else 'unknown'}"


@server.tool()
async def fail(tag: str) -> str:
    """Fail, with the tag in the error."""
    raise ToolError(f"{tag}: failed as asked")


@server.tool()
async def log(tag: str, ctx: Context) -> str:
    """Send one log message of each level."""
    for name in LEVELS:
        if ctx.protocol_version == MODERN or LEVELS.index(name) >= LEVELS.index(level):
            await ctx.log(name, f"{tag}: {name}")  # the SDK filters for modern clients
    return f"{tag}: logged"


@server.tool()
async def touch(uri: str, ctx: Context) -> str:
    """Say that a resource was updated."""
    if ctx.protocol_version == MODERN:
        await ctx.notify_resource_updated(uri)
    elif uri in subscribed:
        await ctx.session.send_resource_updated(uri)
    return f"touched {uri}"


@server.tool()
async def announce(ctx: Context) -> str:
    """Say that the list of tools changed."""
    if ctx.protocol_version == MODERN:
        await ctx.notify_tools_changed()
    else:
        await ctx.session.send_tool_list_changed()
    return "announced"


class Name(BaseModel):
    """What `ask` asks the user for."""

    name: str


async def ask_name(tag: str) -> Elicit[Name]:
    return Elicit(f"{tag} asks for a name", Name)


async def ask_model(tag: str) -> Sample:
    content = TextContent(type="text", text=f"{tag} asks the model")
    return Sample([SamplingMessage(role="user", content=content)], max_tokens=50)


async def ask_roots() -> ListRoots:
    return ListRoots()


# A resolver becomes a request to a legacy client and an `input_required` answer to a modern one.
@server.tool()
async def ask(tag: str, answer: Annotated[Name, Resolve(ask_name)]) -> str:
    """Ask the user for a name."""
    return f"{tag}: user said {answer.name}"


@server.tool()
async def sample(tag: str, answer: Annotated[CreateMessageResult, Resolve(ask_model)]) -> str:
    """Ask the client's model."""
    return f"{tag}: model said {getattr(answer.content, 'text', answer.content)}"


@server.tool()
async def roots(tag: str, answer: Annotated[ListRootsResult, Resolve(ask_roots)]) -> str:
    """Ask for the client's roots."""
    return f"{tag}: roots are {[str(root.uri) for root in answer.roots]}"


@server.resource("note://one")
def note_one() -> str:
    """A note that is always there."""
    return "the first note"


@server.resource("note://by/{name}")
def note_by(name: str) -> str:
    """A note that quotes the name in its address."""
    return f"a note by {name}"


@server.prompt()
def greet(name: str) -> str:
    """A prompt that quotes its argument."""
    return f"Please greet {name}."


@server.completion()
async def complete(_ref: Any, argument: CompletionArgument, _context: Any) -> Completion:
    return Completion(values=[f"{argument.value}-one", f"{argument.value}-two"], total=2, has_more=False)


async def on_set_level(_ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
    global level
    level = params.level
    return EmptyResult()


async def on_subscribe(_ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
    subscribed.add(str(params.uri))
    return EmptyResult()


async def on_unsubscribe(_ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
    subscribed.discard(str(params.uri))
    return EmptyResult()


# MCPServer offers no legacy subscriptions and no log level by itself; the server beneath it does.
low = server._lowlevel_server
low.add_request_handler("logging/setLevel", SetLevelRequestParams, on_set_level)
low.add_request_handler("resources/subscribe", SubscribeRequestParams, on_subscribe)
low.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, on_unsubscribe)

if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
