"""Let simulated people use a page, and measure errors, waiting times and the server's memory.

Run it as `python benchmarks/load.py [--people 10] [--minutes 10] [--url URL --pid PID]`. Without a URL it
starts `app.py` itself. Each person is a thread with a `gradio_client.Client` of its own, makes a picture, ranks anew
by other mixes, and traces an upload, again and again. `benchmarks/results/load.json` gets, for each endpoint, the
calls, errors, median and 95th percentile in seconds; and the server's memory at minute two (or, in a shorter run,
at a fifth of it), at the end, and their ratio.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image

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


@dataclass
class Record:
    """What was measured, filled by all threads."""

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in ENDPOINTS}
    )
    errors: Counter = field(default_factory=Counter)  # (endpoint, message) -> times
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds, megabytes)


def live(url: str, number: int, until: float, record: Record) -> None:
    """Be one person: repeat a round of actions until the time is over."""
    chance = random.Random(number)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "upload.png"
        colour = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (256, 192), colour).save(picture)
        client = Client(url, verbose=False, download_files=folder)
        while time.time() < until:
            for name in ROUND:
                if time.time() >= until:
                    break
                start = time.perf_counter()
                try:
                    client.predict(*ENDPOINTS[name](chance, picture), api_name=name)
                    record.seconds[name].append(time.perf_counter() - start)
                except Exception as error:  # every failure is a finding
                    said = f"{type(error).__name__}: {str(error)[:200]}"
                    record.errors[name, said] += 1
                    print(f"person {number}, {name}: {said}", file=sys.stderr, flush=True)
                time.sleep(chance.uniform(*THINKING))


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
    for name, seconds in record.seconds.items():
        errors = sum(times for (where, _), times in record.errors.items() if where == name)
        row = {"endpoint": name, "calls": len(seconds), "errors": errors}
        if len(seconds) > 1:
            row |= {"median": statistics.median(seconds)}
            row |= {"p95": statistics.quantiles(seconds, n=20, method="inclusive")[-1]}
        rows.append(row)
    settled = min(SETTLED, minutes * 12)  # a fifth of a short run
    early = statistics.median([mb for at, mb in record.memory if at >= settled][:10])
    late = statistics.median([mb for _, mb in record.memory[-10:]])
    memory = {"seconds": settled, "then_mb": early, "end_mb": late, "ratio": late / early}
    errors = [[*where, times] for where, times in record.errors.most_common()]
    return {
        "people": people, "minutes": minutes, "endpoints": rows, "memory": memory, "errors": errors,
    }  # fmt: skip


def measure(url: str, pid: int, people: int, minutes: float) -> dict:
    """Let people use the page for some minutes."""
    record, over, start = Record(), threading.Event(), time.time()
    watcher = threading.Thread(target=watch, args=(pid, start, over, record))
    until = start + minutes * 60
    threads = [
        threading.Thread(target=live, args=(url, number, until, record)) for number in range(people)
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
    parser.add_argument("--url", help="a page that runs already; --pid says in which process")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--no_write", action="store_true", help="print only")
    config = parser.parse_args(argv)
    if (config.url is None) != (config.pid is None):
        parser.error("--url and --pid go together")
    page = contextlib.nullcontext((config.url, config.pid)) if config.url else served()
    with page as (url, pid):
        found = measure(url, pid, config.people, config.minutes)
    print(json.dumps(found, indent=1))
    if not config.no_write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
