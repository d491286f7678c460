"""Let simulated people use a page, and measure errors, waiting times and the server's memory.

Run it as `python benchmarks/load.py [--people 10] [--minutes 10] [--kinds] [--url URL --pid PID]`. Without a URL it
starts `app.py` itself. Each person is a thread with a `gradio_client.Client` of its own, makes a picture, ranks anew
by other mixes, and traces an upload, again and again. With `--kinds`, of ten people one sits before a browser (four at
most do), one asks for long jobs, and one leaves before the answer comes. `benchmarks/results/load.json`, or
`load_kinds.json` with them, gets, for each endpoint, the calls, errors, median and 95th percentile in seconds; and the server's memory at minute two (or, in a
shorter run, at a fifth of it), at the end, and their ratio.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "load.json"
SETTLED = 120  # seconds until memory is first compared
RERANKS = 5  # for each picture
THINKING = (0.2, 1.5)  # seconds between two actions of one person
PROMPTS = ["a woodcut of a cat in the city", "a watercolour of a fish by the sea", "a neon teapot"]

# What a person does: endpoint -> its arguments. Change this when the page's endpoints change.
ENDPOINTS: dict[str, Callable[[random.Random, Path], list]] = {
    "/generate": lambda chance, _: [chance.choice(PROMPTS), chance.randrange(10_000)],
    "/rank": lambda chance, _: [1, chance.random(), chance.random(), chance.random()],
    "/trace": lambda chance, picture: [handle_file(picture), chance.choice(["", *PROMPTS])],
}
ROUND = ["/generate", *["/rank"] * RERANKS, "/trace", "/rank"]
LONG_JOBS: dict[str, Callable[[random.Random, Path], list]] = {
    "/generate": ENDPOINTS["/generate"],
    "/learn": lambda chance, _: [chance.choice(["at night", "in the mountains", "bold outlines"])],
    "/rank": ENDPOINTS["/rank"],
    "/without": lambda chance, _: [chance.sample(range(1000), 2), ""],
    "/look": lambda chance, _: [chance.randrange(1000), 1, 0, 0, 0],
    "/browse": lambda chance, _: ["night", "", "", 5],
    "/report": lambda chance, _: [1, 0, 0, 0],
}
MOST_BROWSERS = 4  # of the people; each is as dear to this machine as many others
PATIENCE = 300_000  # milliseconds before a browser


@dataclass
class Record:
    """What was measured, filled by all threads."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: Counter = field(default_factory=Counter)  # (endpoint, message) -> times
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds, megabytes)

    @contextlib.contextmanager
    def timed(self, name: str, number: int) -> Iterator[None]:
        """Time an action, or note how it failed."""
        start = time.perf_counter()
        try:
            yield
            self.seconds[name].append(time.perf_counter() - start)
        except Exception as error:  # every failure is a finding
            said = f"{type(error).__name__}: {str(error)[:200]}"
            self.errors[name, said] += 1
            print(f"person {number}, {name}: {said}", file=sys.stderr, flush=True)


