"""However people keep their pictures, the collection is the same; what cannot be read is one sentence."""

import io
import json
import os
import shutil
import tarfile

import pytest
from PIL import Image

from attribution.errors import InputError
from attribution.pictures.collection import load_collection
from attribution.pictures.layout import Layout

CAPTIONS = {"a.png": "a cat", "b.png": "a dog", "c.png": "a café"}
FILES, TEXTS = tuple(CAPTIONS), tuple(CAPTIONS.values())


def picture(number):
    return Image.new("RGB", (8, 8), (number * 40, 10, 200))


def encoded(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three pictures and nothing else."""
    return filled(tmp_path / "pictures")


def filled(folder, names=CAPTIONS):
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encoded(number))
    return folder


def describe(folder, captions=CAPTIONS, **more):
    rows = [{"file_name": file, "text": text, **more} for file, text in captions.items()]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(**columns):
    """Rows as the Hub keeps them, pictures within."""
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": encoded(n), "path": name} for n, name in enumerate(CAPTIONS)]
    features = {"image": datasets.Image(), "text": datasets.Value("string")}
    data = {"image": rows, "text": [*CAPTIONS.values()]} | columns
    known = {name: features.get(name) for name in data if name in features}
    if "label" in columns:
        known["label"] = datasets.ClassLabel(names=["woodcut", "neon"])
    return datasets.Dataset.from_dict(data, datasets.Features(known))


def check(collection, files=FILES, captions=TEXTS):
    assert tuple(collection.files) == tuple(files)
    assert tuple(collection.captions) == tuple(captions)
    for index in range(len(files)):
        assert collection.image(index).tobytes() == picture(index).tobytes()
    assert len(set(collection.rows)) == len(files)


def refused(folder, message, **layout):
    with pytest.raises(InputError, match=message) as caught:
        load_collection(folder, Layout(**layout))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


# Tables beside pictures.


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_table_of_any_kind_describes_the_same_pictures(folder, kind):
    if kind == "jsonl":
        describe(folder, artist="Ann")
    elif kind == "csv":
        lines = [f'{file},"{text}",Ann' for file, text in CAPTIONS.items()]
        text = "\r\n".join(["file_name,text,artist", *lines])
        (folder / "metadata.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        rows = {"file_name": [*CAPTIONS], "text": [*CAPTIONS.values()], "artist": ["Ann"] * 3}
        pytest.importorskip("datasets").Dataset.from_dict(rows).to_parquet(
            folder / "metadata.parquet"
        )
    found = load_collection(folder)
    check(found)
    assert found.labels == [{"artist": "Ann"}] * 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"file_name,text\na.png,caf\xe9\n", "line 2 of .* not UTF-8"),
        (b"file_name,text\na.png,a cat\nb.png,a, dog\n", "line 3 of .* 3 cells for 2 columns"),
        (b"file_name,text,text\na.png,a,b\n", "line 1 of .* twice"),
        (b'file_name,text\na.png,"a cat\n', "not sound CSV"),
        (b"file,text\na.png,a cat\n", "line 2 of .* no text in 'file_name', but file, text"),
        (b"file_name,text\na.png,a cat\nd.png,a cat\n", "line 3 of .* 'd.png', which is not there"),
        (b"file_name,text\n", "is empty"),
        (b"", "is empty"),
    ],
)
def test_a_malformed_table_is_one_sentence_with_its_line(folder, data, message):
    (folder / "metadata.csv").write_bytes(data)
    refused(folder, message)


def test_a_cell_that_spans_lines_and_separators_of_unicode_are_captions(folder):
    (folder / "metadata.csv").write_text('file_name,text\na.png,"one\u2028two\nthree"\n')
    assert load_collection(folder).captions == ["one\u2028two\nthree"]


@pytest.mark.parametrize(
    ("disk", "table"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")]
)
def test_accents_may_be_spelled_in_two_ways(tmp_path, disk, table):
    folder = filled(tmp_path / "pictures", [f"{disk}.png"])
    describe(folder, {f"{table}.png": "a cat"})
    check(load_collection(folder), [f"{disk}.png"], ["a cat"])


def test_paths_of_other_spellings_lead_to_the_same_file(tmp_path):
    folder = filled(tmp_path / "pictures", ["in/a.png", "in/b.png", "in/c.png"])
    names = ["./in//a.png", "in\\b.png", str(folder.resolve() / "in/c.png")]
    describe(folder, dict.fromkeys(names, "a cat"))
    assert load_collection(folder).files == ["in/a.png", "in/b.png", "in/c.png"]


def test_links_out_of_the_folder_are_followed_when_asked(folder, tmp_path):
    real = filled(tmp_path / "elsewhere", ["a.png"])
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(real / "a.png")
    describe(folder)
    refused(folder, "line 1 of .* 'a.png', which lies outside .* --follow_links")
    check(load_collection(folder, Layout(follow_links=True)))
    (folder / "metadata.jsonl").unlink()
    assert load_collection(folder).files == ["b.png", "c.png"]
    (folder / "round").symlink_to(folder)
    assert len(load_collection(folder, Layout(follow_links=True))) == 3


def test_a_table_below_the_top_is_pointed_to(folder, tmp_path):
    describe(folder)
    refused(tmp_path, "its table in pictures/metadata.jsonl")


@pytest.mark.parametrize("name", ["nowhere", "pictures/a.png", "x" * 5000, "pictures/empty"])
def test_what_holds_no_pictures_is_one_sentence(folder, tmp_path, name):
    (folder / "empty").mkdir()
    refused(tmp_path / name, "there is no folder|holds no metadata.jsonl")


# No table.


def test_pictures_alone_have_the_empty_prompt(folder, caplog):
    found = load_collection(folder)
    check(found, captions=[""] * 3)
    assert found.labels == [{}] * 3
    assert "no captions" in caplog.text


def test_folders_of_classes_are_labels(tmp_path):
    files = ["neon/a.png", "neon/b.png", "woodcut/a.png"]
    found = load_collection(filled(tmp_path / "pictures", files))
    check(found, files, [""] * 3)
    assert [labels["label"] for labels in found.labels] == ["neon", "neon", "woodcut"]
    labelled = load_collection(tmp_path / "pictures", Layout("label"))
    check(labelled, files, ["neon", "neon", "woodcut"])
    refused(tmp_path / "pictures", "no column 'lable' .* text, none, label", caption_column="lable")


def test_a_class_may_be_a_number(folder):
    rows = [{"file_name": file, "label": number} for number, file in enumerate(FILES)]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    check(load_collection(folder, Layout("label")), captions=["0", "1", "2"])


def test_hidden_pictures_are_none_and_those_of_other_kinds_are_counted(folder, caplog):
    for name in ("._a.png", ".ipynb_checkpoints/a.png", "d.BMP", "in/e.tiff", "in/f.tiff", "g.tif"):
        (folder / name).parent.mkdir(exist_ok=True)
        picture(0).save(folder / name, "TIFF" if "tif" in name else "PNG")
    check(load_collection(folder), captions=[""] * 3)
    assert "4 pictures in" in caplog.text
    assert "(.bmp, .tif, .tiff) and are left out; save them as PNG" in caplog.text
    for name in FILES:
        (folder / name).unlink()
    refused(folder, "no PNG, JPEG or WebP pictures")


def test_captions_lie_beside_pictures(folder, caplog):
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfa cat\n")
    (folder / "b.caption").write_text("a dog\nwith more below\n")
    check(load_collection(folder), captions=["a cat", "a dog", ""])
    assert "1 pictures have no caption" in caplog.text
    (folder / "c.txt").write_bytes(b"caf\xe9")
    refused(folder, r"c\.txt cannot be read: it is not UTF-8")


# Splits.


def test_a_split_is_the_only_one_or_chosen(tmp_path):
    folder = tmp_path / "pictures"
    describe(filled(folder / "train"))
    check(load_collection(folder), [f"train/{name}" for name in CAPTIONS])
    filled(folder / "test")
    refused(folder, "holds test, train; choose one with --split")
    check(load_collection(folder, Layout(split="train")), [f"train/{name}" for name in CAPTIONS])
    check(load_collection(folder, Layout(split="test")), [f"test/{n}" for n in CAPTIONS], [""] * 3)
    refused(folder, "no 'validation' for --split, but test, train", split="validation")
    refused(folder / "test", "no splits", split="train")


def test_concepts_and_requests_belong_to_the_whole(tmp_path):
    folder = tmp_path / "pictures"
    describe(filled(folder / "train"))
    concepts = {"style": {"woodcut": "a woodcut", "neon": "a neon sign"}}
    (folder / "concepts.json").write_text(json.dumps(concepts))
    found = load_collection(folder)
    assert found.concepts == concepts
    assert found.folder == folder


# Shards.


def archive(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def members():
    found = {}
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        found |= {name: encoded(number), f"{name[0]}.txt": caption.encode()}
    return found


def test_archives_are_read_in_place(tmp_path):
    extra = {"a.json": b'{"artist": "Ann", "exif": {}, "sha": null}', "b.cls": b"4", "x.pyd": b"0"}
    archive(tmp_path / "web/00000.tar", members() | extra)
    found = load_collection(tmp_path / "web")
    check(found, [f"00000/{name}" for name in CAPTIONS])
    assert found.labels == [{"artist": "Ann"}, {"label": "4"}, {}]
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["00000.tar"]
    archive(tmp_path / "web/00001.tar", members())
    assert len(load_collection(tmp_path / "web")) == 6


def test_hostile_archives_are_one_sentence(tmp_path):
    path = tmp_path / "00000.tar"
    for name in ("../a.png", "/etc/a.png"):
        archive(path, {name: encoded(0)})
        refused(tmp_path, "which no sound archive does")
    archive(path, members())
    whole = path.read_bytes()
    path.write_bytes(b"\x1f\x8b" + whole)
    refused(tmp_path, "no sound, uncompressed tar")
    path.write_bytes(whole[:700])
    refused(tmp_path, "which no sound archive does|no sound, uncompressed tar|is empty")
    archive(path, {"a.png": encoded(0), "a.json": b"[" * 100_000})
    refused(tmp_path, "nested too deeply")
    archive(path, {"a.png": encoded(0), "a.txt": b"x" * 2**21})
    refused(tmp_path, "too long")
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    refused(tmp_path, "is empty")
    long = tarfile.TarInfo("././@LongLink")
    long.type = tarfile.GNUTYPE_LONGNAME
    path.write_bytes(long.tobuf() * 3000)
    refused(tmp_path, "no sound, uncompressed tar file .maximum recursion")
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("café.png"))
    refused(tmp_path, "not UTF-8; rename it")


def test_parquet_as_the_hub_keeps_it(tmp_path):
    folder = tmp_path / "data set/data"
    folder.mkdir(parents=True)
    table(label=[0, 1, None]).to_parquet(folder / "train-00000-of-00001.parquet")
    found = load_collection(folder.parent)
    check(found)
    assert found.labels == [{"label": "woodcut"}, {"label": "neon"}, {}]
    table().to_parquet(folder / "test-00000-of-00001.parquet")
    refused(folder.parent, "test, train; choose one with --split")
    check(load_collection(folder.parent, Layout(split="train")))
    table().to_parquet(tmp_path / "data set" / "x.parquet")
    shutil.copytree(folder, folder.parent / "large")
    refused(folder.parent, "choose one with --dataset_config_name", split="train")
    check(load_collection(folder.parent, Layout(split="test", dataset_config_name="large")))


def test_columns_of_other_names_are_asked_for(tmp_path):
    rows = table().rename_columns({"image": "picture", "text": "prompt"})
    rows.add_column("tags", [["x"], [], ["y"]]).to_parquet(tmp_path / "a.parquet")
    refused(tmp_path, "no column 'text' for captions, but prompt.*--caption_column")
    tags = [labels["tags"] for labels in load_collection(tmp_path, Layout("prompt")).labels]
    assert tags == ["x", "", "y"]
    rows.add_column("small", [b"1", b"2", b"3"]).to_parquet(tmp_path / "a.parquet")
    refused(tmp_path, "several columns of pictures: picture, small; .* --image_column")
    check(load_collection(tmp_path, Layout(caption_column="prompt", image_column="picture")))


def test_what_save_to_disk_wrote(tmp_path):
    datasets = pytest.importorskip("datasets")
    table().save_to_disk(tmp_path / "one")
    check(load_collection(tmp_path / "one"))
    both = datasets.DatasetDict({"first fold": table(), "second fold": table()})
    both.save_to_disk(tmp_path / "both")
    refused(tmp_path / "both", "first fold, second fold; choose one with --split")
    check(load_collection(tmp_path / "both", Layout(split="second fold")))


def test_tables_that_only_name_pictures_or_are_damaged_are_refused(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": None, "path": "/etc/passwd"}], "text": ["a cat"]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    path = tmp_path / "a.parquet"
    datasets.Dataset.from_dict(rows, features).to_parquet(path)
    with pytest.raises(InputError, match="holds no bytes of passwd"):
        load_collection(tmp_path).image(0)
    data = path.read_bytes()
    for harm in (data[:-20], data[: len(data) // 2], b"PAR1" + bytes(100) + b"PAR1", b"hello"):
        path.write_bytes(harm)
        refused(tmp_path, "cannot be read as tables")
    path.unlink()
    table().save_to_disk(tmp_path / "saved")
    [arrow] = (tmp_path / "saved").glob("*.arrow")
    data = arrow.read_bytes()
    arrow.write_bytes(data[: len(data) // 2])
    refused(tmp_path / "saved", "cannot be read as tables")


@pytest.mark.parametrize("column", ["text", "image"])
def test_a_table_whose_texts_are_not_what_it_says_is_refused(tmp_path, column):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    def texts(first):
        values = pyarrow.array([first, b"b"], pyarrow.binary())
        return pyarrow.Array.from_buffers(pyarrow.string(), 2, values.buffers())

    pictures = pyarrow.array([encoded(0), encoded(1)])
    kept = pyarrow.StructArray.from_arrays(
        [pictures, texts(b"caf\xe9" if column == "image" else b"a")], ["bytes", "path"]
    )
    table = pyarrow.table({"image": kept, "text": texts(b"caf\xe9" if column == "text" else b"a")})
    write_table(table, tmp_path / "a.parquet")
    refused(tmp_path, f"column '{column}' in .* is not UTF-8")


# Captions.


def test_the_columns_that_may_be_captions_are_named(folder):
    text = (
        json.dumps({"file_name": f, "caption": c, "artist": "Ann"}) for f, c in CAPTIONS.items()
    )
    (folder / "metadata.jsonl").write_text("\n".join(text))
    refused(folder, "no column 'text' for captions, but caption; choose with --caption_column")
    check(load_collection(folder, Layout("caption")))
    found = load_collection(folder, Layout("none"))
    check(found, captions=[""] * 3)
    assert found.labels[0] == {"caption": "a cat", "artist": "Ann"}


def test_only_names_and_artists_are_no_captions(folder):
    text = (json.dumps({"file_name": file, "Author": "Ann"}) for file in CAPTIONS)
    (folder / "metadata.jsonl").write_text("\n".join(text))
    found = load_collection(folder)
    check(found, captions=[""] * 3)
    assert found.labels == [{"artist": "Ann"}] * 3


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "embedded"])
def test_a_picture_without_a_caption_has_the_empty_one_and_is_counted(
    folder, tmp_path, kind, caplog
):
    if kind == "csv":
        (folder / "metadata.csv").write_text(
            "file_name,text,title\na.png,a cat,x\nb.png,,x\nc.png\n"
        )
    elif kind == "jsonl":
        lines = [{"text": ["a cat"]}, {"text": None}, {"title": "x"}]
        rows = (
            json.dumps({"file_name": f} | each) for f, each in zip(CAPTIONS, lines, strict=True)
        )
        (folder / "metadata.jsonl").write_text("\n".join(rows))
    else:
        rows = table().remove_columns("text").add_column("text", ["a cat", None, ""])
        if kind == "parquet":
            rows = rows.remove_columns("image").add_column("file_name", [*CAPTIONS])
        else:
            folder = tmp_path / "embedded"
            folder.mkdir()
        rows.to_parquet(folder / f"{'metadata' if kind == 'parquet' else 'a'}.parquet")
    assert load_collection(folder).captions == ["a cat", "", ""]
    assert "2 pictures have no caption; the prompt of each is the empty one" in caplog.text


def test_of_several_captions_the_first_counts(folder, caplog):
    describe(folder, {file: [text, "another"] for file, text in CAPTIONS.items()})
    check(load_collection(folder))
    assert "3 pictures have several captions" in caplog.text
    describe(folder, {"a.png": [], "b.png": "x"})
    assert load_collection(folder).captions == ["", "x"]
    describe(folder, {"a.png": ["x", 3], "b.png": "x"})
    refused(folder, "line 1 of .* no text in 'text'")


def test_a_caption_that_is_longer_than_any_model_reads_is_cut_and_counted(folder, caplog):
    describe(folder, dict.fromkeys(CAPTIONS, "x" * 1500))
    assert {len(caption) for caption in load_collection(folder).captions} == {1000}
    assert "3 captions have more than 1000 characters" in caplog.text


def test_columns_that_the_page_knows_may_have_other_names(folder):
    describe(folder, painter="Ann", Licence="CC0-1.0", url="here", year=1990)
    columns = Layout(artist_column="painter")
    known = {"artist": "Ann", "license": "CC0-1.0", "source": "here", "year": "1990"}
    assert load_collection(folder, columns).labels == [known] * 3
    refused(folder, "no column 'drawer', which --artist_column is", artist_column="drawer")


def test_a_file_whose_name_is_no_text_is_named_and_not_read(tmp_path, caplog):
    for name in (b"one.png", b"caf\xe9.png"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            Image.new("RGB", (40, 40)).save(file, "PNG")
    assert load_collection(tmp_path).files == ["one.png"]
    assert "1 files in" in caplog.text
    assert r"caf\xe9.png" in caplog.text
