"""Feature networks from ONNX files: what they are given, and which are refused."""

import hashlib
import sys

import numpy as np
import pytest
import random_features
import torch
from helpers import write_network
from onnx import TensorProto
from PIL import Image

from cyclegan_ms.errors import UserError
from cyclegan_ms.evaluate.features import FeatureNetwork


@pytest.mark.parametrize("n", ["n", 1])
def test_features_are_of_rgb_in_0_to_1(tmp_path, n):
    network = FeatureNetwork(write_network(tmp_path / "f.onnx", (n, 3, 8, 12)))
    assert (network.height, network.width, network.dimensions) == (8, 12, 3)
    pictures = [Image.new("RGB", (40, 30), (255, 51, 0)), Image.new("L", (5, 5), 102)]
    expected = [[1, 0.2, 0], [0.4, 0.4, 0.4]]
    assert network(pictures * 10) == pytest.approx(np.array(expected * 10), abs=1e-6)
    assert network(iter(pictures * 10)) == pytest.approx(np.array(expected * 10), abs=1e-6)


def test_every_pixel_counts_when_a_picture_shrinks(tmp_path):
    """A checkerboard becomes gray; without a filter it would stay black and white."""
    network = FeatureNetwork(write_network(tmp_path / "f.onnx", ("n", 3, 8, 8), "GlobalMaxPool"))
    board = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8))
    assert network([board]) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "options,words",
    [
        ({"shape": ("n", 1, 8, 8)}, "expected one input"),
        ({"shape": ("n", 3, "h", "w")}, "with H and W fixed and N free or 1"),
        ({"shape": (8, 3, 8, 8)}, "expected one input"),
        ({"shape": ("n", 3, 8)}, "expected one input"),
        ({"kind": TensorProto.DOUBLE, "node": "Identity"}, "takes tensor(double)"),
        ({"node": "Relu"}, "gives (16, 3, 8, 12) for 16 images"),
    ],
)
def test_other_networks_are_refused(tmp_path, options, words):
    path = write_network(tmp_path / "f.onnx", **options)
    with pytest.raises(UserError) as error:
        FeatureNetwork(path)
    assert words in str(error.value)


def test_no_file_no_network_no_package(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        FeatureNetwork(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("x")
    with pytest.raises(UserError, match="not an ONNX model, damaged, or too new"):
        FeatureNetwork(tmp_path / "text.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install onnx onnxruntime"):
        FeatureNetwork(tmp_path / "text.onnx")


def test_the_random_network(tmp_path):
    """What onnxruntime makes of its file is what PyTorch makes of it."""
    path, network = tmp_path / "random64.onnx", random_features.build()
    random_features.write(network, path)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith("e07bab7e91c2")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    found = FeatureNetwork(path)(map(Image.fromarray, pixels))
    with torch.no_grad():
        expected = network(torch.tensor(pixels.transpose(0, 3, 1, 2) / np.float32(255)))
    assert found == pytest.approx(expected.numpy(), abs=1e-4)
    assert found.std(axis=0).min() > 1e-3
