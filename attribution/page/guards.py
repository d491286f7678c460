"""Stand before Gradio: which routes are open, what may come in, who may wait, and what a browser is told to forbid.

In: requests, as the server reads them. Out: requests that are whole, small enough and on an open route, in which an
upload is a random name and nothing is a path. It holds all that reaches into Gradio's own parts (written for 6.31, see
`VERSION`).
"""

import base64
import hashlib
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradio import EventData
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse

from attribution.errors import InputError
from attribution.page.language import say, spoken
from attribution.page.uploads import Uploads

VERSION = "6.31"  # of Gradio, whose routes and queue are known here
API = "/gradio_api"
OPEN = {  # path -> what needs it
    "/": "the page",
    "/config": "clients: what the page is made of",
    "/config/": "clients",
    "/static/{path:path}": "the page's parts",
    "/assets/{path:path}": "the page's parts",
    "/svelte/{path:path}": "the page's parts",
    "/theme.css": "the page's style",
    "/favicon.ico": "browsers ask for it",
    "/robots.txt": "crawlers ask for it",
    "/manifest.json": "browsers ask for it",
    f"{API}/theme.css": "the page's style",
    f"{API}/app_id": "the page asks whether the server was started anew",
    f"{API}/app_id/": "the page",
    f"{API}/info": "clients: which endpoints there are",
    f"{API}/info/": "clients",
    f"{API}/startup-events": "the server starts its queue with it",
    f"{API}/heartbeat/{{session_hash}}": "tells when a visitor leaves",
    f"{API}/queue/join": "every event",
    f"{API}/queue/data": "every answer",
    f"{API}/queue/status": "clients: how many wait",
    f"{API}/cancel": "clients: stop waiting",
    f"{API}/reset": "clients",
    f"{API}/reset/": "clients",
    f"{API}/call/{{api_name}}": "programs without a client: ask",
    f"{API}/call/{{api_name}}/": "programs",
    f"{API}/call/{{api_name}}/{{event_id}}": "programs: read the answer",
    f"{API}/call/v2/{{api_name}}": "programs",
    f"{API}/call/v2/{{api_name}}/": "programs",
    f"{API}/call/v2/{{api_name}}/{{event_id}}": "programs",
    f"{API}/upload": "answered here: an upload stays in memory",
    f"{API}/upload_progress": "answered here: the page waits for the end of its upload anyway",
    f"{API}/file={{path_or_url:path}}": "pictures that the model drew for programs, of this server's own folder alone",
}
CLOSED = {  # path -> why nobody needs it
    "/openapi.json": "describes routes that are closed",
    "/login": "there are no accounts",
    "/login/": "there are no accounts",
    "/logout": "there are no accounts",
    "/gradio_api/deep_link": "writes a visitor's state to disk for whoever has the link",
    "/monitoring": "shows who asks what",
    "/monitoring/summary": "shows who asks what",
    "/monitoring/{key}": "shows who asks what",
    "/pwa_icon": "the page is no app to install",
    "/pwa_icon/{size}": "the page is no app to install",
    f"{API}/user": "there are no accounts",
    f"{API}/user/": "there are no accounts",
    f"{API}/login_check": "there are no accounts",
    f"{API}/login_check/": "there are no accounts",
    f"{API}/token": "there are no accounts",
    f"{API}/token/": "there are no accounts",
    f"{API}/dev/reload": "for developing",
    f"{API}/runs": "no history is kept",
    f"{API}/runs/": "no history is kept",
    f"{API}/openapi.json": "describes routes that are closed",
    f"{API}/custom_component/{{id}}/{{environment}}/{{type}}/{{file_name}}": "there is none",
    f"{API}/proxy={{url_path:path}}": "fetches addresses",
    f"{API}/file/{{path:path}}": "an old name of file=",
    f"{API}/stream/{{event_id}}": "nothing is streamed",
    f"{API}/stream/{{event_id}}/close": "nothing is streamed",
    f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist.m3u8": "nothing is streamed",
    f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/{{segment_id}}.{{ext}}": "nothing is streamed",
    f"{API}/stream/{{session_hash}}/{{run}}/{{component_id}}/playlist-file": "nothing is streamed",
    f"{API}/run/{{api_name}}": "passes the queue by",
    f"{API}/run/{{api_name}}/": "passes the queue by",
    f"{API}/api/{{api_name}}": "passes the queue by",
    f"{API}/api/{{api_name}}/": "passes the queue by",
    f"{API}/component_server": "no component has functions on the server",
    f"{API}/component_server/": "no component has functions on the server",
    f"{API}/process_recording": "nothing is recorded",
    f"{API}/vibe-edit/": "for developing",
    f"{API}/vibe-edit": "for developing",
    f"{API}/undo-vibe-edit/": "for developing",
    f"{API}/undo-vibe-edit": "for developing",
    f"{API}/vibe-code/": "for developing",
    f"{API}/vibe-code": "for developing",
    f"{API}/vibe-starter-queries/": "for developing",
    f"{API}/vibe-starter-queries": "for developing",
}
TOOLS = f"{API}/mcp"  # open below it where the settings offer tools
MOST_BODY = 4 * 2**20  # bytes of a request that is no upload
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = (  # handlers that run in the browser are compiled there, hence unsafe-eval
    "default-src 'self'; script-src 'self' 'nonce-{nonce}' '{script}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
)
FULL = "Too many requests are waiting; try again when yours are answered."
SESSION = re.compile(
    r"[A-Za-z0-9_-]{1,64}"
)  # the page's has letters and digits, a client's is a UUID
DEAR = ("model", "marks", "long")  # concurrency ids whose events count; light ones never wait long
Scope, Receive, Send = dict, Callable[[], Awaitable[dict]], Callable[[dict], Awaitable[None]]


