"""What an adversary may try at the served page: paths for files, floods, guesses, closed routes, scripts."""

import http.client
import io
import json
import os
import socket
import sys
import threading
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import gradio as gr
import pytest
from conftest import served
from gradio_client import Client, handle_file
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from web import Request, exchange, get, send, written

from attribution.errors import InputError
from attribution.page import guards, layout, uploads
from attribution.page.hall import Hall
from attribution.page.served import PREFIX, remove_left_behind, served_folder
from attribution.page.settings import Settings
from attribution.page.uploads import Uploads
from attribution.pictures.collection import open_image

META = {"_type": "gradio.FileData"}
PROMPT = "a woodcut of a cat in the city"
WATCHED = {"armed": (), "seen": []}


def watch(event, given):
    """Note whatever opens, lists, moves or removes a watched file (an audit hook)."""
    if WATCHED["armed"] and event.split(".")[0] in ("open", "os", "shutil", "pathlib"):
        for each in given:
            if isinstance(each, str | bytes | os.PathLike) and os.fsdecode(each).startswith(
                WATCHED["armed"]
            ):
                WATCHED["seen"].append((event, os.fsdecode(each)))


sys.addaudithook(watch)


def png(**text):
    """Give a small picture's bytes, with text in them."""
    return encoded("PNG", pnginfo=info(text))


def info(text):
    found = PngInfo()
    for key, value in text.items():
        found.add_text(key, value)
    return found


def encoded(kind, size=(64, 64), colour="teal", **options):
    memory = io.BytesIO()
    Image.new("RGB", size, colour).save(memory, kind, **options)
    return memory.getvalue()


def sent(page, data, name="a.png"):
    """Upload bytes as a browser does; give the reply."""
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--b--\r\n"
    return exchange(page, Request("/gradio_api/upload", body, 'multipart/form-data; boundary="b"'))


def uploaded(page, data):
    """Upload bytes; give the name that they wait under."""
    [name] = json.loads(sent(page, data).text)
    return name


def joined(page, number, data, session):
    """Join the queue as the page does, and read the answer."""
    body = {"data": data, "fn_index": number, "session_hash": session}
    return send(page, Request("/gradio_api/queue/join", written(body), session=session))


def traced(page, value):
    return send(page, Request("/gradio_api/call/trace", written({"data": [value, "a cat", ""]})))


# Paths


