"""Shared fixtures: a small collection cut from the shipped one, and an untrained pipeline to go with it."""

import json
import os
import shutil
import socket
import time
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from attribution.answer.learning import LearnConfig, learn_weights
from attribution.attributor import Attributor
from attribution.cache.build import build_cache
from attribution.cache.site import CacheConfig
from attribution.cache.store import open_cache
from attribution.looks.unlearning import UnlearnConfig
from attribution.models.diffusion import DiffusionModel
from attribution.page.hall import Hall, load
from attribution.page.server import serve
from attribution.page.settings import Settings
from attribution.pictures.collection import load_collection
from precompute.shipped.autoencoder import new_autoencoder
from precompute.shipped.denoiser import new_scheduler, new_text_encoder, new_tokenizer

ASSETS = Path(__file__).parents[1] / "assets"
COUNT = 30


@pytest.fixture(scope="session")
def small_collection(tmp_path_factory):
    """Copy thirty pictures of the shipped collection, every 84th, into an imagefolder of their own."""
    folder = tmp_path_factory.mktemp("collection")
    (folder / "images").mkdir()
    rows = [
        json.loads(line) for line in (ASSETS / "collection/metadata.jsonl").read_text().splitlines()
    ]
    rows = rows[:: len(rows) // COUNT][:COUNT]
    for row in rows:
        shutil.copy(ASSETS / "collection" / row["file_name"], folder / row["file_name"])
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("concepts.json", "held_out.json"):
        shutil.copy(ASSETS / "collection" / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def small_model(small_collection, tmp_path_factory):
    """Save an untrained pipeline whose denoiser is small enough to run in milliseconds."""
    torch.manual_seed(0)
    tokenizer = new_tokenizer(load_collection(small_collection).captions)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=2,
    )
    folder = tmp_path_factory.mktemp("model")
    StableDiffusionPipeline(
        vae=new_autoencoder(64),
        text_encoder=new_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def built(model, collection, folder, **settings):
    """Make a cache in a folder, and weights from few queries; give both, open."""
    model, collection = DiffusionModel.from_pretrained(model), load_collection(collection)
    build_cache(model, collection, folder, CacheConfig(**settings))
    learn_weights(model, collection, folder, LearnConfig(queries=4, top_k=3))
    return Attributor(model, collection, open_cache(folder, {}))


@pytest.fixture(scope="session")
def attributor(small_model, small_collection, tmp_path_factory):
    """The small model with a cache of few timesteps and weights from few queries."""
    folder = tmp_path_factory.mktemp("cache")
    return built(small_model, small_collection, folder, timesteps=4, proj_dim=8, shard_size=8)


@pytest.fixture(scope="session")
def backwards(attributor):
    """The same attributor, had the collection been listed from its end."""
    collection = attributor.collection
    lists = {name: getattr(collection, name)[::-1] for name in ("files", "captions", "labels")}
    return Attributor(attributor.model, replace(collection, **lists), attributor.cache)


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    """The folder of gradio's own copies of what it was sent."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def hall():
    """The page's hall on the shipped model, where one learns and forgets in fewer steps than on the page."""
    loaded = load(Settings())
    quick = replace(loaded.desk, own_queries=2, unlearning=UnlearnConfig(steps=2))
    return replace(loaded, desk=quick)


@pytest.fixture(scope="session")
def desk(hall):
    """What the page does for all visitors."""
    return hall.desk


@contextmanager
def served(hall, settings=None):
    """Serve a page on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = serve(hall, "127.0.0.1", port, settings, block=False)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        end = time.monotonic() + 60
        while any(demo._queue.active_jobs) and time.monotonic() < end:
            time.sleep(0.05)  # a thread that still computes when the interpreter ends aborts it
        demo.close()


@pytest.fixture(scope="session")
def url(hall, served_folder):
    """The page, served."""
    with served(hall) as address:
        yield f"http://{address}"


@pytest.fixture(scope="session")
def hasty(hall):
    """A desk in haste: it draws in one step, and gives every picture the same answer."""
    its, answer = copy(hall.desk.attributor), hall.desk.first().answer

    def attribute(image, prompt="", concepts=None):
        its.model.conditions([prompt, *(concepts or {}).values()])  # refuses what it would refuse
        return answer

    its.model = replace(its.model)
    its.model.generate = partial(its.model.generate, steps=1)
    its.attribute = attribute
    quick = UnlearnConfig(steps=1, batch_size=1)
    return replace(hall.desk, attributor=its, own_queries=1, unlearning=quick)


@pytest.fixture(scope="session")
def hasty_page(hasty, served_folder):
    """The hasty desk's page, which gives no time to long jobs."""
    with served(Hall(hasty, limit=0)) as address:
        yield address
