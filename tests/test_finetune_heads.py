"""Heads, losses and scores of fine-tuning."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("torchmetrics")

from helpers_pretrain import alone  # noqa: E402
from helpers_training import random_encoder  # noqa: E402

from malice_core import runtime, safety  # noqa: E402
from malice_core.classifier import MAX_HEAD  # noqa: E402
from malice_core.errors import InputError  # noqa: E402
from malice_core.store.statistics import MALICE  # noqa: E402
from malice_core.training.batch import Batch, View  # noqa: E402
from malice_core.training.finetuning import heads  # noqa: E402
from malice_core.training.finetuning.module import Scores, TuningModule, means  # noqa: E402
from malice_core.training.finetuning.samples import Crops, Pixels, Tile  # noqa: E402
from malice_core.training.normalise import Normalise  # noqa: E402


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    with alone():
        yield


KINDS = [("linear", 1, 1), ("master_query", 1, 8), ("master_query", 3, 2)]


def made(kind: str, queries: int = 1, count: int = 8, tokens: int = 20, classes: int = 5) -> heads.Head:
    torch.manual_seed(1)
    head = heads.make(kind, tokens, classes, queries, count)
    rng = np.random.default_rng(2)
    head.standardise(rng.normal(0.5, 2, (200, tokens * 64)).astype(np.float32))
    return head


@pytest.mark.parametrize(("kind", "queries", "count"), KINDS)
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_graph_computes_what_the_head_does(kind: str, queries: int, count: int, name: str) -> None:
    head = made(kind, queries, count)
    graph = head.graph()
    safety.parsed(graph, "head")
    given = np.random.default_rng(3).normal(0, 2, (7, 1280)).astype(np.float32)
    session = runtime.choose(name, "cpu").open(graph, {"embedding": given.shape})
    with torch.inference_mode():
        wanted = head(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(session.run({"embedding": given}), wanted, atol=2e-5)


def test_the_master_query_attends_as_written_out() -> None:
    """Scores, shares and sums for one pixel, head by head and query by query."""
    head = made("master_query", queries=2, count=4, tokens=10)
    assert isinstance(head, heads.MasterQueryHead)
    x = torch.randn(640)
    tokens = ((x - head.mean) * head.scale).view(10, 64)
    parts = []
    for query in range(2):
        for h in range(4):
            own = slice(16 * h, 16 * (h + 1))
            keys = head.keys(tokens + head.codes)[:, own]
            share = (keys @ head.queries[h, query] / 4).softmax(0)
            parts.append(share @ tokens[:, own])
    wanted = head.layer(torch.cat(parts))
    torch.testing.assert_close(head(x[None])[0], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kind", "queries", "count"), KINDS)
def test_a_head_learns_what_can_be_separated(kind: str, queries: int, count: int) -> None:
    """Classes told apart by one token's content; half of the pixels are kept back."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 600)
    features = rng.normal(0, 1, (600, 10, 64)).astype(np.float32)
    features[:, 4] += 3 * np.eye(3)[target].repeat(22, axis=1)[:, :64]
    torch.manual_seed(0)
    head = heads.make(kind, 10, 3, queries, count)
    flat = features.reshape(600, 640)
    head.standardise(flat[:300])
    module = TuningModule(head, None, {}, lr=1e-2)
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    module.log = lambda *arguments, **options: None  # type: ignore[method-assign]
    batch = Pixels(torch.from_numpy(flat[:300]), torch.from_numpy(target[:300]))
    for step in range(40):
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        optimizer.step()
    guess = head(torch.from_numpy(flat[300:])).argmax(1).numpy()
    assert (guess == target[300:]).mean() > 0.97


def test_a_number_that_never_changes_is_not_blown_up() -> None:
    features = np.random.default_rng(0).normal(0, 1, (50, 640)).astype(np.float32)
    features[:, 3] = 0.25
    head = heads.make("linear", 10, 2, 1, 1)
    head.standardise(features)
    assert head.scale[3] == 1
    standard = ((torch.from_numpy(features) - head.mean) * head.scale).numpy()
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(standard.std(0), 3), 1, atol=1e-4)