@pytest.fixture
def private(tmp_path, served_folder):
    """Files of this machine that a caller names, and links to them where uploads used to lie."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "notes.txt").write_text("a secret")
    (folder / "picture.png").write_bytes(png())
    os.mkfifo(folder / "pipe.png")
    with (folder / "huge.png").open("wb") as file:
        file.truncate(10 * 2**30)  # sparse
    link = served_folder / "link.png"
    link.symlink_to(folder / "picture.png")
    (served_folder / "another.png").write_bytes(png())
    yield folder
    link.unlink()
    (served_folder / "another.png").unlink()


def hostile(private, served_folder):
    """Give what a caller may send where a picture is expected, with and without `meta`."""
    places = [private / name for name in ("notes.txt", "picture.png", "pipe.png", "huge.png")]
    places += [served_folder / "link.png", served_folder / "another.png", "/dev/zero"]
    places += [os.path.relpath(private / "picture.png"), f"{served_folder}/../private/picture.png"]
    for place in map(str, places):
        yield {"path": place}
        yield {"path": place, "meta": META}
        yield {"path": place, "url": f"file://{place}", "meta": META}
    first = str(places[1])
    yield {"url": first}
    yield {"url": first, "meta": META}
    yield [{"path": first, "meta": META}]
    yield {"image": {"path": first, "meta": META}}
    yield {"value": {"path": first}, "__type__": "update"}
    yield first


def test_nothing_that_a_caller_names_is_opened_or_removed(hasty_page, private, served_folder):
    config = get(hasty_page, "/config")
    kinds = {each["id"]: each["type"] for each in config["components"]}
    values, requests = list(hostile(private, served_folder)), []
    for dependency in config["dependencies"]:
        inputs = dependency["inputs"]
        for place, component in enumerate(inputs):
            for number, value in enumerate(
                values if kinds[component] == "image" else values[1:6:4]
            ):
                data = [None] * len(inputs)
                data[place] = value
                session = f"a{dependency['id']}b{place}c{number}"
                body = {"data": data, "fn_index": dependency["id"], "session_hash": session}
                requests.append(Request("/gradio_api/queue/join", written(body), session=session))
    for value in values:
        requests.append(Request("/gradio_api/call/trace", written({"data": [value, "a cat", ""]})))
    before = {path.name: path.lstat() for path in private.iterdir()}
    watched = [private, served_folder / "link.png", served_folder / "another.png", "/dev/zero"]
    WATCHED.update(armed=tuple(map(str, watched)), seen=[])
    try:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(partial(send, hasty_page), requests))
    finally:
        WATCHED["armed"] = ()
    assert WATCHED["seen"] == []
    assert {path.name: path.lstat()[:7] for path in private.iterdir()} == {n: s[:7] for n, s in before.items()}  # fmt: skip
    assert (served_folder / "link.png").is_symlink()
    for request, reply in zip(requests, replies, strict=True):
        if "call/trace" in request.path:
            assert reply.outcome == "error", request
            assert "choose" in reply.text.lower() or "no longer here" in reply.text, request


def test_only_what_was_uploaded_is_read_and_only_once_by_a_program(hasty_page):
    name = uploaded(hasty_page, png())
    assert traced(hasty_page, {"path": name, "meta": META}).outcome == "answer"
    again = traced(hasty_page, {"path": name, "meta": META})
    assert "no longer here" in again.text


def test_a_picture_belongs_to_whom_it_was_first_read_for():
    kept = Uploads()
    name = kept.put(png(), "here")
    assert kept.take("mine", name) is kept.take("mine", name)
    with pytest.raises(InputError, match="no longer here"):
        kept.take("another's", name)
    kept.clear("mine")
    with pytest.raises(InputError, match="no longer here"):
        kept.take("mine", name)


def test_whoever_asks_while_a_picture_is_decoded_waits_for_it(monkeypatch):
    decoded = []

    def slowly(data):
        time.sleep(0.3)
        decoded.append(data)
        return open_image(data)

    monkeypatch.setattr(uploads, "open_image", slowly)
    kept = Uploads()
    name = kept.put(png(), "here")
    with ThreadPoolExecutor(8) as pool:
        pictures = list(pool.map(lambda _: kept.take("mine", name), range(8)))
    assert len(decoded) == 1
    assert all(picture is pictures[0] for picture in pictures)


def test_visitors_with_the_same_picture_have_a_copy_each(hasty_page):
    data = png()
    first, second = uploaded(hasty_page, data), uploaded(hasty_page, data)
    assert first != second
    assert traced(hasty_page, {"path": first, "meta": META}).outcome == "answer"
    assert traced(hasty_page, {"path": second, "meta": META}).outcome == "answer"


# What stays


def test_nothing_of_an_upload_is_on_disk_whatever_becomes_of_it(url, hasty_page, served_folder):
    mark, colour = "at home zzyzx", (7, 77, 177)
    exif = Image.Exif()
    exif[0x010E] = mark
    good = encoded("PNG", colour=colour, pnginfo=info({"Comment": mark}), exif=exif)
    start = time.time()
    page = url.removeprefix("http://")
    accept = next(
        d["id"] for d in get(page, "/config")["dependencies"] if d["targets"][0][1] == "upload"
    )
    picture = {"path": uploaded(page, good), "meta": META}
    shown = joined(page, accept, [picture, "", None], "somebody")
    assert "data:image/webp" in shown.text
    assert mark not in shown.text
    picture = {"path": uploaded(page, good), "meta": META}
    assert traced(page, picture).outcome == "answer"
    assert traced(page, {"path": uploaded(page, good[:200]), "meta": META}).outcome == "error"
    uploaded(page, good)  # and nobody asks for it
    for path, data in written_since(start, served_folder):
        assert mark.encode() not in data, path
        assert len(data) < 64 or data not in good, path  # fewer bytes are anybody's
        if path.suffix in (".png", ".webp", ".jpg"):
            assert Image.open(path).convert("RGB").getpixel((5, 5)) != colour, path


def written_since(start, folder):
    """Read what was written to a folder or to the folder for temporary files, but for other tests' own."""
    tops = [folder, *Path(os.environ.get("TMPDIR", "/tmp")).iterdir()]
    for top in tops:
        if not top.name.startswith("pytest-of-"):
            for path in [top, *top.rglob("*")]:
                with suppress(FileNotFoundError):  # somebody else's, and gone by now
                    if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= start:
                        yield path, path.read_bytes()


