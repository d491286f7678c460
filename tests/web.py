"""Requests to a served page as a program sends them, without a client that would put them right."""

import http.client
import json
import re
from dataclasses import dataclass
from urllib.parse import quote

PATIENCE = 20  # seconds for one request


@dataclass(frozen=True)
class Request:
    """One request, and where its answer is streamed: by event, by session or not at all."""

    path: str
    body: bytes = b""
    kind: str = "application/json"
    method: str = "POST"
    session: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path[:90]} {self.body[:300]!r}"


@dataclass(frozen=True)
class Reply:
    """What came back, the stream's text included."""

    status: int
    text: str

    @property
    def outcome(self) -> str:
        """Name how the request ended: a status, or the kind of the stream's last event."""
        if self.status != 200:
            return str(self.status)
        if "event: error" in self.text or '"success":false' in self.text:
            silent = re.search(r'event: error\ndata: (null|{"error": null)|"error":null', self.text)
            return "silent error" if silent else "error"
        return "answer"


def get(page, path):
    return json.loads(send(page, Request(path, method="GET")).text)


def send(page, request):
    """Send one request and read its answer to the end."""
    reply = exchange(page, request)
    try:
        event = json.loads(reply.text)["event_id"]
    except (ValueError, TypeError, KeyError):
        return reply
    stream = f"/gradio_api/queue/data?session_hash={quote(request.session)}"
    stream = stream if request.session else f"{request.path}/{event}"
    return exchange(page, Request(stream, method="GET"))


def exchange(page, request):
    connection = http.client.HTTPConnection(page, timeout=PATIENCE)
    headers = {"Content-Type": request.kind, "Connection": "close"}
    try:
        connection.request(request.method, request.path, request.body, headers)
        response = connection.getresponse()
        return Reply(response.status, response.read(10**7).decode("utf-8", "replace"))
    except http.client.IncompleteRead as broken:  # gradio ends the stream of an unknown event so
        return Reply(200, broken.partial.decode("utf-8", "replace"))
    except TimeoutError:
        return Reply(0, "")
    finally:
        connection.close()


def written(content):
    return json.dumps(content).encode()
