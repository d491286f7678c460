"""A step that is killed, or finds the disk full, leaves the old result, the new one, or one that is refused; run again, it ends as if unbroken.

Half of the kills fall at random moments after the step began, half upon a file event of its own (a file is opened for
writing, renamed or removed in its folder), so that each hits. KILLS, an environment variable, says how many there are of
each step: 3 by default, to be quick; `KILLS=16 pytest -s tests/test_doors_kills.py` is thorough and prints where they
fell.
"""

import io
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from multiprocessing import get_context

import pytest
import torch

from attribution.attributor import Attributor
from attribution.cache.index import Index
from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.looks.examples import load_examples
from precompute.__main__ import main

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("KILLS", "3"))
STEPS = ("weights", "calibrate", "index", "examples", "likeness", "remove")
FULL = 700  # bytes of a file at most, on a disk that is full
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload([f"precompute.{step}" for step in STEPS])
EVENTS = {"open", "os.rename", "os.remove"}


def _run(argv, folder, deadly, parent, full=False):
    """Run a step; be killed upon this file event in the folder, counted from 1, or tell how many there were.

    Where the disk is full, what it says is told instead.
    """
    torch.set_num_threads(1)
    seen = 0

    def listen(event, args):
        nonlocal seen
        if event not in EVENTS or not str(args[0]).startswith(folder):
            return
        if event == "open" and not (args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        seen += 1
        if seen == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
    parent.send("begun")
    if full:
        sys.stderr = io.StringIO()  # a file of it would be too large, too
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))
    code = main(argv)
    parent.send(sys.stderr.getvalue() if full else seen)
    sys.exit(code)


class Step:
    """A step, the folder that it writes, and what others see there."""

    def __init__(self, name, attributor, folder):
        self.name, self.attributor, self.folder = name, attributor, folder
        self.cache = folder / "cache" if name == "examples" else folder
        shutil.copytree(attributor.cache.folder, self.cache)
        self.pictures = attributor.collection.folder
        if name == "remove":
            self.pictures = shutil.copytree(self.pictures, folder / "pictures")

    def begin(self):
        """Make an older result, which is to be replaced; of likeness there is but one."""
        if self.name == "likeness":
            for path in self.folder.glob("rows-*"):
                path.unlink()
        else:
            assert main(self.argv(1)) == 0

    def argv(self, seed):
        model, collection = self.attributor.model.name, self.pictures
        names = ["--cache_dir", str(self.cache)]
        if self.name == "index":
            return ["index", *names, "--force", "--candidates", str(3 + seed)]
        names += ["--train_data_dir", str(collection)]
        if self.name == "remove":
            return ["remove", *names, "--file", self.attributor.collection.files[3 * seed]]
        names += ["--pretrained_model_name_or_path", model]
        if self.name == "likeness":
            return ["likeness", *names]
        more = {
            "weights": ["--queries", "2", "--top_k", "3"],
            "calibrate": ["--unrelated", "19", "--draws", "19", "--lists", "0"],
            "examples": ["--known", "2", "--output_dir", str(self.folder / "e")],
        }
        return [self.name, *names, *more[self.name], "--seed", str(seed)]

    def start(self, deadly=0, full=False):
        ours, its = CONTEXT.Pipe()
        folder = str(self.folder / "e") if self.name == "examples" else str(self.folder)
        process = CONTEXT.Process(target=_run, args=(self.argv(0), folder, deadly, its, full))
        process.start()
        its.close()
        assert ours.recv() == "begun"
        return process, ours

    def finish(self):
        """Run to the end; give the seconds and the number of file events."""
        process, ours = self.start()
        begun = time.perf_counter()
        events = ours.recv()
        process.join()
        assert process.exitcode == 0
        return time.perf_counter() - begun, events

    def files(self):
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file()
        }

    def made(self):
        """Give all that a run to the end made; of a removal what the cache holds, as a shard's number is used but once."""
        if self.name != "remove":
            return self.files()
        cache = open_cache(self.folder, {})
        order = cache.order_in(
            [row for row in self.attributor.collection.rows if row in {*cache.rows}]
        )
        return [
            cache.features()[order.argsort()].tolist(),
            cache.kernel.tolist(),
            len(self.files()),
        ]

    def result(self):
        """Give what can be read of the step's result; InputError where it is refused."""
        if self.name == "index":
            index = Index(open_cache(self.folder, {}))
            return [index.candidates, index.moment.tolist()]
        if self.name == "examples":
            found = load_examples(self.folder / "e", self.attributor)
            return [
                (e.prompt, e.image.tobytes(), e.answer.scores["general"].tolist()) for e in found
            ]
        if self.name == "remove":
            its = Attributor.from_pretrained(self.attributor.model.name, self.folder, self.pictures)
            return sorted(its.visible.file(row) for row in its.visible.rows())
        opened = self.attributor.with_cache(self.folder)
        if self.name == "likeness":
            known, small = opened.look_alikes, opened.thumbnails
            return [known and known.codes.tolist(), small and small.grey.tolist()]
        if self.name == "weights":
            return [weights.tolist() for weights in opened.weights.values()]
        return opened.calibration and opened.calibration.unrelated.tolist()

    def state(self, older, newer):
        """Say which result a killed run left; likeness is two files, of which each is the older or the newer."""
        try:
            found = self.result()
        except InputError as error:
            return str(error)
        if self.name == "likeness" and found not in (older, newer):
            assert all(part in both for part, *both in zip(found, older, newer, strict=True))
            return "between"
        return {str(older): "older", str(newer): "newer"}[str(found)]


