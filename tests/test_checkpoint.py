"""Checkpoints from elsewhere: tensors come out, nothing is run, and whatever is crafted ends in one line."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import time
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malice_core import models
from malice_core.errors import ModelError
from malice_core.store import states
from malice_core.store.statistics import MALICE
from malice_core.training import checkpoint, unpickling
from malice_core.training.unpickling import INERT

torch = pytest.importorskip("torch")
from helpers_training import random_encoder  # noqa: E402

torch.set_num_threads(1)
CODE = Path(__file__).resolve().parents[1]


def lightning(encoder: Any, **more: Any) -> dict[str, Any]:
    """What Lightning saves of a module whose ``model`` is the whole network."""
    state = OrderedDict((f"model.encoder.{name}", tensor) for name, tensor in encoder.state_dict().items())
    state["model.encoder.projector_emb.layers.0.weight"] = torch.zeros(64, 64)
    state["model.decoder.proj_s1.weight"] = torch.zeros(3, 64)
    return {"epoch": 142, "global_step": 9, "pytorch-lightning_version": "2.1.0", "state_dict": state, **more}


def foreign_settings() -> Any:
    """An object of a class in a module that is gone when it is read again."""
    module = types.ModuleType("their_own_package")
    code = "class Settings(dict):\n    def __init__(self, **values):\n        super().__init__(values)\n"
    exec(code + "        self.other = [self]\n", module.__dict__)
    sys.modules["their_own_package"] = module
    return module.Settings(width=64)


def craft(
    path: Path, pickled: bytes, files: dict[str, bytes] | None = None, compress: int = zipfile.ZIP_STORED
) -> Path:
    """An archive as torch.save writes it, of a pickle and storages of one's own."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in (files or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor_pickle(
    size: Any = (2, 3),
    stride: Any = (3, 1),
    offset: Any = 0,
    kind: str = "FloatStorage",
    key: str = "0",
    count: Any = 6,
) -> bytes:
    """The pickle of ``{"x": tensor}`` with whatever shape is asked for."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing: Any) -> Any:
            if isinstance(thing, Storage):
                return ("storage", getattr(torch, kind), key, "cpu", count)
            return None

    file = io.BytesIO()
    Pickler(file, protocol=2).dump({"x": Tensor()})
    return file.getvalue()


def refused(path: Path, culprit: str) -> str:
    with pytest.raises(ModelError, match=culprit) as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_tensors_are_read_as_torch_wrote_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = torch.randn(40)
    state = {
        "plain": torch.randn(3, 4, 5),
        "double": torch.randn(7, dtype=torch.float64),
        "half": torch.randn(5, 2).half(),
        "bfloat16": torch.randn(6).bfloat16(),
        "long": torch.arange(4),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 3),
        "transposed": torch.randn(3, 4).T,
        "part": base[5:25].view(4, 5)[1:, 2:],
        "shared": base,
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "_orig": torch.randn(2, requires_grad=True),
    }
    for whole in (state, {"state_dict": OrderedDict(state), "epoch": 3}):
        torch.save(whole, tmp_path / "x.ckpt")
        found = checkpoint.read(tmp_path / "x.ckpt")
        assert found.state.keys() == state.keys()
        for name, tensor in state.items():
            wanted = tensor.detach().float() if name == "bfloat16" else tensor.detach()
            np.testing.assert_array_equal(found.state[name], wanted.numpy())
            assert found.state[name].dtype == wanted.numpy().dtype
    assert found.facts == {"epoch": "3"}


def test_foreign_classes_are_neither_imported_nor_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hyper-parameters of omegaconf and of a package that is gone: what the published checkpoints hold."""
    omegaconf = pytest.importorskip("omegaconf")
    settings = foreign_settings()
    encoder = random_encoder()
    adam = torch.optim.Adam(encoder.parameters())
    hyper = {"cfg": omegaconf.OmegaConf.create({"a": {"b": [1, 2]}}), "own": settings, "lr": 0.001, "path": tmp_path}
    more = {
        "hyper_parameters": hyper,
        "optimizer_states": [adam.state_dict()],
        "callbacks": {settings.__class__: {1, 2}},
    }
    torch.save(lightning(encoder, **more), tmp_path / "x.ckpt")
    del sys.modules["their_own_package"]
    # Back afterwards: what has imported it and what imports it then must mean the same classes.
    for name in [name for name in sys.modules if name.startswith("omegaconf")]:
        monkeypatch.delitem(sys.modules, name)
    found = checkpoint.read(tmp_path / "x.ckpt")
    assert not any(name.startswith("omegaconf") for name in sys.modules)
    assert found.facts == {"epoch": "142", "global_step": "9", "pytorch_lightning_version": "2.1.0"}
    assert found.hyper_parameters["cfg"] is INERT
    assert found.hyper_parameters["own"] is INERT
    assert found.hyper_parameters["lr"] == 0.001
    encoders = states.encoders(found.state, MALICE, "x.ckpt")
    assert encoders.sensors == ("s2", "s1")
    unused = {name for name in encoders.unused if "num_batches_tracked" not in name}
    assert unused == {"model.encoder.projector_emb.layers.0.weight", "model.decoder.proj_s1.weight"}


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(5))
def test_a_crafted_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "was here"
    evil = [
        Call(os.system, f"touch '{mark}'"),
        Call(eval, f"open({str(mark)!r}, 'w')"),
        Call(exec, f"open({str(mark)!r}, 'w')"),
        Call(getattr, Call(__import__, "os"), "system"),
        Call(open, str(mark), "w"),
        Call(subprocess.Popen, ["touch", str(mark)]),
        Call(torch.load, str(mark)),
    ]
    state = {"x": torch.zeros(2)}
    file = io.BytesIO()
    torch.save(
        {"state_dict": state, "hyper_parameters": {"a": evil}, "b": evil}, file, pickle_protocol=max(protocol, 2)
    )
    (tmp_path / "x.ckpt").write_bytes(file.getvalue())
    assert checkpoint.read(tmp_path / "x.ckpt").state.keys() == {"x"}
    for one in evil:
        assert unpickling.loads(pickle.dumps(one, protocol)) is INERT
        craft(tmp_path / "y.ckpt", pickle.dumps({"state_dict": {"x": one}}, protocol))
        refused(tmp_path / "y.ckpt", "holds no tensors")
        craft(tmp_path / "y.ckpt", pickle.dumps(one, protocol))
        refused(tmp_path / "y.ckpt", "no state dict")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("pickled", "culprit"),
    [
        (b"", "pickle"),
        (b"\x80\x02", "pickle"),
        (b"garbage", "pickle"),
        (b"\x80\x02.", "pickle"),
        (b"\x80\x02)R.", "finds no object"),
        (b"\x80\x02(((.", "left on the stack"),
        (b"\x80\x02t.", "finds no mark"),
        (b"\x80\x02]r\xff\xff\xff\xff.", "no state dict"),  # the last of 4 billion places of the memo
        (b"\x80\x02j\xff\xff\xff\xff.", "KeyError"),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "pickle"),  # text of 9e18 bytes
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.", "pickle"),
        (b"\x80\x02\x8b\xff\xff\xff\x7fabc.", "pickle"),  # a number of 2 billion bytes
        (b"L" + b"9" * 100_000 + b"L\n.", "pickle"),
        (b"\x80\x02]" + b"]a2" * 300_000 + b".", "pickle"),
        (b"\x80\x02" + b"]" * 100 + b"0" * 100 + b".", "pickle"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"Pid\n.", "PERSID"),
        (b"\x80\x02}(K\x01K\x02K\x03u.", "key without a value"),
        (b"\x80\x02}N]s.", "no tensors"),
    ],
)
def test_damaged_pickles_are_one_line(tmp_path: Path, pickled: bytes, culprit: str) -> None:
    refused(craft(tmp_path / "x.ckpt", pickled), culprit)


