"""A cache survives damage, kills and a full disk, and grows and shrinks to what its collection is."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from attribution import files
from attribution.attributor import Attributor
from attribution.cache import shards, store
from attribution.cache.build import build_cache
from attribution.cache.shards import restored, rows_of_shard, write_shard
from attribution.cache.site import CacheConfig
from attribution.cache.store import open_cache
from attribution.errors import InputError
from attribution.gradients.kernel import fit_kernel
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import Row, load_collection
from precompute.__main__ import main

ROOT = Path(__file__).parents[1]
SETTINGS = {"timesteps": 4, "proj_dim": 8, "shard_size": 8}  # of the shared cache


def make(model, collection, folder, **more):
    return build_cache(model, load_collection(collection), folder, CacheConfig(**SETTINGS, **more))


def command(model, collection, output, *more):
    """The same as a step, for what is of processes and of the command line."""
    names = ["--pretrained_model_name_or_path", str(model), "--train_data_dir", str(collection)]
    settings = [text for name, value in SETTINGS.items() for text in (f"--{name}", str(value))]
    return ["gradients", *names, "--output_dir", str(output), *settings, *more]


@pytest.fixture(scope="module")
def model(attributor):
    return attributor.model


@pytest.fixture(scope="module")
def cache(attributor):
    return attributor.cache.folder


@pytest.fixture
def copy(cache, tmp_path):
    return shutil.copytree(cache, tmp_path / "cache")


def shrunk(collection, folder, gone):
    """Copy a collection without some of its images."""
    shutil.copytree(collection, folder)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    for line in (lines[place] for place in gone):
        (folder / json.loads(line)["file_name"]).unlink()
    kept = [line for place, line in enumerate(lines) if place not in gone]
    (folder / "metadata.jsonl").write_text("\n".join(kept) + "\n")
    return folder


def by_row(folder):
    """Give every row's features and norms, and the kernel's two tensors."""
    cache = open_cache(folder, {})
    features, raw = cache.features(), cache.features(raw=True)
    assert len(set(cache.rows)) == len(cache.rows) == len(cache)
    return {row: (features[i], raw[i]) for i, row in enumerate(cache.rows)}, cache


def same(folder, other, exact=True):
    """Compare what two caches hold, row by row."""
    (rows, one), (others, two) = by_row(folder), by_row(other)
    assert rows.keys() == others.keys()
    for row, pair in rows.items():
        for a, b in zip(pair, others[row], strict=True):
            assert torch.equal(a, b) if exact else torch.allclose(a, b, atol=2e-3, rtol=2e-2)
    tolerance = 1e-9 if exact else 1e-2
    assert torch.allclose(one.gram, two.gram, atol=tolerance * len(rows))
    assert torch.allclose(one.kernel, two.kernel, atol=1e-6 if exact else 1e-2)
    assert one.header["fingerprints"] == two.header["fingerprints"]


@pytest.mark.parametrize(("dtype", "step"), [("float16", 1e-3), ("int8", 0.51 / 127)])
def test_stored_features_are_the_made_ones_at_norm_one(tmp_path, dtype, step):
    features = torch.randn(5, 3, 32, generator=torch.Generator().manual_seed(0))
    features[0, 0] *= 1e6
    features[1, 1] = 0
    rows = [Row(f"{n}.png", "0" * 16) for n in range(5)]
    write_shard(tmp_path, 0, rows, features, dtype)
    path = shards.shard_path(tmp_path, 0)
    tensors = files.load_tensors(path)
    norms = features.norm(dim=-1, keepdim=True)
    want = features / norms.clamp_min(1e-30)
    assert (restored(tensors["features"]).permute(2, 0, 1) - want).abs().max() <= step
    assert torch.allclose(tensors["norms"].T, norms[..., 0], rtol=1e-6)
    assert rows_of_shard(path) == rows
    assert path.stat().st_size < shards.bytes_of_row(3, 32, dtype) * 5 + 1000


def test_nan_features_are_never_written(tmp_path):
    rows = [Row("a.png", ""), Row("b.png", "")]
    with pytest.raises(InputError, match=r"features of b\.png hold NaN"):
        write_shard(tmp_path, 0, rows, torch.tensor([[[1.0]], [[float("nan")]]]))
    assert not list(tmp_path.iterdir())


def test_the_kernel_is_that_of_the_stored_features(cache):
    opened = open_cache(cache, {})
    wide = opened.features().transpose(0, 1).double()
    gram = wide.mT @ wide
    assert torch.allclose(opened.gram, gram, atol=1e-6)
    assert torch.allclose(opened.kernel, fit_kernel(gram, len(opened)), rtol=1e-4, atol=1e-4)


def test_features_are_read_by_memory_map(copy):
    before = Path("/proc/self/maps").read_text()
    opened = open_cache(copy, {})
    held = [opened.read(shard) for shard in opened.shards]
    path = str(copy / opened.shards[0].name)
    assert path not in before
    assert path in Path("/proc/self/maps").read_text()
    assert held


def forkserver():
    """Give processes that start at once: what is slow to import is imported already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["precompute.gradients"])
    return context


