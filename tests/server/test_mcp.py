"""The tools at ``/mcp``, asked by the protocol's own client over a real connection."""

import asyncio
import base64
import io
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from serving import Running

from opensora.server.fields import FIELDS, UPLOADS
from opensora.server.mcp_tools import TOOLS

PNG = io.BytesIO()
Image.new("RGB", (256, 144), "seagreen").save(PNG, "PNG")
PICTURE = PNG.getvalue()


def in_a_loop(work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """What a coroutine returns; in a thread of its own, for a browser's tests leave a loop running in theirs."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def asking(running: Running, user: str | None) -> dict[str, Any]:
    """Use every tool; what they answered."""
    headers = {"Authorization": f"Bearer {running.keys[user]}"} if user else {}
    said: dict[str, Any] = {}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{running.url}/mcp", http_client=http)) as client,
    ):
        said["tools"] = {tool.name: tool for tool in (await client.list_tools()).tools}

        async def call(name: str, **values: Any) -> Any:
            answer = await client.call_tool(name, values)
            return answer.is_error, answer.structured_content, answer.content[0].text

        said["made"] = await call("generate_video", prompt="a red ball", length="17f", seed=7)
        job = said["made"][1]["id"]
        while (await call("video_status", id=job))[1]["status"] != "done":
            await asyncio.sleep(0.05)
        said["result"] = await call("video_result", id=job)
        said["cancelled"] = await call("cancel_video", id=job)
        said["listed"] = await call("list_videos", limit=1)
        said["bad"] = await call("generate_video", prompt="a red ball", reference_image="/etc/passwd")
        said["given"] = await call(
            "generate_video", prompt="a red ball", length="17f", reference_image=base64.b64encode(PICTURE).decode()
        )
        said["unknown"] = await call("video_status", id="x")
        said["no id"] = await call("video_status")
        said["no tool"] = await call("shell", command="ls")
    return said


def test_an_assistant_makes_a_video(local: Running) -> None:
    said = in_a_loop(asking(local, None))
    assert set(said["tools"]) == set(TOOLS)
    assert said["tools"]["generate_video"].input_schema["required"] == ["prompt"]
    failed, made, _ = said["made"]
    assert not failed and made["status"] in ("queued", "running", "done")
    failed, result, _ = said["result"]
    url = result["files"][0]["url"]
    assert not failed and url.startswith(local.url)
    with local.client() as http:
        assert http.get(url).content[4:8] == b"ftyp"
    assert said["cancelled"][1]["status"] == "done"
    assert [view["id"] for view in said["listed"][1]["data"]] == [made["id"]]
    assert said["bad"][0] and said["bad"][1]["error"]["field"] == "reference_image"
    assert "not a path" in said["bad"][2]
    failed, given, _ = said["given"]
    assert not failed and given["request"]["cond_type"] == "i2v_head"
    properties = said["tools"]["generate_video"].input_schema["properties"]
    assert set(properties) == {*FIELDS, *UPLOADS, "priority", "webhook_url"}
    assert said["unknown"][0] and "There is no such video" in said["unknown"][2]
    assert said["no id"][0] and said["no tool"][0] and "the tools are generate_video" in said["no tool"][2]


def test_an_assistant_needs_a_key_where_there_is_a_login(guarded: Running) -> None:
    with guarded.client() as client:
        answer = client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert answer.status_code == 401
    assert in_a_loop(asking(guarded, "ada"))["result"][1]["status"] == "done"
    with guarded.client("bob") as bob:
        assert bob.get("/v1/videos").json()["data"] == []


async def refused(running: Running) -> dict[str, Any]:
    """What an assistant is told of a video that does not fit."""
    async with (
        httpx2.AsyncClient(timeout=60) as http,
        Client(streamable_http_client(f"{running.url}/mcp", http_client=http)) as client,
    ):
        answer = await client.call_tool("generate_video", {"prompt": "a red ball", "length": "65f"})
        return {"failed": answer.is_error, **answer.structured_content["error"]}


def test_an_assistant_is_told_what_would_fit(local: Running, full: None) -> None:
    said = in_a_loop(refused(local))
    assert said["failed"] and said["type"] == "does_not_fit" and "to 17f instead of 65f" in said["message"]