def live(
    url: str, number: int, until: float, record: Record,
    asked: dict[str, Callable[[random.Random, Path], list]], names: list[str],
) -> None:  # fmt: skip
    """Be one person: repeat a round of actions until the time is over."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "upload.png"
        colour = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (256, 192), colour).save(picture)
        client = Client(url, verbose=False, download_files=folder)
        while time.time() < until:
            for name in names:
                if time.time() >= until:
                    break
                with record.timed(name, number):
                    client.predict(*asked[name](chance, picture), api_name=name)
                time.sleep(chance.uniform(*THINKING))


def live_at_a_browser(url: str, number: int, until: float, record: Record) -> None:
    """Be one who opens the page, makes pictures, and opens it again."""
    chance = random.Random(number)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        while time.time() < until:
            page = browser.new_page()
            page.set_default_timeout(PATIENCE)
            with record.timed("browser: open the page", number):
                page.goto(url)
                page.locator("#ranked .card").first.wait_for()
            prompt, seed = ENDPOINTS["/generate"](chance, Path())
            with record.timed("browser: generate", number):
                page.get_by_label("Describe a picture").fill(prompt)
                page.get_by_label("Seed").fill(str(seed))
                page.get_by_role("button", name="Generate").click()
                page.locator("#asked figcaption", has_text=f"seed {seed}").wait_for()
            page.wait_for_timeout(1000 * chance.uniform(*THINKING))
            with record.timed("browser: another question", number):
                page.get_by_role("radio", name="Style", exact=True).check()
                page.locator("#ranked [data-link*='style=1']").wait_for(state="attached")
            page.close()
        browser.close()


def leave_early(url: str, number: int, until: float, record: Record) -> None:
    """Be one who asks, and is gone before the answer; then look whether the page still answers."""
    chance = random.Random(number)
    while time.time() < until:
        data = [*ENDPOINTS["/generate"](chance, Path()), ""]
        path = f"{url.rstrip('/')}/gradio_api/call/generate"
        with record.timed("leave early", number):
            event = httpx.post(path, json={"data": data}).json()["event_id"]
            with httpx.stream("GET", f"{path}/{event}"):
                time.sleep(chance.uniform(*THINKING))
            httpx.get(f"{url.rstrip('/')}/config").raise_for_status()
        time.sleep(chance.uniform(*THINKING))


def person(number: int, kinds: bool) -> Callable[[str, int, float, Record], None]:
    """Say what a person does."""
    kind = number % 10 if kinds else 9
    if kind == 0 and number < 10 * MOST_BROWSERS:
        return live_at_a_browser
    if kind == 1:
        return functools.partial(live, asked=LONG_JOBS, names=list(LONG_JOBS))
    if kind == 2:
        return leave_early
    return functools.partial(live, asked=ENDPOINTS, names=ROUND)


def resident(pid: int) -> float:
    """Give a process's resident memory, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(pid: int, start: float, over: threading.Event, record: Record) -> None:
    """Note the server's memory once a second."""
    while not over.wait(1):
        record.memory.append((time.time() - start, resident(pid)))


@contextlib.contextmanager
def served() -> Iterator[tuple[str, int]]:
    """Start the page in a process of its own; give its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1"}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None:
                sys.exit(f"error: app.py ended with {process.returncode} before it answered")
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(url)
                break
            time.sleep(0.5)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def summary(record: Record, people: int, minutes: float) -> dict:
    """Give medians, 95th percentiles and the growth of memory."""
    rows = []
    for name, seconds in sorted(record.seconds.items()):
        errors = sum(times for (where, _), times in record.errors.items() if where == name)
        row = {"endpoint": name, "calls": len(seconds), "errors": errors}
        row |= {"median": statistics.median(seconds)}
        row |= {"p95": float(np.quantile(seconds, 0.95))}
        rows.append(row)
    settled = min(SETTLED, minutes * 12)  # a fifth of a short run
    early = statistics.median([mb for at, mb in record.memory if at >= settled][:10])
    late = statistics.median([mb for _, mb in record.memory[-10:]])
    memory = {"seconds": settled, "then_mb": early, "end_mb": late, "ratio": late / early}
    errors = [[*where, times] for where, times in record.errors.most_common()]
    return {
        "people": people, "minutes": minutes, "endpoints": rows, "memory": memory, "errors": errors,
    }  # fmt: skip


def measure(url: str, pid: int, people: int, minutes: float, kinds: bool) -> dict:
    """Let people use the page for some minutes."""
    record, over, start = Record(), threading.Event(), time.time()
    watcher = threading.Thread(target=watch, args=(pid, start, over, record))
    until = start + minutes * 60
    threads = [
        threading.Thread(target=person(number, kinds), args=(url, number, until, record))
        for number in range(people)
    ]
    for thread in [watcher, *threads]:
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    watcher.join()
    return summary(record, people, minutes)


def main(argv: list[str] | None = None) -> int:
    """Measure, print and write the result; 1 is the exit code of a page that failed somebody."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kinds", action="store_true", help="not all of them are programs")
    parser.add_argument("--url", help="a page that runs already; --pid says in which process")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--no_write", action="store_true", help="print only")
    config = parser.parse_args(argv)
    if (config.url is None) != (config.pid is None):
        parser.error("--url and --pid go together")
    page = contextlib.nullcontext((config.url, config.pid)) if config.url else served()
    with page as (url, pid):
        found = measure(url, pid, config.people, config.minutes, config.kinds)
    print(json.dumps(found, indent=1))
    if not config.no_write:
        path = RESULT.with_name("load_kinds.json") if config.kinds else RESULT
        path.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
