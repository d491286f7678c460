"""Caches, collections and models come from the Hub by the real client, from a server that stands in for the Hub."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import datasets
import pytest
import torch
from conftest import built
from huggingface_hub import constants, hf_api

from attribution.attributor import Attributor
from attribution.errors import InputError
from attribution.models.diffusion import DiffusionModel
from attribution.pictures.collection import load_collection
from attribution.pictures.hub import is_hub_id, local_folder, real_files
from attribution.pictures.layout import Layout

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v2", COMMIT)


class Hub(BaseHTTPRequestHandler):
    """Answer what the Hub's client asks before and while it fetches files: a repository, its tree, its files."""

    folders: dict = {}  # "datasets/ann/pictures" -> folder  # noqa: RUF012
    gated = "datasets/ann/gated"
    asked: list = []  # noqa: RUF012

    def do_GET(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.asked.append("/".join(path))
        if path[0] == "api":
            what, revision = path[4:6] if path[5:] else ("", "main")
            return self.api("/".join(path[1:4]), what, revision)
        kind = "datasets" if path[0] == "datasets" else "models"
        owner, name, _, revision, *file = path[kind == "datasets" :]
        source = self.folders[f"{kind}/{owner}/{name}"] / "/".join(file)
        if not source.is_file():
            return self.refuse(404, "EntryNotFound")
        return self.give(source.read_bytes())

    do_HEAD = do_GET

    def api(self, repository, what, revision):
        if repository == self.gated:
            return self.refuse(403, "GatedRepo")
        if repository not in self.folders:
            return self.refuse(401 if "private" in repository else 404, "RepoNotFound")
        if revision not in REVISIONS:
            return self.refuse(404, "RevisionNotFound")
        folder = self.folders[repository]
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [str(path.relative_to(folder)) for path in files]
        if what == "tree":
            sizes = [path.stat().st_size for path in files]
            oids = [hashlib.sha1(path.read_bytes()).hexdigest() for path in files]
            rows = zip(names, sizes, oids, strict=True)
            tree = [{"type": "file", "path": n, "size": s, "oid": o} for n, s, o in rows]
            return self.give(json.dumps(tree).encode())
        about = {"id": repository.split("/", 1)[1], "sha": COMMIT, "tags": []}
        about["siblings"] = [{"rfilename": name} for name in names]
        return self.give(json.dumps(about).encode())

    def give(self, body):
        etag = hashlib.sha1(body).hexdigest()
        self.reply(200, body, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def refuse(self, status, code):
        self.reply(status, b"{}", {"X-Error-Code": code})

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def cache(small_model, small_collection, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    built(small_model, small_collection, folder, timesteps=2, proj_dim=4)
    (folder / "weights.pkl").write_bytes(b"never")
    return folder


@pytest.fixture
def hub(small_model, small_collection, cache, tmp_path, monkeypatch):
    """A server that the Hub's client, its own cache empty, takes for the Hub."""
    Hub.folders = {"models/ann/model": small_model, "datasets/ann/cache": cache}
    Hub.folders["datasets/ann/pictures"] = small_collection
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(hf_api.api, "endpoint", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_all_three_come_from_the_hub_and_answer_as_from_folders(
    hub, small_model, small_collection, cache
):
    fetched = Attributor.from_pretrained("ann/model", "ann/cache", "ann/pictures@v2")
    local = Attributor.from_pretrained(small_model, cache, small_collection)
    image = local.collection.image(3)
    answers = [each.attribute(image, "a woodcut of a cat").rank(5) for each in (fetched, local)]
    assert [s.file for s in answers[0]] == [s.file for s in answers[1]]
    assert fetched.with_cache("ann/cache").method == local.method
    fetched.requests.path.write_text(json.dumps({"files": [answers[0][0].file]}))
    left = fetched.attribute(image, "a woodcut of a cat")
    assert [s.file for s in left.rank(4)] == [s.file for s in answers[0][1:]]
    assert left.hidden_among(1) == 1
    assert not any(name.endswith((".pkl", ".bin", ".pt")) for name in Hub.asked)


def test_a_model_that_was_saved_in_halves_alone_comes_from_the_hub(hub, small_model, tmp_path):
    pipeline = DiffusionModel.from_pretrained(small_model).pipeline.to(torch.float16)
    pipeline.save_pretrained(tmp_path / "halves", variant="fp16")
    Hub.folders["models/ann/halves"] = tmp_path / "halves"
    found = DiffusionModel.from_pretrained("ann/halves")
    local = DiffusionModel.from_pretrained(tmp_path / "halves")
    assert found.fingerprint == local.fingerprint


def test_what_is_fetched_is_real_files_of_the_kinds_that_are_read(hub, small_collection):
    folder = local_folder("ann/cache", "cache")
    assert not (folder / "weights.pkl").exists()
    folder = local_folder("ann/pictures", "collection")
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    fetched, local = load_collection(folder), load_collection(small_collection)
    assert fetched.fingerprint() == local.fingerprint()


@pytest.mark.parametrize("linked", [True, False])
def test_what_a_stopped_fetch_left_out_is_added_by_the_next(tmp_path, monkeypatch, linked):
    def refuse(*_):
        raise OSError("another disk")

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    if not linked:
        monkeypatch.setattr("os.link", refuse)
    snapshot = tmp_path / COMMIT
    for names in (["a.png"], ["b.png", "header.json", "x.safetensors", "folder.txt/c.png"]):
        for name in names:
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).write_text(name)
        pictures = real_files(snapshot, "ann/pictures", "collection")
    cache = real_files(snapshot, "ann/pictures", "cache")
    found = [[str(p.relative_to(f)) for p in f.rglob("*.*") if p.is_file()] for f in (pictures, cache)]  # fmt: skip
    wanted = ["a.png", "b.png", "folder.txt/c.png", "header.json"]
    assert [sorted(names) for names in found] == [wanted, ["header.json", "x.safetensors"]]
    assert (pictures / "b.png").read_text() == "b.png"


def test_a_data_set_of_tables_is_read_by_its_id_part_split_and_revision(hub, tmp_path):
    folder = tmp_path / "tables"
    rows = {"image": [{"bytes": b"no picture", "path": "a.png"}], "text": ["a cat"]}
    for part in ("small/train", "small/test", "large/train"):
        (folder / part).mkdir(parents=True)
        datasets.Dataset.from_dict(rows | {"text": [part]}).to_parquet(folder / part / "0.parquet")
    Hub.folders["datasets/ann/tables"] = folder
    layout = Layout(split="train", dataset_config_name="large")
    found = load_collection("ann/tables@v2", layout)
    assert found.captions == ["large/train"]
    assert found.data("a.png") == b"no picture"
    with pytest.raises(InputError, match="holds large, small; choose one with"):
        load_collection("ann/tables")


def test_what_was_fetched_is_used_while_the_hub_cannot_be_reached(hub):
    folder = local_folder("ann/pictures", "collection")
    hub.shutdown()
    hub.server_close()
    assert local_folder("ann/pictures", "collection") == folder
    with pytest.raises(InputError, match="the Hub cannot be reached"):
        local_folder("ann/cache", "cache")
    with pytest.raises(InputError, match="no folder ann/model, and the Hub cannot be reached"):
        DiffusionModel.from_pretrained("ann/model")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ann/nothing", "neither a folder nor a data set on the Hub named ann/nothing"),
        ("ann/private", "hf auth login if it is private"),
        ("ann/gated", "accept its terms on the Hub"),
        ("ann/cache@v9", "has no revision v9"),
        ("ann/a--b", "could not be fetched from the Hub"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(hub, name, message):
    with pytest.raises(InputError, match=message) as caught:
        local_folder(name, "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ann/nothing", "neither a folder nor a model on the Hub named ann/nothing"),
        ("ann/model@v9", "has no revision v9"),
        ("ann/a--b", "could not be fetched from the Hub"),
    ],
)
def test_a_model_that_is_not_there_is_one_sentence(hub, name, message):
    with pytest.raises(InputError, match=message) as caught:
        DiffusionModel.from_pretrained(name)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_refused_before_its_parameters_are_fetched(
    hub, small_model, tmp_path
):
    flux, lora = (Path(shutil.copytree(small_model, tmp_path / name)) for name in ("flux", "lora"))
    Hub.folders |= {"models/ann/flux": flux, "models/ann/lora": lora}
    index = json.loads((flux / "model_index.json").read_text())
    (flux / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    (flux / "unet/evil.py").write_text("raise SystemExit")
    with pytest.raises(InputError, match="FluxPipeline"):
        DiffusionModel.from_pretrained("ann/flux")
    (lora / "pytorch_lora_weights.safetensors").write_bytes(b"small")
    with pytest.raises(InputError, match="is a LoRA beside the model"):
        DiffusionModel.from_pretrained("ann/lora@v2")
    assert not any(name.endswith(("model.safetensors", ".py")) for name in Hub.asked)


def test_a_folder_that_is_here_wins_and_a_mistyped_one_is_not_looked_for_on_the_hub(hub, tmp_path):
    (tmp_path / "bob/cache").mkdir(parents=True)
    for name in ("bob/cache", "bob/cahce", "/bob/cache", "./ann/cache", "../ann", "cache", "a/b/c"):
        assert not is_hub_id(name)
        assert str(local_folder(name, "cache")) == name.removeprefix("./")
    assert Hub.asked == []