def test_a_decoded_picture_holds_pixels_alone(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "at home"
    options = {"pnginfo": info({"Comment": "at home", "XML:com.adobe.xmp": "at home"})}
    image = open_image(encoded("PNG", exif=exif, icc_profile=b"at home", **options))
    assert image.info == {}
    assert not image.getexif()
    image.save(tmp_path / "again.png")
    assert b"at home" not in (tmp_path / "again.png").read_bytes()


def test_of_a_phones_photograph_with_two_frames_the_first_counts(hasty_page):
    second = Image.new("RGB", (64, 64), "red")
    data = encoded("MPO", colour="green", save_all=True, append_images=[second])
    red, green, _ = open_image(data).getpixel((5, 5))
    assert green > 100 > red
    assert (
        traced(hasty_page, {"path": uploaded(hasty_page, data), "meta": META}).outcome == "answer"
    )


@pytest.mark.parametrize("size", [(1, 40_000_000), (40_000_000, 1), (16_385, 2), (7_000, 7_000)])
def test_a_picture_that_would_take_gigabytes_is_refused_before_it_is_decoded(size, monkeypatch):
    header = encoded("PNG", size=(2, 2))
    width, height = (n.to_bytes(4, "big") for n in size)
    chunk = b"IHDR" + width + height + header[24:29]
    data = header[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + header[33:]
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InputError, match="16384 a side|40 megapixels"):
        open_image(data)


def test_two_pictures_are_decoded_at_a_time(monkeypatch):
    running, most = [], []

    def slowly(data):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return open_image(data)

    monkeypatch.setattr(uploads, "open_image", slowly)
    kept = Uploads()
    names = [kept.put(png(), str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: kept.take(name, name), names))
    assert max(most) == 2


def test_uploads_that_nobody_asks_for_are_few_and_go():
    kept = Uploads(most_bytes=1000, most_waiting=3)
    first, *names = [kept.put(b"x" * 100, "one") for _ in range(4)]
    assert list(kept.waiting) == names  # the oldest of this sender went
    assert first not in kept.waiting
    for number in range(7):
        kept.put(b"x" * 100, f"other {number}")
    with pytest.raises(InputError, match="too many uploads"):
        kept.put(b"x", "another")
    kept.waiting = {
        n: replace(w, arrived=w.arrived - kept.seconds) for n, w in kept.waiting.items()
    }
    kept.put(b"x", "another")
    assert len(kept.waiting) == 1


def test_decoded_pictures_take_no_more_memory_than_they_may_whoever_they_are_said_to_be_of():
    kept = Uploads(most_kept=8 * (4 * 64 * 64 + uploads.BESIDE))
    names = {}
    for number in range(20):
        sender = "another" if number == 0 else "one"
        names[number] = kept.put(encoded("PNG", size=(64, 64)), sender)
        kept.take(f"session {number}", names[number])
        assert sum(each.bytes for each in kept.kept.values()) <= kept.most_kept
    assert list(kept.kept) == [f"session {n}" for n in (0, *range(14, 20))]
    assert kept.take("session 0", names[0])
    with pytest.raises(InputError, match="no longer here"):
        kept.take("session 1", names[1])
    for number in range(20, 24):
        kept.take(f"session {number}", kept.put(encoded("PNG", size=(64, 64)), f"{number}"))
    assert list(kept.kept) == [f"session {n}" for n in range(16, 24)]


def test_what_programs_were_given_is_gone_after_the_hour(hasty, served_folder, monkeypatch):
    monkeypatch.setattr(layout, "HOUR", 1)
    monkeypatch.setattr(layout, "CLEANING", 1)
    with served(Hall(hasty)) as page:
        client = Client(f"http://{page}", verbose=False, download_files=False)
        picture, _ = client.predict("a fish", 5, api_name="/generate")
        assert Path(picture["path"]).is_file()
        end = time.monotonic() + 30
        while Path(picture["path"]).exists() and time.monotonic() < end:
            time.sleep(0.2)
        assert not Path(picture["path"]).exists()


def test_a_dead_servers_folder_is_removed_and_a_running_ones_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "picture.png").write_bytes(png())
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    with served_folder() as mine:
        assert not dead.exists()
        assert mine.stat().st_mode & 0o077 == 0
        remove_left_behind()
        assert mine.exists()
    assert not mine.exists()


# Cheap requests, dear answers


@pytest.fixture
def busy(hasty):
    """A page whose model is held until the test lets go."""
    held, its, drawn = threading.Event(), copy(hasty.attributor), Image.new("RGB", (64, 64))
    its.model = replace(its.model)
    its.model.generate = lambda prompts, *_, **__: [drawn] * len(prompts) if held.wait(60) else []
    desk = replace(hasty, attributor=its)
    with served(Hall(desk), Settings(queue_size=20)) as page:
        yield page
        held.set()


def test_waiting_is_capped_for_a_session_and_an_address_and_light_events_never_wait(busy):
    functions = {d["api_name"]: d["id"] for d in get(busy, "/config")["dependencies"]}

    def ask(session, name="generate"):
        data = [PROMPT, 3, ""] if name == "generate" else ["cat", "", "", 3]
        body = {"data": data, "fn_index": functions[name], "session_hash": session}
        return exchange(busy, Request("/gradio_api/queue/join", written(body))).status

    assert ask("first") == 200
    time.sleep(0.5)
    one = [ask("greedy") for _ in range(10)]
    assert one == [200] * 4 + [503] * 6
    assert ask("somebody-else") == 200
    assert [ask("greedy", "browse") for _ in range(10)] == [200] * 10
    many = [ask(f"session-{number}") for number in range(20)]
    assert many == [200] * 9 + [503] * 11  # 15 of 20 places for one address