class TooLarge(Exception):
    """A request's body is longer than it may be."""


def pattern(template: str) -> str:
    """Write a route's path as a regular expression."""
    parts = re.split(r"(\{.*?\})", template)
    whole = (re.escape(p) if i % 2 == 0 else ".*" if p.endswith(":path}") else "[^/]+" for i, p in enumerate(parts))  # fmt: skip
    return "".join(whole)


OPEN_PATHS = re.compile("|".join(map(pattern, OPEN)))


def sender_of(request: Any) -> str:
    """Tell who sent a request: the address, on a Space the one that its proxy saw."""
    if "SPACE_ID" in os.environ and (passed_on := request.headers.get("x-forwarded-for")):
        return passed_on.split(",")[-1].strip()
    return request.client.host if request.client else ""


@dataclass
class Doors:
    """Answer or refuse what no handler should see, and pass on the rest (an ASGI middleware)."""

    app: Any
    uploads: Uploads
    most_upload: int  # bytes
    served: Path  # the folder of pictures drawn for programs
    script: str = ""  # what Gradio puts into the page's head by itself, without a nonce
    tools: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self.answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let Gradio do so, with headers that say what a browser is to forbid."""
        path, nonce = scope["path"], secrets.token_urlsafe(16)
        send = headed(send, POLICY.format(nonce=nonce, script=hash_of_script(self.script)))
        most = self.most_upload + 2**16 if path == f"{API}/upload" else MOST_BODY
        answer = self.app
        if not self.is_open(path):
            answer = PlainTextResponse("Not found", 404)
        elif path == f"{API}/upload":
            answer = self.receive_upload
        elif path == f"{API}/upload_progress":
            answer = PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")
        elif path == "/" and scope["method"] == "GET":
            send = with_nonce(send, nonce)
        try:
            await answer(scope, limited(scope, receive, most), send)
        except TooLarge:
            text = say("The request is larger than {most} MB; make it smaller.", most=most // 2**20)
            await PlainTextResponse(text, 413)(scope, receive, send)

    def is_open(self, path: str) -> bool:
        """Tell whether a path leads to something that is needed."""
        if self.tools and (path == TOOLS or path.startswith(f"{TOOLS}/")):
            return True
        if path.startswith(f"{API}/file="):
            wanted = path.removeprefix(f"{API}/file=")
            return ".." not in wanted and Path(wanted).is_relative_to(self.served)
        return bool(OPEN_PATHS.fullmatch(path))

    async def receive_upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep one upload in memory, and answer with the name to ask for it by."""
        request = Request(scope, receive)
        try:
            async with request.form(max_files=1, max_fields=1) as form:
                files = [value for value in form.values() if isinstance(value, UploadFile)]
                if len(files) != 1:
                    raise HTTPException(400, say("Send one picture at a time."))
                data = await files[0].read()
            answer = JSONResponse([self.uploads.put(data, sender_of(request))])
        except ClientDisconnect:
            return
        except HTTPException as error:
            answer = PlainTextResponse(error.detail, error.status_code)
        except InputError as error:
            answer = PlainTextResponse(f"{say(error.args[0])}.", 503)
        await answer(scope, receive, send)


def doors(uploads: Uploads, most_upload: int, script: str, tools: bool) -> Middleware:
    """Give the doors of a server that is about to start."""
    served = Path(get_upload_folder())
    return Middleware(
        Doors, uploads=uploads, most_upload=most_upload, served=served, script=script, tools=tools
    )


