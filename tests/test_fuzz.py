"""Malformed requests to every endpoint of a served page end in a clean error or a valid answer."""

import random
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from gradio_client import Client
from web import Request, get, send, written

pytestmark = pytest.mark.slow

ROOT = str(Path(__file__).parents[1])
PROMPT = "a woodcut of a cat in the city"
AT_ONCE = 10  # fewer than may queue
SECRETS = ("Traceback (most recent", '.py"', "site-packages", ROOT, "root:x:")  # in no error
PATHS = ["/etc/passwd", "../../app.py", "file:///etc/passwd", "/dev/zero", "."]


@pytest.fixture(scope="module")
def trap():
    """A server that nobody should be made to visit: its address, and who came."""
    visits = []

    class Trap(BaseHTTPRequestHandler):
        def do_GET(self):
            visits.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Trap)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", visits
    server.shutdown()
    server.server_close()


def hostile(trap):
    """Give values that no field expects."""
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in [*PATHS, trap + "/a"]]
    files += [
        {"path": "a.png", "url": trap + "/b.png", "meta": {"_type": "gradio.FileData"}},
        {"path": None, "url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": ["a"], "meta": 1}, {"url": 7}, {"path": "", "is_stream": True}, {"__type__": "update"},
    ]  # fmt: skip
    numbers = [
        True,
        -1,
        0,
        0.5,
        2**63,
        -(2**63),
        10**40,
        1e308,
        float("nan"),
        float("inf"),
        -float("inf"),
    ]
    texts = [
        "",
        " ",
        "x" * 20_000,
        "\0",
        "\ud800",
        "\u202eabc",
        "<script>alert(1)</script>",
        "{{7*7}}",
    ]
    texts += [trap + "/c.png", "NaN", "/etc/passwd", "../../app.py"]
    many = [[], [[]], ["a"] * 5_000, {}, {"a": {"b": [None] * 1000}}, None, nested(50), nested(400)]
    return [*files, *numbers, *texts, *many]


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def plausible(parameter):
    """Give a value that a parameter of the API expects."""
    if parameter.get("parameter_has_default"):
        return parameter["parameter_default"]
    kind = parameter["type"].get("type") if isinstance(parameter["type"], dict) else None
    kind = kind if isinstance(kind, str) else None
    return {"string": PROMPT, "number": 1, "integer": 1, "boolean": True, "array": []}.get(kind)


def calls(named, trap):
    """Call each named endpoint with one wrong value at a time, and with too few and too many."""
    for name, endpoint in named.items():
        good = [plausible(parameter) for parameter in endpoint["parameters"]]
        path = f"/gradio_api/call{name}"
        for place in range(len(good)):
            for value in hostile(trap):
                yield Request(path, written({"data": [*good[:place], value, *good[place + 1 :]]}))
        for data in ([], good[:-1], [*good, 1], good * 50, [None] * len(good), None, {}, "a", 1):
            yield Request(path, written({"data": data}))
        keywords = {p["parameter_name"]: "a" for p in endpoint["parameters"]}
        for body in (keywords, {}, {"unknown": 1}, [], None):
            yield Request(path.replace("/call/", "/call/v2/"), written(body))
        for session in ("", "x" * 5_000 + name, {}, 7, f"../..{name}", f"\0{name}"):
            yield Request(path, written({"data": good[:1], "session_hash": session}))
        for other in ("run", "api"):
            yield Request(path.replace("call", other), written({"data": good}))


def joins(dependencies, trap, chance):
    """Join the queue for every event of the page, the private ones too, and for some that do not exist."""
    numbers = [dependency["id"] for dependency in dependencies]
    counts = {dependency["id"]: len(dependency["inputs"]) for dependency in dependencies}
    wrong = [-1, 10**9, 10**40, 1.5, "a", None, [], True]
    for index in numbers * 3 + wrong:
        count = counts.get(index, 2) if isinstance(index, int) else 2
        data = [chance.choice(hostile(trap)) for _ in range(chance.choice([count, count, 0, 9]))]
        body = {"data": data, "fn_index": index, "event_data": chance.choice(hostile(trap))}
        session = f"s{chance.getrandbits(64)}"
        body |= {"session_hash": session, "trigger_id": chance.choice([None, -1, 5, "a", 10**9])}
        yield Request("/gradio_api/queue/join", written(body), session=session)
    for session in (None, 7, {}, [], "", "a" * 10_000):
        body = {"data": [], "fn_index": numbers[0], "session_hash": session}
        yield Request("/gradio_api/queue/join", written(body), session=str(session))


