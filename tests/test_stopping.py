"""The page as a process: a signal ends it quietly, also while it computes, and leaves nothing behind."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from web import Request, exchange, written

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def started(attributor, tmp_path):
    """Start the page on the small model, and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "ATTRIBUTION_MODEL": attributor.model.name,
        "ATTRIBUTION_CACHE": str(attributor.cache.folder),
        "ATTRIBUTION_COLLECTION": str(attributor.collection.folder),
        "GRADIO_SERVER_PORT": str(port),
        "TMPDIR": str(tmp_path),
    }
    for name in ("GRADIO_TEMP_DIR", "ATTRIBUTION_EXAMPLES"):
        environment.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        end = time.monotonic() + 120
        while time.monotonic() < end and process.poll() is None:
            try:
                exchange(f"127.0.0.1:{port}", Request("/config", method="GET"))
                break
            except OSError:
                time.sleep(0.2)
        yield process, f"127.0.0.1:{port}", tmp_path
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_job_ends_the_page_quietly(started, number):
    process, page, folder = started
    ask = Request("/gradio_api/call/learn", written({"data": ["at night"]}))
    event = json.loads(exchange(page, ask).text)["event_id"]
    stream = http.client.HTTPConnection(page, timeout=20)  # who waits for the answer
    stream.request("GET", f"/gradio_api/call/learn/{event}")
    time.sleep(1)
    assert list(folder.glob("attribution-page-*"))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    stream.close()
    assert process.returncode == 128 + number
    assert "terminate called" not in said
    assert "Traceback" not in said
    assert "torchvision" not in said
    assert "Loading weights" not in said
    assert not list(folder.glob("attribution-page-*"))