def test_a_program_that_left_stops_its_job(hasty, monkeypatch):
    steps = []

    def without(desk, session, rows, on_step):
        for step in range(600):
            on_step(step, 600)
            steps.append(time.monotonic())
            time.sleep(0.05)

    monkeypatch.setattr("attribution.page.endpoints.without", without)
    with served(Hall(hasty)) as page:
        body = written({"data": [[1], ""]})
        path = "/gradio_api/call/without"
        event = json.loads(exchange(page, Request(path, body)).text)["event_id"]
        with closing(http.client.HTTPConnection(page, timeout=20)) as connection:
            connection.request("GET", f"{path}/{event}")
            connection.getresponse()
            patience = time.monotonic() + 60
            while not steps and time.monotonic() < patience:
                time.sleep(0.05)
            assert steps
        left = time.monotonic()
        time.sleep(4)
        assert steps[-1] - left < 3


def test_a_large_body_is_refused_unread(hasty_page):
    with socket.create_connection(hasty_page.split(":")) as connection:
        head = f"POST /gradio_api/queue/join HTTP/1.1\r\nHost: {hasty_page}\r\nContent-Length: {10**9}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(100)


# Gradio's own doors


def every_route(app_):
    for route in app_.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from every_route(inner)
        else:
            yield route.path


def test_every_route_is_listed_as_needed_or_closed(hasty):
    assert gr.__version__.startswith(guards.VERSION + ".")
    demo = layout.create_demo(Hall(hasty))
    demo.queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served_app, *_ = demo.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False,
        run_history=False, enable_monitoring=False,
    )  # fmt: skip
    demo.close()
    assert set(every_route(served_app)) == set(guards.OPEN) | set(guards.CLOSED)
    assert not set(guards.OPEN) & set(guards.CLOSED)


@pytest.mark.parametrize("template", guards.CLOSED)
def test_a_closed_route_is_not_found(hasty_page, template):
    path = template.replace("{path:path}", "a").replace("{url_path:path}", "http://127.0.0.1/a")
    path = path.replace("{", "").replace("}", "")
    for method in ("GET", "POST"):
        reply = exchange(hasty_page, Request(f"{path}?session_hash=a", method=method))
        assert (reply.status, reply.text) == (404, "Not found")


@pytest.mark.parametrize("path", ["/", "/config", "/nowhere", "/gradio_api/info", "/theme.css"])
def test_every_answer_says_what_a_browser_is_to_forbid(hasty_page, path):
    with closing(http.client.HTTPConnection(hasty_page)) as connection:
        connection.request("GET", path)
        headers = connection.getresponse().headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "https://*.hf.space" in policy.split("frame-ancestors")[1]
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]


@pytest.mark.parametrize(
    "session", ["a" * 65, "a" * 10**6, "", "a b", "a: once", "a\n", "ä", "a/b"]
)
def test_a_session_has_a_short_and_plain_name(hasty_page, session):
    functions = {d["api_name"]: d["id"] for d in get(hasty_page, "/config")["dependencies"]}
    body = {"data": ["cat", "", "", 3], "fn_index": functions["browse"], "session_hash": session}
    named = [
        exchange(hasty_page, Request("/gradio_api/queue/join", written(body))),
        exchange(hasty_page, Request("/gradio_api/call/browse", written(body))),
    ]
    if session:
        assert not [reply for reply in named if reply.status == 200]
        assert all("at most 64 letters and digits" in reply.text for reply in named)
    body["session_hash"] = str(uuid.uuid4())  # as Gradio's own client names itself
    assert exchange(hasty_page, Request("/gradio_api/queue/join", written(body))).status == 200


def test_a_session_that_was_guessed_leads_to_nobody(hasty_page):
    Client(f"http://{hasty_page}", verbose=False).predict(PROMPT, 3, api_name="/generate")
    for number in range(20):
        path = f"/gradio_api/queue/data?session_hash=guess{number}"
        reply = exchange(hasty_page, Request(path, method="GET"))
        assert "session_not_found" in reply.text or reply.status == 404


def test_a_program_still_traces_what_it_uploads(hasty_page, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    client = Client(f"http://{hasty_page}", verbose=False)
    answer = client.predict(handle_file(tmp_path / "a.png"), "a cat", api_name="/trace")
    assert answer["sources"]