def test_work_and_memory_are_bounded(tmp_path: Path) -> None:
    begun = time.monotonic()
    # A list of ten times a list of ten times …: 10^30 elements for who walks through it.
    laughs = b"]q\x00" + b"".join(b"0(" + b"h\x00" * 10 + b"lq\x00" for _ in range(30))
    assert len(unpickling.loads(b"\x80\x02" + laughs + b".")) == 10
    # Deeper than any recursion: as a value, and as a key, whose hash would recurse.
    deep = b")" + b"\x85" * 400_000
    assert unpickling.loads(b"\x80\x02}" + deep + b"Ns.") == {}
    assert isinstance(unpickling.loads(b"\x80\x02" + deep + b"."), tuple)
    with pytest.raises(unpickling.Unreadable, match="more than"):
        unpickling.loads(b"\x80\x02" + b"N0" * 700_000 + b"N.")
    # It may hold itself.
    assert unpickling.loads(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")
    (tmp_path / "big.ckpt").write_bytes(b"PK")
    os.truncate(tmp_path / "big.ckpt", 1 << 31)
    refused(tmp_path / "big.ckpt", "2048 MB")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("shape", "culprit"),
    [
        ({"size": (2, 4)}, "reaches beyond its 6"),
        ({"offset": 1}, "reaches beyond"),
        ({"offset": 1 << 39}, "reaches beyond"),
        ({"stride": (1 << 39, 1)}, "reaches beyond"),
        ({"stride": (0, 0), "size": (100_000, 100_000)}, "reaches beyond"),
        ({"stride": (0,), "size": (7,)}, "reaches beyond"),
        ({"stride": (-1,), "size": (6,)}, "sensible"),
        ({"offset": -1}, "sensible"),
        ({"size": (1 << 62,), "stride": (1,)}, "sensible"),
        ({"size": (1,) * 9, "stride": (1,) * 9}, "sensible"),
        ({"size": (2.0, 3)}, "sensible"),
        ({"size": (True, 3)}, "sensible"),
        ({"size": (6,)}, "sensible"),
        ({"count": 7}, "must have 7"),
        ({"count": 1 << 60}, "more than tensors"),
        ({"count": -6}, "more than tensors"),
        ({"kind": "DoubleStorage"}, "must have 6 numbers of 8"),
        ({"key": "../0"}, "not in the archive"),
        ({"key": "../../../etc/passwd"}, "not in the archive"),
        ({"key": "9"}, "not in the archive"),
        ({"size": (0, 1 << 39), "stride": (1, 1)}, ""),
    ],
)
def test_tensors_lie_inside_their_storage(tmp_path: Path, shape: dict[str, Any], culprit: str) -> None:
    path = craft(tmp_path / "x.ckpt", tensor_pickle(**shape), {"data/0": np.arange(6, dtype="f4").tobytes()})
    if culprit:
        refused(path, culprit)
    else:
        with contextlib.suppress(ModelError):
            assert checkpoint.read(path).state["x"].size == 0


