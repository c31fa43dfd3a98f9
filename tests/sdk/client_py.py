"""The official Python SDK 2.x as a client: `python client_py.py PLAN`."""

import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import mcp_types as types
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from mcp.shared.exceptions import MCPError

from plan import Failure, Heard, Json, Wire, main

warnings.simplefilter("ignore")
MODES = {"auto": "auto", "legacy": "legacy", "modern": "2026-07-28"}


def dump(message: Any) -> Json:
    return message.message.model_dump(by_alias=True, mode="json", exclude_none=True)


@asynccontextmanager
async def transport(launch: Json) -> AsyncIterator[Any]:
    """The SDK's stdio transport, or, by URL, that over HTTP."""
    if "url" not in launch:
        async with stdio_client(StdioServerParameters(**launch)) as streams:
            yield streams
        return
    headers = {"Authorization": f"Bearer {launch['token']}"}
    async with create_mcp_http_client(headers=headers) as client:
        async with streamable_http_client(launch["url"], http_client=client) as streams:
            yield streams


@asynccontextmanager
async def tapped(launch: Json, wire: Wire) -> AsyncIterator[Any]:
    """A transport of the SDK, with a record of what crosses it."""
    async with transport(launch) as (read, write):
        to_client, from_server = anyio.create_memory_object_stream[Any](0)
        to_server, from_client = anyio.create_memory_object_stream[Any](0)

        async def inward() -> None:
            async with read, to_client:
                async for message in read:
                    if not isinstance(message, Exception):
                        wire.received(dump(message))
                    # A list may have changed just when the client has closed.
                    with suppress(anyio.BrokenResourceError):
                        await to_client.send(message)

        async def outward() -> None:
            async with from_client, write:  # the SDK's writer ends when its stream is closed
                async for message in from_client:
                    wire.sent(dump(message))
                    await write.send(message)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inward)
            tasks.start_soon(outward)
            yield from_server, to_server
            await anyio.sleep(0.05)  # what the SDK wrote last, such as a cancellation, is still on its way
            tasks.cancel_scope.cancel()


def failing(method: Any) -> Any:
    """Turns the SDK's error into ours."""

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except MCPError as error:
            raise Failure(error.error.code, error.error.message) from error

    return wrapped


class Adapter:
    """plan.Adapter over the SDK's `Client`."""

    def __init__(self, client: Client, stack: AsyncExitStack) -> None:
        self.client, self.stack = client, stack
        info = client.server_info
        self.connected = {"version": client.protocol_version, "server": info.name if info else None}

    @failing
    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.client.list_tools(cache_mode="bypass")).tools]

    @failing
    async def call(self, tool: str, args: Json, heard: Heard | None = None) -> Json:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            if heard:
                heard(progress, total)

        result = await self.client.call_tool(tool, args, progress_callback=on_progress if heard else None)
        text = "".join(getattr(item, "text", f"<{item.type}>") for item in result.content)
        return {"failed": text} if result.is_error else text

    @failing
    async def read(self, uri: str) -> str:
        result = await self.client.read_resource(uri, cache_mode="bypass")
        return "".join(getattr(item, "text", "") or getattr(item, "blob", "") for item in result.contents)

    @failing
    async def prompt(self, name: str, args: Json) -> str:
        messages = (await self.client.get_prompt(name, args)).messages
        return "".join(getattr(message.content, "text", "") for message in messages)

    @failing
    async def complete(self, name: str, argument: str, value: str) -> Json:
        ref = types.PromptReference(type="ref/prompt", name=name)
        completion = (await self.client.complete(ref, {"name": argument, "value": value})).completion
        return [completion.values, completion.total, completion.has_more]

    @failing
    async def resources(self, cursor: str | None) -> tuple[list[str], str | None]:
        page = await self.client.list_resources(cursor=cursor, cache_mode="bypass")
        return [str(resource.uri) for resource in page.resources], page.next_cursor

    @failing
    async def ping(self) -> Json:
        return (await self.client.send_ping()).model_dump(exclude_none=True, exclude={"meta", "result_type"})

    @failing
    async def level(self, level: types.LoggingLevel) -> None:
        await self.client.set_logging_level(level)

    @failing
    async def subscribe(self, uri: str) -> None:
        await self.client.subscribe_resource(uri)

    @failing
    async def unsubscribe(self, uri: str) -> None:
        await self.client.unsubscribe_resource(uri)

    @failing
    async def listen(self, step: Json) -> Json:
        listening = self.client.listen(
            tools_list_changed=step.get("tools", False), resource_subscriptions=step.get("uris", ())
        )
        honored = (await self.stack.enter_async_context(listening)).honored
        return honored.model_dump(by_alias=True, exclude_none=True)


@asynccontextmanager
async def connect(plan: Json, wire: Wire) -> AsyncIterator[Adapter]:
    tag = plan["tag"]

    async def on_sample(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        content = params.messages[-1].content
        content = content[0] if isinstance(content, list) else content
        text = types.TextContent(type="text", text=f"{tag} heard: {getattr(content, 'text', '')}")
        return types.CreateMessageResult(role="assistant", content=text, model=f"model-of-{tag}")

    async def on_elicit(_context: Any, _params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": f"name-of-{tag}"})

    async def on_roots(_context: Any) -> types.ListRootsResult:
        return types.ListRootsResult.model_validate({"roots": [{"uri": f"file:///{tag}", "name": tag}]})

    able: dict[str, Any] = {
        "sampling_callback": on_sample,
        "elicitation_callback": on_elicit,
        "list_roots_callback": on_roots,
    }
    async with AsyncExitStack() as stack:
        client = Client(
            tapped(plan["launch"], wire),
            mode=MODES[plan["mode"]],
            client_info=types.Implementation(name=tag, version="1"),
            log_level=plan.get("log_level"),
            **(able if plan["able"] else {}),
        )
        yield Adapter(await stack.enter_async_context(client), stack)


main(connect)
