"""Reading the published files: agreement with them, their reach, and all that must be refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_models import published as published_file
from onnx import TensorProto, helper, numpy_helper

from malice_core import graphs, weights
from malice_core.errors import ModelError
from malice_core.runtime import choose
from malice_core.store import agreement, modelwriter, published

Damage = Callable[[onnx.ModelProto], None]
CONV = "/encoder/ubarn/patch_encoding/hss_encoding/my_model/out_conv/conv/conv/conv.0/Conv"


@pytest.fixture(scope="module")
def original() -> onnx.ModelProto:
    return onnx.ModelProto.FromString(published_file("s1").read_bytes())


def tensor_of(model: onnx.ModelProto, node: str, position: int) -> onnx.TensorProto:
    """The weight that is an input of the node."""
    name = next(n for n in model.graph.node if n.name == node).input[position]
    return next(t for t in model.graph.initializer if t.name == name)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_graphs_agree_with_the_published_file(tmp_path: Path, sensor: str, runtime: str) -> None:
    found = published.read(published_file(sensor))
    assert found.sensor == sensor
    card = modelwriter.write(tmp_path, "x", {sensor: found.weights}, title="", licence="", citation="", provenance={})
    given = agreement.sample(len(card.modalities[sensor].channels))
    ours = agreement.embed(card, sensor, given, choose(runtime, "cpu"))
    theirs = agreement.run_published(found, given)
    assert np.abs(theirs).max() > 1
    assert np.abs(ours - theirs).max() <= 1e-5


def test_reach_by_perturbation() -> None:
    """How far one input pixel reaches: at most HALO outside the 8-pixel cell it lies in, and 45 to 52 by its phase.

    Blocks are aligned to 8 pixels: what matters is how far outside a block's edge, a multiple of 8, a pixel may lie
    and still change the inside.
    """
    session = onnxruntime.InferenceSession(graphs.spatial_graph(published.read(published_file("s2")).weights))
    rng = np.random.default_rng(0)
    side, middle = 176, 88
    images = rng.normal(0.1, 0.3, (1, 10, side, side)).astype(np.float32)
    (before,) = session.run(None, {"images": images})
    reaches, outside = [], 0
    for phase in range(8):
        changed = images.copy()
        changed[:, :, middle + phase, middle + phase] += 30.0
        (after,) = session.run(None, {"images": changed})
        rows = np.flatnonzero(np.abs(after - before).max(axis=(0, 1, 3)))
        reaches += [middle + phase - rows[0], rows[-1] - (middle + phase)]
        # Distance of the pixel from the nearest multiple of 8 beyond which nothing changes, on either side.
        first, last = rows[0] // 8 * 8, -(-(rows[-1] + 1) // 8) * 8
        outside = max(outside, middle + phase - first - 7, last - (middle + phase) - 8)
    assert max(reaches) <= 52
    assert min(reaches) >= 44
    assert outside <= weights.HALO
    assert weights.HALO % weights.STRIDE == 0


def test_halo_is_exact_and_a_smaller_one_is_not() -> None:
    session = onnxruntime.InferenceSession(graphs.spatial_graph(published.read(published_file("s1")).weights))
    rng = np.random.default_rng(1)
    images = rng.normal(0.1, 0.4, (1, 3, 192, 192)).astype(np.float32)
    (whole,) = session.run(None, {"images": images})

    def error(halo: int) -> float:
        begin, end = 80 - halo, 104 + halo
        (part,) = session.run(None, {"images": images[:, :, begin:end, begin:end]})
        inner = part[:, :, halo : halo + 24, halo : halo + 24]
        return float(np.abs(inner - whole[:, :, 80:104, 80:104]).max())

    # The runtime may add in another order for another size, so "exact" is float32 rounding of values up to 100.
    assert error(weights.HALO) <= 1e-5
    assert error(weights.HALO - weights.STRIDE) > 1e-3


def external(model: onnx.ModelProto) -> None:
    tensor = tensor_of(model, CONV, 1)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    tensor.ClearField("raw_data")


def external_constant(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Constant")
    node.attribute[0].t.external_data.add(key="location", value="weights.bin")


def not_a_number(model: onnx.ModelProto) -> None:
    tensor = tensor_of(model, CONV, 1)
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def other_shape(model: onnx.ModelProto) -> None:
    tensor = tensor_of(model, CONV, 1)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :16], tensor.name))


def too_few_bytes(model: onnx.ModelProto) -> None:
    tensor = tensor_of(model, CONV, 1)
    tensor.raw_data = tensor.raw_data[:-4]


def left_over(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(5, np.float32), "stowaway"))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Evil", ["sits"], ["evil"], name="evil", domain="com.evil"))


def loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], name="spin"))


def renamed(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.name == CONV).name = "conv"


def no_input(model: onnx.ModelProto) -> None:
    del next(n for n in model.graph.node if n.name == CONV).input[2]


def other_dates(model: onnx.ModelProto) -> None:
    node = next(n for n in model.graph.node if n.name == "/encoder/ubarn/patch_encoding/pe_encoding/Constant_1")
    array = numpy_helper.to_array(node.attribute[0].t) * np.float32(1.5)
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(array))


def damages() -> Iterator[tuple[Damage, str]]:
    yield external, "another file.*etc/passwd"
    yield external_constant, "another file.*weights.bin"
    yield not_a_number, "out_conv.*NaN"
    yield other_shape, "out_conv.*shape"
    yield too_few_bytes, "cannot be decoded"
    yield left_over, "stowaway"
    yield foreign_operator, "com.evil.Evil"
    yield loop, "foreign operator 'Loop'"
    yield renamed, "no node .*out_conv"
    yield no_input, "input 2 of node .*out_conv"
    yield other_dates, "date encoding"


@pytest.mark.parametrize(("damage", "culprit"), list(damages()), ids=lambda value: getattr(value, "__name__", ""))
def test_damaged_or_foreign_files_are_refused(
    original: onnx.ModelProto, tmp_path: Path, damage: Damage, culprit: str
) -> None:
    broken = onnx.ModelProto()
    broken.CopyFrom(original)
    damage(broken)
    path = tmp_path / "broken.onnx"
    path.write_bytes(broken.SerializeToString())
    with pytest.raises(ModelError, match=culprit) as caught:
        published.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_graph_that_computes_something_else_is_refused(original: onnx.ModelProto, tmp_path: Path) -> None:
    """All weights where they belong, but another function: only running it tells."""
    other = onnx.ModelProto()
    other.CopyFrom(original)
    relu = next(n for n in other.graph.node if n.op_type == "Relu")
    relu.op_type = "Sin"
    found = published.parse(other.SerializeToString(), tmp_path / "other.onnx")
    card = modelwriter.write(tmp_path, "x", {"s1": found.weights}, title="", licence="", citation="", provenance={})
    with pytest.raises(ModelError, match=r"other\.onnx.*differ"):
        agreement.with_published(card, found)


def test_files_that_are_no_onnx_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(content: bytes, culprit: str) -> None:
        path = tmp_path / "file.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=culprit):
            published.read(path)

    fails(b"", "not an ONNX file")
    fails(b"hello, this is text, and no graph at all", "not an ONNX file")
    fails(np.random.default_rng(0).bytes(5000), "not an ONNX file")
    fails(b"PK\x03\x04 a Lightning checkpoint", "zip archive")
    fails(onnx.ModelProto(ir_version=8).SerializeToString(), "no graph")
    tiny = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="n")], "g", [], []))
    fails(tiny.SerializeToString(), "no node")
    monkeypatch.setattr(published, "MAX_BYTES", 100)
    fails(b"x" * 101, "larger than")
    with pytest.raises(ModelError, match=r"cannot read .*none\.onnx"):
        published.read(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        published.read(tmp_path)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    content = published_file("s2").read_bytes()
    for size in (10, 1000, len(content) // 2, len(content) - 1):
        path = tmp_path / f"{size}.onnx"
        path.write_bytes(content[:size])
        with pytest.raises(ModelError, match=rf"{size}\.onnx"):
            published.read(path)