def test_a_good_crafted_tensor_is_read(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype="f4")
    files = {"data/0": numbers.tobytes(), "byteorder": b"little"}
    path = craft(tmp_path / "x.ckpt", tensor_pickle(), files)
    np.testing.assert_array_equal(checkpoint.read(path).state["x"], numbers.reshape(2, 3))
    files = {"data/0": numbers.astype(">f4").tobytes(), "byteorder": b"big"}
    path = craft(tmp_path / "x.ckpt", tensor_pickle(stride=(1, 2)), files)
    np.testing.assert_array_equal(checkpoint.read(path).state["x"], numbers.reshape(3, 2).T)


def test_archives_that_are_none_of_torchs(tmp_path: Path) -> None:
    good, path = tensor_pickle(), tmp_path / "x.ckpt"
    data = {"data/0": bytes(24)}
    refused(tmp_path / "gone.ckpt", "No such file")
    refused(tmp_path, "cannot read")
    path.write_bytes(b"")
    refused(path, "no checkpoint")
    path.write_bytes(b"PK\x03\x04")
    refused(path, "damaged")
    # A compressed archive could be a zip bomb: 100 MB of zeros in 100 kB.
    refused(craft(path, good, {"data/0": bytes(100 << 20)}, zipfile.ZIP_DEFLATED), "compressed")
    refused(craft(path, bytes(9 << 20)), "at most")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../data.pkl", good)
        archive.writestr("/etc/data.pkl", good)
    refused(path, "0 data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", good)
        archive.writestr("b/data.pkl", good)
    refused(path, "2 data.pkl")
    refused(craft(path, good, {**data, "constants.pkl": b"", "code/x.py": b""}), "TorchScript")
    torch.save({"x": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    refused(path, "before 1.6")
    path.write_bytes(bytes(257) + b"ustar" + bytes(300))
    refused(path, "before 1.6")
    whole = craft(path, good, data).read_bytes()
    entry = whole.index(b"PK\x01\x02")
    path.write_bytes(whole[: entry + 8] + struct.pack("<H", 1) + whole[entry + 10 :])
    refused(path, "encrypted")
    place = whole.index(bytes(24))
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    refused(path, "CRC")


def test_random_damage_is_one_line(tmp_path: Path) -> None:
    """Bytes flipped and files cut at random: they are read or refused, and nothing else happens."""
    torch.save(lightning(torch.nn.Linear(3, 4), hyper_parameters={"a": [1, {"b": (2.0, None)}]}), tmp_path / "x.ckpt")
    whole, rng = (tmp_path / "x.ckpt").read_bytes(), random.Random(0)
    refusals = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        if rng.random() < 0.2:
            del content[rng.randrange(len(content)) :]
        (tmp_path / "y.ckpt").write_bytes(content)
        try:
            checkpoint.read(tmp_path / "y.ckpt")
        except ModelError as error:
            refusals += 1
            assert "\n" not in str(error)  # noqa: PT017  either way is good
    assert refusals > 100
    with zipfile.ZipFile(tmp_path / "x.ckpt") as archive:
        pickled = archive.read("x/data.pkl")
    for _ in range(3000):
        content = bytearray(pickled)
        for _ in range(rng.choice((1, 3, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        with contextlib.suppress(unpickling.Unreadable):
            unpickling.loads(bytes(content))


def test_import_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line, from a checkpoint with foreign hyper-parameters to a model that verifies."""
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "store"))
    path = tmp_path / "epoch=142.ckpt"
    torch.save(lightning(random_encoder(3), hyper_parameters={"own": foreign_settings()}), path)
    assert models.main(["import", str(path), "--name", "theirs"]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "s2: the graphs agree with the torch encoder" in out
    assert "not used: " in out
    assert "projector_emb.layers.0.weight" in out
    assert "model.decoder.proj_s1.weight" in out
    assert "num_batches_tracked" not in out
    card = models.load("theirs")
    assert list(card.modalities) == ["s2", "s1"]
    assert card.licence == "AGPL-3.0-only"
    assert card.provenance["epoch"] == "142"
    assert models.main(["verify", "theirs"]) == 0
    assert models.main(["import", str(path), str(path), "--name", "two"]) == 2
    assert "give it alone" in capsys.readouterr().err


def test_import_of_a_checkpoint_without_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(lightning(random_encoder(3)), path)
    arguments = ["import", str(path), "--name", "x"]
    script = (
        f"import sys; sys.modules['torch'] = None; from malice_core import models; sys.exit(models.main({arguments}))"
    )
    environment = {**os.environ, "MALICE_MODELS": str(tmp_path / "store"), "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'malice-core[train]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_other_architectures_are_told(tmp_path: Path) -> None:
    whole = {f"model.encoder.{name}": tensor.numpy() for name, tensor in random_encoder().state_dict().items()}
    first = "model.encoder.encoder_s2.ubarn.patch_encoding.hss_encoding.my_model.in_conv.conv.conv.0.weight"

    def fails(state: dict[str, np.ndarray], *culprits: str) -> None:
        said: list[str] = []
        with pytest.raises(ModelError) as caught:
            states.encoders(state, MALICE, "x.ckpt", said.append)
        for culprit in culprits:
            assert culprit in str(caught.value) + " ".join(said)

    fails({**whole, first: np.zeros((64, 16, 3, 3), np.float32)}, "(64, 16, 3, 3), must be (64, 10, 3, 3)")
    queries = {"model.encoder.common_temp_proj.Q": np.zeros((2, 20, 64), np.float32)}
    fails({**whole, **queries}, "common_temp_proj.Q is (2, 20, 64), must be (2, 10, 64)")
    layer = "model.encoder.encoder_s1.ubarn.temporal_encoder.layer_stack.3.norm.weight"
    fails({**whole, layer: np.ones(64, np.float32)}, "layer_stack.3.norm.weight")
    lost = [name for name in whole if "running_var" in name and "encoder_s1" in name]
    fails(
        {name: array for name, array in whole.items() if name not in lost},
        f"{len(lost)} tensors are missing",
        lost[-1][14:],
    )
    # One tensor makes no MALICE Aux.
    aux = "model.encoder.encoder_s2.ubarn.encoder_meteo.encoder.0.weight"
    fails({**whole, aux: np.ones((64, 48), np.float32)}, "tensors are missing", "encoder_meteo.encoder.2.weight")
    fails({"model.something.weight": np.ones(4)}, "no state of a MALICE encoder")
    compiled = {name.replace("model.encoder.", "model._orig_mod.encoder."): array for name, array in whole.items()}
    assert states.encoders(compiled, MALICE, "x").state.keys() == states.encoders(whole, MALICE, "x").state.keys()