def test_standardising_takes_little_memory_beside_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives what numpy computes of all at once, also far from 0."""
    features = np.random.default_rng(0).normal(300, 2, (20001, 640)).astype(np.float32)
    head = heads.make("linear", 10, 2, 1, 1)
    tracemalloc.start()
    try:
        head.standardise(features)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < features.nbytes
    np.testing.assert_allclose(head.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(1 / head.scale, features.std(axis=0, dtype=np.float64), rtol=1e-5)


def crops(seed: int = 0) -> Crops:
    """Two crops of 16 pixels of either sensor, three dates, the last padded in one of them."""
    rng = torch.Generator().manual_seed(seed)
    views = {}
    for sensor, bands in (("s2", 10), ("s1", 2)):
        images = torch.rand(2, 3, bands, 16, 16, generator=rng) * (3000 if sensor == "s2" else 0.2) + 0.01
        padded = torch.tensor([[False, False, False], [False, False, True]])
        seen = ~padded[:, :, None, None].expand(2, 3, 16, 16)
        views[sensor] = View(images, torch.tensor([[3000, 3050, 3100]] * 2), padded, seen, seen)
    target = torch.randint(0, 4, (2, 16, 16), generator=rng)
    target[0, :8] = -1
    return Crops(Batch(views, ("a", "b")), target)


def tuner() -> TuningModule:
    normalise = {sensor: Normalise(sensor, MALICE[sensor]) for sensor in ("s2", "s1")}
    torch.manual_seed(0)
    module = TuningModule(heads.make("linear", 20, 4, 1, 1), random_encoder(), normalise)
    module.log = lambda *arguments, **options: None  # type: ignore[method-assign]
    return module


def test_what_is_ignored_has_no_influence() -> None:
    """The loss and its gradient are those of the labelled pixels alone: of both halves of a batch, weighted."""
    features, target = torch.randn(50, 640), torch.randint(0, 3, (50,))
    ignored = torch.rand(50) < 0.4
    head = heads.make("master_query", 10, 3, 1, 8)
    module = TuningModule(head, None, {})
    module.log = lambda *arguments, **options: None  # type: ignore[method-assign]

    def gradient(batch: Pixels) -> list[torch.Tensor]:
        module.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in head.parameters() if p.grad is not None)]

    with_them = gradient(Pixels(features, torch.where(ignored, -1, target)))
    without = gradient(Pixels(features[~ignored], target[~ignored]))
    other = features.clone()
    other[ignored] = 1e3
    changed = gradient(Pixels(other, torch.where(ignored, -1, target)))
    for a, b, c in zip(with_them, without, changed, strict=True):
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(a, c)
    nothing = gradient(Pixels(features, torch.full((50,), -1)))
    assert all((part == 0).all() for part in nothing)


def test_full_training_moves_encoder_and_head_but_no_batch_statistics() -> None:
    module = tuner()
    module.train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    module.training_step(crops(), 0).backward()
    optimizer.step()
    for name, tensor in module.state_dict().items():
        still = "running" in name or "num_batches" in name or name in ("head.mean", "head.scale")
        assert torch.equal(tensor, before[name]) == still, name


def test_validation_embeds_as_training_does() -> None:
    """The same pixels through a tile, date by date, and through a crop; padding changes nothing."""
    module = tuner()
    module.eval()
    given = crops()
    target = given.target.clone()
    target[0] = -1
    with torch.no_grad():
        logits, known = module.logits(Crops(given.images, target))
        views = {s: view.each(lambda p: p[1:, :2]) for s, view in given.images.views.items()}
        other, same = module.logits(Tile(views, target[1].numpy().astype(np.int16)))
    assert torch.equal(known, same)
    torch.testing.assert_close(logits, other, atol=2e-5, rtol=1e-4)


def test_scores_agree_with_an_independent_computation() -> None:
    rng = np.random.default_rng(4)
    truth = rng.choice([0, 1, 3], 500, p=[0.6, 0.3, 0.1])
    guess = np.where(rng.random(500) < 0.6, truth, rng.integers(0, 4, 500))
    scores = Scores(4)
    logits = torch.from_numpy(np.eye(4, dtype=np.float32)[guess])
    for part in np.array_split(np.arange(500), 7):
        scores.add(logits[part], torch.from_numpy(truth[part]))
    found = scores.result()
    wanted: dict[str, list[float]] = {"iou": [], "f1": [], "accuracy": []}
    for one in range(4):
        hit, t, g = ((truth == one) & (guess == one)).sum(), (truth == one).sum(), (guess == one).sum()
        wanted["iou"].append(hit / (t + g - hit) if t else np.nan)
        wanted["f1"].append(2 * hit / (t + g) if t else np.nan)
        wanted["accuracy"].append(hit / t if t else np.nan)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6, err_msg=name)
    together = means(found)
    assert together["iou"] == pytest.approx(np.nanmean(wanted["iou"]), abs=1e-6)
    assert together["overall"] == pytest.approx((truth == guess).mean(), abs=1e-6)
    assert found["confusion"][0, 3] == ((truth == 0) & (guess == 3)).sum()
    scores.add(logits[:5], torch.from_numpy(truth[:5]))
    assert scores.result()["confusion"].sum() == 5  # it begins anew


def test_a_head_that_could_not_be_read_again_is_refused_before_it_is_trained() -> None:
    with pytest.raises(InputError, match=r"head\.queries=64 with head\.heads=64 and 70 classes make a head of 70 MB"):
        heads.make("master_query", 10, 70, 64, 64)
    # The largest that may be trained can be read; it is made of what a head of its size is.
    size = len(heads.make("master_query", 10, 62, 64, 64).graph())
    assert heads.LARGEST - (1 << 20) < size < MAX_HEAD
