"""A step ends in one line whatever stops it, removes much only when told to, and contacts nobody."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.files import writing
from attribution.pictures.collection import load_collection
from precompute.__main__ import main
from precompute.gradients import GradientsConfig
from precompute.implied import refuse_implied
from precompute.shipped.collection import CollectionConfig
from precompute.shipped.train import TrainConfig

ROOT = Path(__file__).parents[1]
SIZES = ["--timesteps", "4", "--proj_dim", "8", "--shard_size", "8"]


@pytest.fixture
def names(small_model, small_collection):
    return [
        *("--pretrained_model_name_or_path", str(small_model)),
        *("--train_data_dir", str(small_collection)),
    ]


@pytest.fixture
def cache(attributor, tmp_path):
    """A cache of thirty images, to be damaged."""
    return shutil.copytree(attributor.cache.folder, tmp_path / "cache")


def some_of(collection, folder, places):
    """Copy a collection with a few of its images alone."""
    shutil.copytree(collection, folder)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("".join(lines[place] + "\n" for place in places))
    return folder


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# What cannot be written.


@pytest.mark.parametrize("step", ["gradients", "weights", "calibrate", "likeness"])
def test_a_folder_that_cannot_be_written_is_one_line_before_any_work(names, cache, capsys, step):
    (cache / "writing.lock").unlink(missing_ok=True)
    (cache / "writing.lock").mkdir()  # as root may write even where nobody should
    target = "--output_dir" if step == "gradients" else "--cache_dir"
    capsys.readouterr()
    assert main([step, *names, target, str(cache)]) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert printed.startswith(f"python -m precompute {step}: {cache} cannot be written")


@pytest.mark.parametrize("step", ["gradients", "weights", "calibrate", "examples"])
def test_a_folder_below_a_file_is_one_line(names, cache, tmp_path, capsys, step):
    (tmp_path / "file").write_text("")
    below = str(tmp_path / "file/cache")
    options = ["--output_dir" if step == "gradients" else "--cache_dir", below]
    if step == "examples":
        options = ["--cache_dir", str(cache), "--output_dir", below, "--held_out", "0"]
        options += ["--known", "1"]
    assert main([step, *names, *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"python -m precompute {step}: ")


# Ctrl-C.


def interrupted(argv, moment):
    """Start a step, press Ctrl-C when `moment` says so of what it printed, and give its code and last lines."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "precompute", *argv],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    os.set_blocking(process.stderr.fileno(), False)
    printed = b""
    while not moment(printed):
        assert process.poll() is None, printed
        printed += process.stderr.read() or b""
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    os.set_blocking(process.stderr.fileno(), True)
    printed += process.stderr.read()
    return process.wait(60), printed.decode()


def assert_one_line(code, printed, step):
    assert code == 130
    assert "Traceback" not in printed
    rest = printed.replace("\r", "\n").splitlines()
    [stopped] = [number for number, line in enumerate(rest) if "stopped" in line]
    assert rest[stopped].startswith(f"python -m precompute {step}: stopped; ")
    assert rest[stopped + 1 :] == []


@pytest.mark.slow
def test_ctrl_c_while_gradients_are_taken_is_one_line_and_the_next_run_goes_on(names, tmp_path):
    sizes = [*SIZES, "--shard_size", "2", "--batch_size", "1"]
    argv = ["gradients", *names, "--output_dir", str(tmp_path), *sizes]
    code, printed = interrupted(argv, lambda _: list(tmp_path.glob("features-*.safetensors")))
    assert_one_line(code, printed, "gradients")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("features-*.safetensors")}
    assert not (tmp_path / "header.json").exists()
    assert main(argv) == 0
    assert kept.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}.items()
    assert len(open_cache(tmp_path, {})) == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "said"), [("weights", b"drawing weights"), ("calibrate", b"unrelated pictures")]
)
def test_ctrl_c_leaves_no_lock_and_no_half_file(names, cache, step, said):
    before = bytes_in(cache)
    argv = [step, *names, "--cache_dir", str(cache)]
    code, printed = interrupted(argv, lambda text: said in text)
    assert_one_line(code, printed, step)
    with writing(cache):
        assert bytes_in(cache) == before | {"writing.lock": b""}


def test_ctrl_c_before_anything_is_imported_is_one_line():
    moment = time.monotonic() + 1
    code, printed = interrupted(["gradients"], lambda _: time.monotonic() > moment)
    assert_one_line(code, printed, "gradients")


# A typo costs nothing.


def test_much_is_removed_only_when_told_to(names, cache, small_collection, tmp_path, capsys):
    other = some_of(small_collection, tmp_path / "other", [0, 1, 2, 3, 4, 5])
    before = bytes_in(cache)
    argv = ["gradients", *names[:2], "--train_data_dir", str(other), "--output_dir", str(cache)]
    assert main([*argv, *SIZES]) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "24 of 30 images" in printed
    assert load_collection(small_collection).files[6] in printed
    assert "--remove" in printed
    assert bytes_in(cache) == before
    assert main([*argv, *SIZES, "--dry_run"]) == 0
    assert "24 to remove (with --remove)" in capsys.readouterr().out
    assert bytes_in(cache) == before
    assert main([*argv, *SIZES, "--remove"]) == 0
    assert len(open_cache(cache, {})) == 6


