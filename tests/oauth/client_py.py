"""The OAuth client of the official Python SDK: `python client_py.py URL USER CALLS`. As client_ts.mjs."""

import asyncio
import json
import os
import re
import sys
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx2
from mcp.client import Client
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl

_, URL, USER, CALLS = sys.argv
REDIRECT = "http://127.0.0.1:9/callback"
asked: list[dict[str, str | None]] = []
scopes: list[str | None] = []
answer: dict[str, str] = {}


class Kept:
    """What the SDK keeps of its user."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens
        scopes.append(tokens.scope)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


browser = httpx2.AsyncClient(follow_redirects=False)


async def browse(start: str) -> None:
    """Follows redirects and sends off every form, as this user, until it is sent back to the client."""
    query = parse_qs(urlsplit(start).query)
    asked.append({name: query.get(name, [None])[0] for name in ("scope", "resource")})
    response = await browser.get(start)
    for _ in range(20):
        here = str(response.url)
        if location := response.headers.get("location"):
            following = urljoin(here, location)
            if following.startswith(REDIRECT):
                answer.update({name: value[0] for name, value in parse_qs(urlsplit(following).query).items()})
                return
            response = await browser.get(following)
            continue
        form = re.search(r'<form method="post" action="([^"]+)"', response.text)
        if not form:
            raise RuntimeError(f"no form on the page: {response.status_code} {response.text[:200]}")
        response = await browser.post(urljoin(here, form[1]), data={"user": USER})
    raise RuntimeError("the browser goes round in circles")


async def callback() -> AuthorizationCodeResult:
    if "code" not in answer:
        raise RuntimeError(f"the authorization server answers {answer}")
    return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer.get("iss"))


async def main() -> None:
    kept = Kept()
    metadata = OAuthClientMetadata(
        client_name="rsa", redirect_uris=[AnyUrl(REDIRECT)], token_endpoint_auth_method="none"
    )
    auth = OAuthClientProvider(URL, metadata, kept, redirect_handler=browse, callback_handler=callback)
    seen: list[Any] = []
    async with create_mcp_http_client(auth=auth) as http:
        async with Client(streamable_http_client(URL, http_client=http), mode=os.environ.get("MODE", "auto")) as client:
            for call in json.loads(CALLS):
                try:
                    result = await client.call_tool(call["name"], call["arguments"])
                    seen.append(result.content[0].text)
                except Exception as error:
                    seen.append({"error": type(error).__name__, "message": str(error)})
            tools = [tool.name for tool in (await client.list_tools()).tools]
    assert kept.tokens
    token = kept.tokens.access_token
    print(json.dumps({"seen": seen, "tools": tools, "asked": asked, "scopes": scopes, "token": token}))


asyncio.run(main())
