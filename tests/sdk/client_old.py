"""A Python SDK from before 2025 as a client: it knows the revision 2024-11-05 alone. `python client_old.py PLAN`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
from mcp import types
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl

from plan import Failure, Heard, Json, Wire, main


def dump(message: Any) -> Json:
    return message.model_dump(by_alias=True, mode="json", exclude_none=True)


class Adapter:
    """plan.Adapter over the SDK's `ClientSession`."""

    def __init__(self, session: ClientSession, wire: Wire, connected: types.InitializeResult) -> None:
        self.session, self.wire = session, wire
        self.connected = {"version": connected.protocolVersion, "server": connected.serverInfo.name}
        self._token = 0

    async def _send(self, request: Any, result: Any) -> Any:
        try:
            return await self.session.send_request(types.ClientRequest(request), result)
        except McpError as error:
            raise Failure(error.error.code, error.error.message) from error

    async def tools(self) -> list[str]:
        listed = await self._send(types.ListToolsRequest(method="tools/list"), types.ListToolsResult)
        return [tool.name for tool in listed.tools]

    async def call(self, tool: str, args: Json, heard: Heard | None = None) -> Json:
        params: Json = {"name": tool, "arguments": args}
        if heard:
            # This SDK has no progress callback; a host of its time had to pick the token and listen by itself.
            self._token += 1
            params["_meta"] = {"progressToken": self._token}
        request = types.CallToolRequest.model_validate({"method": "tools/call", "params": params})
        result = await self._send(request, types.CallToolResult)
        if heard:
            for name, note in self.wire.notes:
                if name == "notifications/progress" and note["progressToken"] == self._token:
                    heard(note["progress"], note.get("total"))
        text = "".join(getattr(item, "text", f"<{item.type}>") for item in result.content)
        return {"failed": text} if result.isError else text

    async def read(self, uri: str) -> str:
        params = types.ReadResourceRequestParams(uri=AnyUrl(uri))
        result = await self._send(
            types.ReadResourceRequest(method="resources/read", params=params), types.ReadResourceResult
        )
        return "".join(getattr(item, "text", "") or getattr(item, "blob", "") for item in result.contents)

    async def prompt(self, name: str, args: Json) -> str:
        params = types.GetPromptRequestParams(name=name, arguments=args)
        result = await self._send(types.GetPromptRequest(method="prompts/get", params=params), types.GetPromptResult)
        return "".join(getattr(message.content, "text", "") for message in result.messages)

    async def complete(self, name: str, argument: str, value: str) -> Json:
        params = types.CompleteRequestParams(
            ref=types.PromptReference(type="ref/prompt", name=name),
            argument=types.CompletionArgument(name=argument, value=value),
        )
        request = types.CompleteRequest(method="completion/complete", params=params)
        completion = (await self._send(request, types.CompleteResult)).completion
        return [completion.values, completion.total, completion.hasMore]

    async def resources(self, cursor: str | None) -> tuple[list[str], str | None]:
        # This SDK puts a cursor beside the parameters, where no server looks for it: one page has to do.
        assert cursor is None
        page = await self._send(types.ListResourcesRequest(method="resources/list"), types.ListResourcesResult)
        return [str(resource.uri) for resource in page.resources], None

    async def ping(self) -> Json:
        return dump(await self._send(types.PingRequest(method="ping"), types.EmptyResult))

    async def level(self, level: Any) -> None:
        params = types.SetLevelRequestParams(level=level)
        await self._send(types.SetLevelRequest(method="logging/setLevel", params=params), types.EmptyResult)

    async def subscribe(self, uri: str) -> None:
        params = types.SubscribeRequestParams(uri=AnyUrl(uri))
        await self._send(types.SubscribeRequest(method="resources/subscribe", params=params), types.EmptyResult)


@asynccontextmanager
async def connect(plan: Json, wire: Wire) -> AsyncIterator[Adapter]:
    async with stdio_client(StdioServerParameters(**plan["launch"])) as (read, write):
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
            async with ClientSession(from_server, to_server) as session:

                async def drain() -> None:
                    # This SDK stops reading when nobody takes what the server sends of its own accord.
                    async for message in session.incoming_messages:
                        if not isinstance(message, Exception | types.ServerNotification):
                            error = types.ErrorData(code=types.METHOD_NOT_FOUND, message="Method not found")
                            await message.respond(error)

                tasks.start_soon(drain)
                yield Adapter(session, wire, await session.initialize())
            tasks.cancel_scope.cancel()


main(connect)