def test_other_captions_are_other_images(names, cache, small_collection, tmp_path, capsys):
    other = shutil.copytree(small_collection, tmp_path / "other")
    rows = [json.loads(line) for line in (other / "metadata.jsonl").read_text().splitlines()]
    lines = [json.dumps(row | {"text": "a picture"}) + "\n" for row in rows]
    (other / "metadata.jsonl").write_text("".join(lines))
    argv = ["gradients", *names[:2], "--train_data_dir", str(other), "--output_dir", str(cache)]
    assert main([*argv, *SIZES]) == 2
    assert "30 of 30 images" in capsys.readouterr().err


def test_what_a_stopped_run_left_is_not_lost_either(
    names, cache, small_collection, tmp_path, capsys
):
    other = some_of(small_collection, tmp_path / "other", [0, 1])
    (cache / "header.json").unlink()
    before = bytes_in(cache)
    argv = ["gradients", *names[:2], "--train_data_dir", str(other), "--output_dir", str(cache)]
    assert main([*argv, *SIZES]) == 2
    assert "28 of 30 images" in capsys.readouterr().err
    assert bytes_in(cache) == before


def test_a_tenth_goes_unasked(names, cache, small_collection, tmp_path, capsys):
    other = some_of(small_collection, tmp_path / "other", range(3, 30))
    argv = ["gradients", *names[:2], "--train_data_dir", str(other), "--output_dir", str(cache)]
    assert main([*argv, *SIZES]) == 0
    assert "0 images added, 3 removed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("step", "target"),
    [
        ("gradients", "--output_dir"),
        ("weights", "--cache_dir"),
        ("calibrate", "--cache_dir"),
        ("likeness", "--cache_dir"),
        ("examples", "--output_dir"),
        ("retrain", "--output_file"),
    ],
)
@pytest.mark.parametrize("source", [0, 2])
def test_assets_are_no_implied_target_for_another_model_or_collection(
    names, step, target, source, capsys
):
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "assets").rglob("*")}
    assert main([step, *names[source : source + 2]]) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "belongs to what is shipped" in printed
    assert f"say with {target}" in printed
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "assets").rglob("*")} == before


def test_another_drawing_or_training_is_not_the_shipped_one(small_collection):
    for step, config, given in (
        ("collection", CollectionConfig, {"seed": 1}),
        ("collection", CollectionConfig, {"copies": 1}),
        ("train", TrainConfig, {"train_data_dir": str(small_collection)}),
        ("train", TrainConfig, {"denoiser_steps": 4}),
        ("gradients", GradientsConfig, {"method": "trak"}),
        ("gradients", GradientsConfig, {"remove": True}),
    ):
        with pytest.raises(InputError, match="belongs to what is shipped"):
            refuse_implied(step, config, given)
        refuse_implied(step, config, given | {"output_dir": f"assets/{step}"})


def test_what_is_shipped_may_be_named_or_left_out(tmp_path):
    (tmp_path / "link").symlink_to(ROOT / "assets/model")
    for given in (
        {},
        {"device": "cuda"},
        {"proj_dim": 16, "output_dir": "elsewhere"},
        {"train_data_dir": "assets/collection", "pretrained_model_name_or_path": "./assets/model/"},
        {"pretrained_model_name_or_path": os.path.relpath(tmp_path / "link")},
        {"train_data_dir": "elsewhere", "output_dir": "assets/cache"},
    ):
        refuse_implied("gradients", GradientsConfig, given)


# The network.

GUARDED = """
import socket, sys, urllib.request
contacted = []
def watch(event, args):
    name = {"socket.getaddrinfo": lambda: args[0], "socket.connect": lambda: args[1][0],
            "socket.sendto": lambda: args[1][0], "socket.gethostbyname": lambda: args[0]}.get(event)
    local = ("127.0.0.1", "::1", "localhost", "0.0.0.0", None)
    if name and getattr(args[0], "family", None) != socket.AF_UNIX and name() not in local:
        contacted.append(name())
        raise OSError("the network is not to be used")
sys.addaudithook(watch)
try:
    socket.create_connection(("192.0.2.1", 80), 0.1)
except OSError:
    pass
assert contacted.pop() == "192.0.2.1"
from attribution.page.hall import load
from attribution.page.server import serve
from attribution.page.settings import Settings
from precompute.__main__ import main
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
demo = serve(load(Settings()), "127.0.0.1", port, block=False)
assert b"gradio" in urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()
assert main(["gradients", "--dry_run"]) == 0
demo.close()
print("contacted", contacted)
"""


@pytest.mark.slow
def test_nothing_outside_is_contacted_by_the_page_or_a_step():
    free = ("HF_HUB_OFFLINE", "GRADIO_ANALYTICS_ENABLED", "HF_UPDATE_DOWNLOAD_COUNTS")
    environment = {name: value for name, value in os.environ.items() if name not in free}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED], cwd=ROOT, env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "contacted []"
