"""What is wrong with a collection is known, all of it, before any work is done."""

import json

import pytest
import torch
from PIL import Image

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.pictures.check import check_collection, near_copies
from attribution.pictures.collection import load_collection
from precompute.__main__ import main


def noise(seed, size=64):
    values = torch.randint(256, (8, 8, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.byte().numpy()).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, of which one is cut, one empty, one tiny, one a copy and one nearly one."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        noise(number).save(folder / f"{number}.png")
    data = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "empty.png").write_bytes(b"")
    noise(9, 16).save(folder / "tiny.png")
    noise(1).save(folder / "copy.bmp", "WEBP", lossless=True)
    (folder / "copy.bmp").rename(folder / "copy.webp")
    noise(2).resize((80, 80)).save(folder / "near.jpg", quality=80)
    rows = [
        {"file_name": path.name, "text": "a cat " * (40 if path.name == "4.png" else 1)}
        | ({} if path.name == "5.png" else {"artist": "Ann"})
        for path in sorted(folder.iterdir())
    ]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_everything_that_is_wrong_is_found_at_once(folder):
    steps = []
    found = check_collection(
        load_collection(folder), lambda text: len(text) > 99, lambda *at: steps.append(at)
    )
    assert set(found.broken) == {"cut.png", "empty.png"}
    assert all(why.startswith("the file is not a readable") for why in found.broken.values())
    assert found.tiny == ["tiny.png"]
    assert found.same == [["1.png", "copy.webp"]]
    assert found.near == [["2.png", "near.jpg"]]
    assert found.cut == ["4.png"]
    assert found.unlabelled == {"artist": ["5.png"]}
    assert steps == [(n, 11) for n in range(1, 12)]
    text = "\n".join(found.told())
    assert "cannot be read: cut.png" in text
    assert "near copies: 2.png, near.jpg" in text


def test_near_copies_are_found_as_by_comparing_all_pairs():
    generator = torch.Generator().manual_seed(0)
    looks = torch.randint(2**62, (200,), generator=generator).tolist()
    for row in range(40):  # changes of one to six bits
        bits = torch.randperm(62, generator=generator)[: 1 + row % 6].tolist()
        looks.append(looks[row] ^ sum(1 << bit for bit in bits))
    found = {tuple(group) for group in near_copies({str(n): look for n, look in enumerate(looks)})}
    pairs = {
        (str(a), str(b))
        for a in range(len(looks)) for b in range(a) if (looks[a] ^ looks[b]).bit_count() <= 3
    }  # fmt: skip
    assert found == {(b, a) for a, b in pairs}


def test_a_thousand_flat_pictures_are_one_group():
    assert [len(g) for g in near_copies({str(n): 0 for n in range(3000)})] == [3000]
    assert near_copies({}) == []


def test_a_dry_run_names_what_is_broken_and_skipping_it_is_remembered(
    folder, small_model, tmp_path, capsys
):
    cache = tmp_path / "cache"
    argv = [
        "gradients",
        "--pretrained_model_name_or_path",
        str(small_model),
        "--output_dir",
        str(cache),
    ]
    argv += ["--train_data_dir", str(folder), "--timesteps", "2", "--proj_dim", "4"]
    assert main([*argv, "--dry_run", "--skip_broken"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be read: cut.png" in printed
    assert "captions that the model cuts: 1 (4.png)" in printed
    assert "9 of 9 images to make" in printed
    assert not cache.exists()
    assert main(argv) == 2
    assert "is not a readable" in capsys.readouterr().err
    assert main([*argv, "--skip_broken"]) == 0
    names = ["--pretrained_model_name_or_path", str(small_model), "--train_data_dir", str(folder)]
    assert (
        main(["weights", *names, "--cache_dir", str(cache), "--queries", "4", "--top_k", "3"]) == 0
    )
    its = Attributor.from_pretrained(small_model, cache, folder)
    assert len(its.collection) == 9
    assert its.collection.layout.left_out == ("cut.png", "empty.png")
    assert main(argv) == 0
    assert "0 images added, 0 removed" in capsys.readouterr().err


def test_where_nothing_is_left_there_is_no_collection(folder):
    found = load_collection(folder)
    with pytest.raises(InputError, match="no picture of .* is left"):
        found.without(found.files)
