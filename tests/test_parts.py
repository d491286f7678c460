"""Parts of the gradients, made by jobs that know nothing of one another, are the cache that one run makes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attribution.cache.parts import make_part, part_named
from attribution.cache.site import CacheConfig
from attribution.cache.store import open_cache
from attribution.errors import InputError
from precompute.__main__ import main

ROOT = Path(__file__).parents[1]
SIZES = ["--timesteps", "4", "--proj_dim", "8", "--shard_size", "4"]


@pytest.fixture
def argv(small_model, small_collection, tmp_path):
    names = ["--pretrained_model_name_or_path", small_model, "--train_data_dir", small_collection]
    return ["gradients", *map(str, names), "--output_dir", str(tmp_path / "cache"), *SIZES]


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("features-*.safetensors")}


def test_parts_in_any_order_and_twice_are_one_runs_cache(argv, tmp_path, capsys):
    folder = tmp_path / "cache"
    for part in ("3/3", "1/3"):
        assert main([*argv, "--part", part]) == 0
    assert "3 shards of other parts are missing yet" in capsys.readouterr().out
    before = times(folder)
    assert main([*argv, "--part", "1/3"]) == 0
    assert times(folder) == before
    assert "part 1/3: 0 of 3 shards made" in capsys.readouterr().out
    assert not (folder / "header.json").exists()
    (folder / "features-000002.safetensors").write_bytes(b"half")
    assert main([*argv, "--part", "3/3"]) == 0
    assert main([*argv, "--part", "2/3"]) == 0
    assert "all shards are there" in capsys.readouterr().out
    before = times(folder)
    assert main(argv) == 0
    assert times(folder) == before
    whole = [*argv]
    whole[whole.index("--output_dir") + 1] = str(tmp_path / "whole")
    assert main(whole) == 0
    parts, one = open_cache(folder, {}), open_cache(tmp_path / "whole", {})
    assert parts.rows == one.rows
    assert torch.equal(parts.features(), one.features())
    assert torch.allclose(parts.kernel, one.kernel)


def test_a_part_that_never_came_is_made_by_the_closing_command(argv, tmp_path):
    assert main([*argv, "--part", "1/2"]) == 0
    assert main(argv) == 0
    assert len(open_cache(tmp_path / "cache", {})) == 30


def test_two_parts_at_once_are_two_processes_that_need_not_speak(argv, tmp_path):
    jobs = [
        subprocess.Popen([sys.executable, "-m", "precompute", *argv, "--part", part], cwd=ROOT)
        for part in ("1/2", "2/2")
    ]
    assert [job.wait(120) for job in jobs] == [0, 0]
    assert len(times(tmp_path / "cache")) == 8
    assert main(argv) == 0
    assert len(open_cache(tmp_path / "cache", {})) == 30


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(InputError, match="i/n, such as 1/8"):
        part_named(text)


def test_parts_of_other_settings_are_refused_before_they_are_mixed(argv, capsys):
    assert main([*argv, "--part", "1/2"]) == 0
    assert main([*argv, "--part", "2/2", "--seed", "1"]) == 2
    assert "features of other settings (features)" in capsys.readouterr().err


def test_a_part_removes_nothing(attributor, tmp_path):
    import shutil

    folder = tmp_path / "cache"
    shutil.copytree(attributor.cache.folder, folder)
    fewer = attributor.collection.without({attributor.collection.files[0]: "broken"})
    config = CacheConfig(timesteps=4, proj_dim=8, shard_size=8)
    with pytest.raises(InputError, match="without --part first"):
        make_part(attributor.model, fewer, folder, config, (1, 2))