def hash_of_script(script: str) -> str:
    """Name an inline script for a Content-Security-Policy."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def headed(send: Send, policy: str) -> Send:
    """Add what a browser is to forbid to every answer."""
    every = HEADERS | {"Content-Security-Policy": policy}
    added = [(name.lower().encode(), value.encode()) for name, value in every.items()]

    async def sent(message: dict) -> None:
        if message["type"] == "http.response.start":
            message = message | {"headers": [*message.get("headers", []), *added]}
        await send(message)

    return sent


def with_nonce(send: Send, nonce: str) -> Send:
    """Mark the page's own scripts, which alone may run."""
    start, body = {}, []

    async def sent(message: dict) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.append(message.get("body", b""))
        if message.get("more_body"):
            return
        whole = in_language(b"".join(body), spoken().name)
        whole = whole.replace(b"<script", f'<script nonce="{nonce}"'.encode())
        kept = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        start["headers"] = [*kept, (b"content-length", str(len(whole)).encode())]
        await send(start)
        await send({"type": "http.response.body", "body": whole})

    return sent


def in_language(page: bytes, name: str) -> bytes:
    """Say the page's language, and have Gradio's own words in it, which it would choose by the browser's."""
    tongue = (
        f'<head><script>Object.defineProperty(navigator, "language", {{value: "{name}"}});</script>'
    )
    page = page.replace(b'lang="en"', f'lang="{name}"'.encode(), 1)
    return page.replace(b"<head>", tongue.encode(), 1)


def limited(scope: Scope, receive: Receive, most: int) -> Receive:
    """Refuse a body of more than `most` bytes, as soon as its header or its length says so."""
    said = dict(scope["headers"]).get(b"content-length", b"0")
    if said.isdigit() and int(said) > most:
        raise TooLarge
    total = 0

    async def received() -> dict:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > most:
            raise TooLarge
        return message

    return received


def upload_name(value: Any) -> dict | None:
    """Read an upload's random name out of what a client sent as a file."""
    path = value.get("path") if isinstance(value, dict) else None
    return {"path": path.rpartition("/")[2]} if isinstance(path, str) else None


def names_a_file(value: Any) -> bool:
    """Tell whether a value holds what Gradio would take for a file, however deep."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            if "meta" in each:
                return True
            left.extend(each.values())
        elif isinstance(each, list):
            left.extend(each)
    return False


def refused(demo: Any, body: Any, request: Any, most: int) -> tuple[str, str] | None:
    """Say why an event may not wait, and in which of Gradio's words; None where it may."""
    fn = demo.fns.get(body.fn_index)
    if fn is None or not isinstance(body.data, list):
        return say("There is no such endpoint."), "error"
    if body.session_hash is not None and not SESSION.fullmatch(body.session_hash):
        return say("A session's name has at most 64 letters and digits; choose another."), "error"
    for number, component in enumerate(fn.inputs[: len(body.data)]):
        if component.get_block_name() == "image":
            body.data[number] = upload_name(body.data[number])
        elif names_a_file(body.data[number]):
            return say("This takes no file; upload a picture where one is asked for."), "error"
    if fn.concurrency_id not in DEAR:
        return None
    queues = demo._queue.event_queue_per_concurrency_id
    waiting = [event for name in DEAR if name in queues for event in queues[name].queue]
    running = [event for events in demo._queue.active_jobs for event in events or []]
    waiting += [event for event in running if event.concurrency_id in DEAR]  # in line.py, perhaps
    of_session = sum(event.session_hash == body.session_hash for event in waiting)
    of_sender = sum(sender_of(event.request) == sender_of(request) for event in waiting)
    if len(waiting) >= most or of_session >= max(1, most // 5) or of_sender >= max(1, 3 * most // 4):  # fmt: skip
        return say(FULL), "queue_full"
    return None


def guard_queue(demo: Any, most: int) -> None:
    """Check every event before it waits: Gradio would count light ones, and take any caller's path for a file."""
    push = demo._queue.push

    async def push_checked(body: Any, request: Any, username: Any) -> Any:
        body.session_hash = body.session_hash or None  # an empty one would stop the queue for all
        why = refused(demo, body, request, most)
        if why:
            return False, *why
        return await push(body=body, request=request, username=username)

    demo._queue.push = push_checked


def this_job() -> Callable[[], list[Any]]:
    """Make what finds Gradio's own events for the job that runs, also on another thread; none outside of a page."""
    demo, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)

    def found() -> list[Any]:
        jobs = demo._queue.active_jobs if demo else []
        return [event for events in jobs for event in events or [] if event._id == event_id]

    return found


def wanted() -> Callable[[], bool]:
    """Make what tells whether somebody still waits for the job that runs: who leaves takes back what they asked."""
    job = this_job()
    return lambda: all(event.alive for event in job())


def asked_at() -> float:
    """Tell when the job that runs was asked for, in seconds of time.monotonic: it may have waited since."""
    return min((event.enqueue_time for event in this_job()()), default=time.monotonic())


def data_of(event: EventData) -> dict:
    """Read what the page's own script sent with an event; gradio offers its fields, but not which there are."""
    return event._data if isinstance(event._data, dict) else {}