@pytest.fixture(scope="module")
def plain(attributor, tmp_path_factory):
    """The small attributor of a collection without concepts, which spares three questions of four."""
    folder = tmp_path_factory.mktemp("plain") / "collection"
    shutil.copytree(attributor.collection.folder, folder)
    for name in ("concepts.json", "held_out.json"):
        (folder / name).unlink()
    return Attributor.from_pretrained(attributor.model.name, attributor.cache.folder, folder)


@pytest.mark.parametrize("name", STEPS)
def test_a_killed_step_loses_nothing_and_mixes_nothing(plain, tmp_path, name):
    step = Step(name, plain, tmp_path / "work")
    step.begin()
    older = step.result()
    shutil.copytree(step.folder, tmp_path / "older")
    seconds, events = step.finish()
    want, newer = step.made(), step.result()
    assert older != newer
    chance, kills, left = random.Random(0), 0, []
    for attempt in range(10 * KILLS):
        shutil.rmtree(step.folder)
        shutil.copytree(tmp_path / "older", step.folder)
        deadly = 1 + chance.randrange(events) if attempt % 2 else 0
        process, _ = step.start(deadly)
        process.join(None if deadly else chance.uniform(0.02, 0.98) * seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode == 0:  # it was done before its moment came
            continue
        assert process.exitcode == -signal.SIGKILL
        left.append(step.state(older, newer))
        step.finish()
        assert step.made() == want
        kills += 1
        if kills == KILLS:
            break
    assert kills == KILLS
    refusals = set(left) - {"older", "between", "newer"}
    assert all(f"run python -m precompute {name}" in said for said in refusals)
    left = ["refused" if state in refusals else state for state in left]
    print(f"\n{name}: {kills} kills in {seconds:.2f} s and {events} file events; left: {left}")


@pytest.mark.parametrize("name", STEPS)
def test_a_full_disk_is_one_sentence_and_costs_nothing(plain, tmp_path, name):
    step = Step(name, plain, tmp_path / "work")
    step.begin()
    before, older = step.files(), step.result()
    process, its = step.start(full=True)
    *_, last = its.recv().strip().splitlines()
    process.join()
    assert process.exitcode == 2
    assert re.fullmatch(
        f"python -m precompute {name}: .*could not be written.*; free some space.*", last
    ), last
    left = step.files()
    assert {*left} == {*before}
    asked = {"pictures/opt_out.json"}  # is small enough, and holds from then on
    assert {file for file in before if before[file] != left[file]} <= asked
    assert step.result() == older or name == "remove"
    step.finish()
    assert step.result() != older