def bodies(named):
    """Send what is no JSON, or other JSON than a request."""
    texts = [
        b"",
        b"{",
        b"[1, 2",
        b"\xff\xfe\0",
        b"null",
        b'"data"',
        b"[" * 50_000,
        b'{"data":' * 2_000,
    ]
    texts += [
        b'{"data": [NaN, Infinity]}',
        b'{"data": 1e999}',
        b'{"data": [1], "data": 2}',
        b"a=1&b=2",
    ]
    paths = [f"call{name}" for name in named] + ["queue/join", "run/predict", "reset", "cancel"]
    for path in [*paths, "call/nobody", "component_server", "api/predict", "call/..%2f..%2fapp.py"]:
        for text in texts:
            yield Request(f"/gradio_api/{path}", text)
        yield Request(f"/gradio_api/{path}", b'{"data": []}', "text/plain")


def uploads():
    """Upload files in forms that are not right."""
    form = 'multipart/form-data; boundary="b"'
    part = (
        '--b\r\nContent-Disposition: form-data; name="files"; filename="{}"\r\n\r\n{}\r\n--b--\r\n'
    )
    names = [*PATHS, "", "a" * 3_000, "\0", "a.svg", "con.png", '"', "%2e%2e%2fa", "..\\..\\a.png"]
    for text in [part.format(name, "hello") for name in names]:
        yield Request("/gradio_api/upload", text.encode(), form)
    broken = [
        "",
        "--b",
        "--b--\r\n",
        part[:60],
        part.replace("files", "other"),
        part * 50,
        "--c\r\n\r\n",
    ]
    for text in broken:
        for kind in (form, "multipart/form-data", "text/plain", 'multipart/form-data; boundary=""'):
            yield Request("/gradio_api/upload", text.encode(), kind)


def visits(trap):
    """Ask for files and addresses that are not served."""
    places = [*PATHS, trap + "/d", "..%2f..%2fapp.py", "%00", "assets/model/config.json"]
    for place in places:
        for route in (
            "gradio_api/file=",
            "gradio_api/proxy=",
            "static/",
            "assets/",
            "gradio_api/stream/",
        ):
            yield Request(f"/{route}{quote(place)}", method="GET")
    for place in (
        "monitoring",
        "gradio_api/run-history/records",
        "gradio_api/deep_link",
        "gradio_api/a",
    ):
        yield Request(f"/{place}", method="GET")


def test_malformed_requests_end_in_a_clean_error_or_an_answer(hasty_page, trap, capfd):
    page = hasty_page
    address, visited = trap
    named = get(page, "/gradio_api/info")["named_endpoints"]
    dependencies = get(page, "/config")["dependencies"]
    chance = random.Random(0)
    requests = [*calls(named, address), *joins(dependencies, address, chance), *bodies(named)]
    requests += [*uploads(), *visits(address)]
    assert len(requests) >= 1_000
    chance.shuffle(requests)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(partial(send, page), requests))

    printed = capfd.readouterr().err
    assert {
        "stopped serving": Counter(r.text for r in replies if r.status == 503),
        "tells of the server": [
            f"{request} -> {reply.text[:500]}"
            for request, reply in zip(requests, replies, strict=True)
            if reply.outcome != "answer" and any(secret in reply.text for secret in SECRETS)
        ],
        "never ended": [str(q) for q, r in zip(requests, replies, strict=True) if not r.status],
        "unhandled by the page": Counter(
            map(last_line, filter(is_ours, printed.split("Traceback")))
        ),
        "visited for a caller": visited,
    } == {
        "stopped serving": {},
        "tells of the server": [],
        "never ended": [],
        "unhandled by the page": {},
        "visited for a caller": [],
    }
    counts = Counter(reply.outcome for reply in replies)
    assert counts["answer"] < len(requests) / 4, counts  # they were malformed
    picture, *_ = Client(f"http://{page}", verbose=False).predict(PROMPT, 3, api_name="/generate")
    assert Path(picture).is_file()


def last_line(text):
    """Give an exception with what was sent left out."""
    lines = [
        line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Exit)\b", line)
    ]
    return lines[-1][:50] if lines else text[-50:]


def is_ours(text):
    """Tell whether a traceback went through this project's code."""
    return any(f'File "{ROOT}/{part}' in text for part in ("app.py", "attribution/"))