def _run(argv):
    torch.set_num_threads(1)
    sys.exit(main(argv))


def _run_on_a_full_disk(argv, said):
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))  # a shard takes more
    _run(argv)


# Damage.


@pytest.mark.parametrize(
    "harm", ["truncate", "flip", "remove", "kernel", "header", "header value", "newer", "older"]
)
def test_damage_is_found_at_opening_and_named(copy, harm):
    header = copy / "header.json"
    shard = copy / "features-000002.safetensors"
    target = {"kernel": next(copy.glob("kernel-*")), "header": header}.get(harm, shard)
    data = bytearray(target.read_bytes())
    if harm == "truncate":
        shard.write_bytes(data[:-100])
    elif harm == "remove":
        shard.unlink()
    elif harm in ("header value", "newer", "older"):
        text = header.read_text()
        old, new = {
            "header value": ('"damping": 1.0', '"damping": 2.0'),
            "newer": (f'"version": {store.VERSION}', '"version": 99'),
            "older": (f'"version": {store.VERSION}', '"version": 1'),
        }[harm]
        assert old in text
        header.write_text(text.replace(old, new))
    else:
        data[len(data) // 2] ^= 1 if harm != "header" else 255
        target.write_bytes(data)
    expected = {
        "newer": "version 99.*update this program",
        "older": "version 1.*make the cache again",
    }.get(
        harm, f"{target.name if 'header' not in harm else 'header.json'} is (missing or )?damaged"
    )
    with pytest.raises(InputError, match=expected):
        open_cache(copy, {})


def test_a_large_cache_is_checked_shard_by_shard_when_read(copy, monkeypatch):
    monkeypatch.setattr(store, "CHECKED_AT_OPENING", 0)
    path = copy / "features-000001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    opened = open_cache(copy, {})
    opened.read(opened.shards[0])
    with pytest.raises(InputError, match="000001.safetensors is missing or damaged"):
        opened.features()


def test_features_that_do_not_fit_the_header_are_refused(copy):
    path = copy / "features-000001.safetensors"
    tensors = load_file(path)
    tensors["features"] = tensors["features"][:, :4].contiguous()
    save_file(tensors, path, {"about": json.dumps({"rows": [["a", "b"]] * 8, "tensors": ""})})
    header = store.read_header(copy)
    listed = [
        shards.describe_shard(path) if shard.name == path.name else shard
        for shard in store.listed_shards(header)
    ]
    gram, kernel = store.read_kernel(copy, header)
    store.write_header(copy, header, listed, gram, kernel)
    with pytest.raises(InputError, match="not what the header says"):
        open_cache(copy, {})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": null}', "[" * 99999, "9" * 5000])
def test_a_header_of_any_shape_is_one_sentence(copy, content):
    (copy / "header.json").write_text(content)
    with pytest.raises(InputError, match=r"header\.json is damaged"):
        open_cache(copy, {})


def test_a_header_cannot_name_files_outside_its_folder(copy):
    header = json.loads((copy / "header.json").read_text())
    header.pop("checksum")
    header["shards"][0]["name"] = "../features-000000.safetensors"
    header["checksum"] = files.hash_of(header)
    (copy / "header.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match=r"header\.json is damaged"):
        open_cache(copy, {})


@pytest.mark.parametrize("lost", ["kernel-000001.safetensors", "header.json", "settings.json"])
def test_what_is_lost_is_made_anew_without_taking_gradients_again(
    cache, copy, model, small_collection, lost
):
    (copy / lost).unlink()
    kept = {p.name: p.stat().st_mtime_ns for p in copy.glob("features-*")}
    make(model, small_collection, copy)
    assert {p.name: p.stat().st_mtime_ns for p in copy.glob("features-*")} == kept
    same(cache, copy)


def test_a_run_with_nothing_to_do_changes_nothing(copy, model, small_collection):
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    (copy / "features-000077.safetensors.part").write_bytes(b"half a shard")
    make(model, small_collection, copy)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_damage_removal_and_addition_at_once_end_in_the_right_sums(
    model, small_collection, tmp_path
):
    first = shrunk(small_collection, tmp_path / "first", {1, 20, 21})
    second = shrunk(small_collection, tmp_path / "second", {0, 9, 10})
    folder = tmp_path / "cache"
    make(model, first, folder)
    path = folder / "features-000001.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    make(model, second, folder, remove=True)
    rows, opened = by_row(folder)
    assert set(rows) == set(load_collection(second).rows)
    wide = opened.features().transpose(0, 1).double()
    assert torch.allclose(opened.gram, wide.mT @ wide, atol=1e-6)


def test_features_of_another_model_are_not_kept_even_without_settings(
    copy, small_model, small_collection, tmp_path
):
    other = shutil.copytree(small_model, tmp_path / "model")
    weights = other / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_in.bias"] += 1
    save_file(tensors, weights, {"format": "pt"})
    (copy / "settings.json").unlink()
    with pytest.raises(InputError, match=r"other settings \(model\)"):
        make(DiffusionModel.from_pretrained(other), small_collection, copy)


def test_numbers_are_not_used_twice(copy, model, small_collection, tmp_path):
    smaller = shrunk(small_collection, tmp_path / "smaller", set(range(24, 30)))
    make(model, smaller, copy, remove=True)
    make(model, small_collection, copy)
    names = sorted(p.name for p in copy.glob("features-*"))
    assert names == [f"features-00000{n}.safetensors" for n in (0, 1, 2, 4)]


@pytest.mark.parametrize("value", [1e-23, 1e-40, 1e20])
def test_features_of_any_size_are_stored_at_norm_one_or_zero(tmp_path, value):
    write_shard(tmp_path, 0, [Row("a", "")], torch.full((1, 1, 64), value))
    stored = files.load_tensors(shards.shard_path(tmp_path, 0))["features"].float()
    assert float(stored.norm()) == pytest.approx(0 if value < 1e-30 else 1, abs=1e-2)


def test_only_a_damaged_shard_is_made_anew(cache, copy, model, small_collection):
    path = copy / "features-000001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    kept = {p.name: p.stat().st_mtime_ns for p in copy.glob("features-*") if p != path}
    make(model, small_collection, copy)
    assert kept.items() <= {p.name: p.stat().st_mtime_ns for p in copy.glob("features-*")}.items()
    same(cache, copy)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_damages_nothing(
    copy, model, small_model, small_collection, tmp_path
):
    whole = {p.name: p.read_bytes() for p in copy.iterdir()}
    path = copy / "features-000001.safetensors"
    path.unlink()
    process = forkserver().Process(
        target=_run_on_a_full_disk,
        args=(command(small_model, small_collection, copy), tmp_path / "said"),
    )
    process.start()
    process.join()
    assert process.exitcode == 2
    error = (tmp_path / "said").read_text().strip().splitlines()[-1]
    assert "features-000004.safetensors could not be written" in error
    assert "free some space" in error
    assert {p.name for p in copy.iterdir()} == whole.keys() - {path.name}
    for name in whole.keys() - {path.name}:
        assert (copy / name).read_bytes() == whole[name]
    make(model, small_collection, copy)
    assert len(open_cache(copy, {})) == len(load_collection(small_collection))


def test_a_disk_that_is_too_small_is_found_before_the_work(
    model, small_collection, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"needs 0\.00 GB more"):
        make(model, small_collection, tmp_path / "out")
    assert not list((tmp_path / "out").glob("features-*"))


def test_a_second_writer_is_refused(copy, model, small_collection):
    with files.writing(copy), pytest.raises(InputError, match="another process is writing"):
        make(model, small_collection, copy)
    make(model, small_collection, copy)


def test_dry_run_writes_nothing_and_says_what_it_needs(
    small_model, small_collection, tmp_path, capsys
):
    output = tmp_path / "out"
    assert main(command(small_model, small_collection, output, "--dry_run")) == 0
    text = capsys.readouterr().out
    assert "30 of 30 images to make, 0 to remove" in text
    assert "images a second" in text
    assert "MB of disk" in text
    assert not output.exists()


# Growing and shrinking.


def test_images_are_added_without_taking_old_gradients_again(
    cache, model, small_collection, tmp_path
):
    smaller = shrunk(small_collection, tmp_path / "smaller", {0, 11, 29})
    output = tmp_path / "out"
    make(model, smaller, output)
    old = {p.name: p.stat().st_mtime_ns for p in output.glob("features-*")}
    built = make(model, small_collection, output)
    assert (built.added, built.removed) == (3, 0)
    assert old.items() <= {p.name: p.stat().st_mtime_ns for p in output.glob("features-*")}.items()
    same(cache, output, exact=False)  # batches differ, so rounding does


def test_a_removed_image_is_gone_from_disk_kernel_and_results(
    copy, model, small_model, small_collection, tmp_path
):
    before, _ = by_row(copy)
    gone = {3, 4, *range(16, 24)}  # some of one shard and all of another
    smaller = shrunk(small_collection, tmp_path / "smaller", gone)
    names = {row.file for row in load_collection(small_collection).rows} - {
        row.file for row in load_collection(smaller).rows
    }
    with pytest.raises(InputError, match="made for another collection"):
        Attributor.from_pretrained(small_model, copy, smaller)
    built = make(model, smaller, copy, remove=True)
    assert (built.added, built.removed) == (0, 10)
    after, opened = by_row(copy)
    assert after.keys() == {row for row in before if row.file not in names}
    assert all(torch.equal(after[row][0], before[row][0]) for row in after)
    for path in copy.glob("features-*"):
        data = path.read_bytes()
        assert not any(name.encode() in data for name in names)
    wide = opened.features().transpose(0, 1).double()
    assert torch.allclose(opened.gram, wide.mT @ wide, atol=1e-6)
    attributor = Attributor.from_pretrained(small_model, copy, smaller)  # the weights still serve
    answer = attributor.attribute(attributor.collection.image(5), attributor.collection.captions[5])
    assert answer.rank(1)[0].index == 5
    assert {source.file for source in answer.rank(30)} == {row.file for row in after}


def test_a_changed_caption_is_a_changed_image(
    copy, small_model, small_collection, tmp_path, capsys
):
    changed = shutil.copytree(small_collection, tmp_path / "changed")
    rows = [json.loads(line) for line in (changed / "metadata.jsonl").read_text().splitlines()]
    rows[2]["text"] = "something else"
    (changed / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(command(small_model, changed, copy)) == 0
    assert "1 images added, 1 removed" in capsys.readouterr().err


# Kills.


def run_whole(argv):
    process = forkserver().Process(target=_run, args=(argv,))
    start = time.perf_counter()
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - start


@pytest.mark.slow
def test_ten_kills_lose_nothing_and_double_nothing(small_model, small_collection, tmp_path):
    whole, killed = (
        [*command(small_model, small_collection, tmp_path / name), "--shard_size", "3"]
        for name in ("whole", "killed")
    )
    run_whole(whole)
    shutil.rmtree(tmp_path / "whole")
    length = run_whole(whole)  # the first also started the fork server
    moments, kills, left = random.Random(0), 0, []
    for _ in range(80):
        process = forkserver().Process(target=_run, args=(killed,))
        process.start()
        process.join(moments.uniform(0.2, 1.0) * length)
        if process.exitcode is not None:  # it was done before its moment came: start over
            assert process.exitcode == 0
            shutil.rmtree(tmp_path / "killed")
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        left.append(len(list((tmp_path / "killed").glob("features-*.safetensors"))))
        kills += 1
        if kills == 10:
            break
    assert kills == 10
    assert max(left) > 0  # some fell in the middle of the work
    run_whole(killed)
    same(tmp_path / "whole", tmp_path / "killed")
    first, second = (
        {p.name: p.read_bytes() for p in (tmp_path / name).glob("*.safetensors")}
        for name in ("whole", "killed")
    )
    assert first == second


# Several processes.


def launch(argv, processes=2):
    """Run a step under `accelerate launch` with several processes on the CPU."""
    options = ["--multi_gpu", "--num_processes", str(processes), "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", *argv],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_make_the_same_cache_and_a_lost_one_is_made_up_for(
    cache, small_model, small_collection, tmp_path
):
    folder = tmp_path / "two"
    argv = ["precompute", *command(small_model, small_collection, folder)]
    process = launch(argv)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    same(cache, folder, exact=False)
    shutil.rmtree(folder)

    process = launch([*argv, "--shard_size", "2"])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not list(folder.glob("features-*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0, output
    assert not (folder / "header.json").exists()
    survived = {p.name: p.stat().st_mtime_ns for p in folder.glob("features-*.safetensors")}
    assert survived
    assert main([*argv[1:], "--shard_size", "2"]) == 0
    now = {p.name: p.stat().st_mtime_ns for p in folder.glob("features-*.safetensors")}
    assert survived.items() <= now.items()
    same(cache, folder, exact=False)
