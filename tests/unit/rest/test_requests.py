"""Requests with equal headers: read once, told apart by query, method and path."""

from __future__ import annotations

import gc
import weakref

from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from harness.servers.caller import NOBODY
from harness.servers.gateway import GatewayRequest
from harness.servers.project import HeaderRules, Passage
from harness.servers.rest.request import RequestReader, RestRequest

SCHEMAS = ("public", "api")
SHARED = HeaderRules("", {}, shared=True)


def request(
    target: str,
    rules: HeaderRules = SHARED,
    method: str = "GET",
    headers: dict[str, str] | None = None,
) -> web.BaseRequest:
    made = make_mocked_request(method, target, CIMultiDict(headers or {}))
    http = GatewayRequest(
        made._message,
        made._payload,
        made._protocol,
        made._payload_writer,
        made._task,
        made._loop,
    )
    http.passage = Passage(rules, "", "", "")
    return http


def read(reader: RequestReader, http: web.BaseRequest) -> RestRequest:
    path = http.raw_path.partition("?")[0]
    return reader.read(http, path, NOBODY, SCHEMAS)


def test_what_the_headers_say_is_read_once() -> None:
    reader = RequestReader()
    first, second = request("/films?id=eq.1"), request("/films?id=eq.2")
    told = [read(reader, http) for http in (first, second)]
    assert {each.resource for each in told} == {"films"}
    assert told[1].preferences is told[0].preferences


def test_methods_paths_and_headers_are_told_apart() -> None:
    reader = RequestReader()
    other = HeaderRules("", {}, shared=True)
    profile = {"Accept-Profile": "api"}
    seen = [
        read(reader, request("/films")),
        read(reader, request("/films", method="HEAD")),
        read(reader, request("/actors")),
        read(reader, request("/films", other, headers=profile)),
    ]
    assert [(each.method, each.resource, each.schema) for each in seen] == [
        ("GET", "films", "public"),
        ("HEAD", "films", "public"),
        ("GET", "actors", "public"),
        ("GET", "films", "api"),
    ]


def test_headers_that_are_not_shared_are_read_each_time() -> None:
    reader = RequestReader()
    alone = HeaderRules("", {}, shared=False)
    assert read(reader, request("/films", alone)).schema == "public"
    changed = request("/films", alone, headers={"Accept-Profile": "api"})
    assert read(reader, changed).schema == "api"


def test_what_is_remembered_holds_no_request() -> None:
    reader = RequestReader()
    http = request("/films", method="POST")
    read(reader, http)
    gone = weakref.ref(http)
    del http
    gc.collect()
    assert gone() is None
