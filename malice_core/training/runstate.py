"""The form of a checkpoint's state of a run: what Lightning and torch could not take over is found beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from packaging.version import InvalidVersion, Version

#: Of a checkpoint: epochs that were asked for, and what the order of an epoch's samples depends on.
EPOCHS, ORDER = "malice_max_epochs", "malice_order"
#: The latter, in words.
ORDERED = {
    "seed": "seed",
    "samples": "samples an epoch (dataset.crops_per_patch)",
    "together": "samples a step (datamodule.batch_size x devices)",
}
#: In the state of Lightning's loops: how many batches of the epoch are done, how many epochs, how many steps.
BATCHES, EPOCHS_DONE = "epoch_loop.batch_progress", "epoch_progress"
_STEPS = "epoch_loop.automatic_optimization.optim_progress"
#: Options of Adam that torch fills in where a checkpoint of another version of it has none.
_FILLED = {"amsgrad", "maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"}
#: Of callbacks' states: what every version of Lightning writes, and cannot be taken over without.
_KEPT = {"best_k_models", "wait_count", "stopped_epoch", "best_score", "patience"}
#: Of Adam's state of a parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def unlike_a_run(content: Mapping[str, Any], network: L.LightningModule, trainer: L.Trainer) -> str | None:
    """What of a checkpoint Lightning could not take over, in words; None if there is nothing."""
    loops: dict[str, Any] = trainer.fit_loop.state_dict()
    parts = {"epoch": 0, "global_step": 0, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}
    parts["loops"] = {"fit_loop": {name: loops[name] for name in (BATCHES, EPOCHS_DONE)}}
    wrong = _unlike(content, parts | {"pytorch-lightning_version": ""}) or _unlike_ours(content)
    if wrong:
        return wrong
    version = content["pytorch-lightning_version"]
    try:
        Version(version)
    except InvalidVersion:
        return f"pytorch-lightning_version is {version!r:.40}"
    # Those of other versions, whose loops Lightning migrates, may lack what came later.
    same = version == L.__version__
    if same:
        loops["state_dict"] = {"combined_loader": [{"epoch": 0, "batches": 0}]}
        wrong = _unlike(content["loops"]["fit_loop"], loops, "loops.fit_loop")
    return (
        wrong
        or _unlike_counts(content, same)
        or _unlike_callbacks(content["callbacks"], trainer, same)
        or _unlike_optimizer(content, network, same)
    )


def _unlike_ours(content: Mapping[str, Any]) -> str | None:
    """What this program noted; checkpoints of earlier versions of it have nothing of it."""
    forms: dict[str, Any] = {EPOCHS: 0, ORDER: {}}
    wrong = _unlike(content, {name: form for name, form in forms.items() if name in content})
    order = content.get(ORDER, {})
    return wrong or _unlike(order, {name: 0 for name in ORDERED if name in order}, ORDER)


def _unlike_counts(content: Mapping[str, Any], same: bool) -> str | None:
    """Every epoch that is done took a step, and every step a batch."""
    steps, loops = content["global_step"], content["loops"]["fit_loop"]
    batches = loops[BATCHES]["total"]["ready"]
    if steps > batches:
        return f"global_step is {steps:.4g}, after {batches:.4g} batches"
    if same and steps != (stepped := loops[_STEPS]["optimizer"]["step"]["total"]["completed"]):
        return f"global_step is {steps:.4g}, of the optimizer {stepped:.4g}"
    if content["epoch"] > steps:
        return f"epoch is {content['epoch']:.4g}, after {steps:.4g} steps"
    # One more may have begun.
    most = max(count for part in ("total", "current") for count in loops[EPOCHS_DONE][part].values())
    return f"{EPOCHS_DONE} is {most:.4g}, after {steps:.4g} steps" if most > steps + 1 else None


def _unlike_callbacks(states: Mapping[Any, Any], trainer: L.Trainer, same: bool) -> str | None:
    for key, state in states.items():
        if not isinstance(key, str) or not isinstance(state, dict):
            return f"callbacks.{key!s:.40} is {state!r:.40}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set in its constructor
        if callback.state_key not in states:
            continue
        state, form = states[callback.state_key], callback.state_dict()
        if isinstance(callback, ModelCheckpoint):
            best = state.get("best_k_models")
            form["best_k_models"] = dict.fromkeys(best, 0.0) if isinstance(best, dict) else {}
            if strange := [name for name in form["best_k_models"] if not isinstance(name, str)]:
                return f"callbacks.{callback.state_key}.best_k_models names {strange[0]!r:.40}"
        if not same:
            form = {name: value for name, value in form.items() if name in state or name in _KEPT}
        if wrong := _unlike(state, form, f"callbacks.{callback.state_key}"):
            return wrong
    return None


def _unlike_optimizer(content: Mapping[str, Any], network: L.LightningModule, same: bool) -> str | None:
    """Optimizer and schedule, which are torch's in any version of Lightning."""
    made: Any = network.configure_optimizers()
    optimizer = made["optimizer"] if isinstance(made, dict) else made
    schedulers = [made["lr_scheduler"]["scheduler"].state_dict()] if isinstance(made, dict) else []
    if not same:
        schedulers = [{name: form for name, form in one.items() if name[0] != "_"} for one in schedulers]
    if wrong := _unlike(content["lr_schedulers"], schedulers, "lr_schedulers"):
        return wrong
    form, name = optimizer.state_dict(), "optimizer_states.0"
    groups = form["param_groups"]
    if wrong := _unlike(content["optimizer_states"], [{"state": {}, "param_groups": [{}] * len(groups)}], name[:-2]):
        return wrong
    (given,) = content["optimizer_states"]
    for i, (group, wanted) in enumerate(zip(given["param_groups"], groups, strict=True)):
        wanted = {key: value for key, value in wanted.items() if key in group or key not in _FILLED}
        if wrong := _unlike(group, wanted, f"{name}.param_groups.{i}"):
            return wrong
        if list(group["params"]) != wanted["params"]:
            return f"{name}.param_groups.{i}.params does not number the network's weights"
    return _unlike_moments(given["state"], [one for group in optimizer.param_groups for one in group["params"]])


def _unlike_moments(states: Mapping[Any, Any], parameters: list[torch.Tensor]) -> str | None:
    for number, state in states.items():
        name = f"optimizer_states.0.state.{number!s:.20}"
        if not isinstance(number, int) or number not in range(len(parameters)):
            return f"{name} is of no weight of the network"
        if wrong := _unlike(state, {}, name):
            return wrong
        if missing := [part for part in _MOMENTS if part not in state]:
            return f"{name}.{missing[0]} is missing"
        for part, tensor in state.items():
            wanted = torch.Size(()) if part == "step" else parameters[number].shape
            if not isinstance(tensor, torch.Tensor) or tensor.shape != wanted or not tensor.is_floating_point():
                return f"{name}.{part!s:.20} does not have the shape of the network's weights"
        # Adam divides by what the number of its steps gives, which is 0 for the one before the first.
        if not state["step"] >= 0:
            return f"{name}.step is {float(state['step'])}"
    return None


def _unlike(given: Any, wanted: Any, name: str = "") -> str | None:
    """Where ``given`` has not the parts of ``wanted`` or others in their place, in words; None if it has.

    Of numbers, tensors of a single number and None each goes for the other.
    """
    dot = f"{name}." if name else ""
    if isinstance(wanted, dict):
        if not isinstance(given, dict):
            return f"{name} is {given!r:.40}"
        if missing := [key for key in wanted if key not in given]:
            return f"{dot}{missing[0]} is missing"
        return next((wrong for key in wanted if (wrong := _unlike(given[key], wanted[key], f"{dot}{key}"))), None)
    if isinstance(wanted, list | tuple):
        if not isinstance(given, list | tuple) or (wanted and len(given) != len(wanted)):
            return f"{name} is {given!r:.40}"
        pairs = enumerate(zip(given, wanted, strict=False))
        return next((wrong for i, (one, other) in pairs if (wrong := _unlike(one, other, f"{dot}{i}"))), None)
    if isinstance(wanted, str):
        fits = isinstance(given, str)
    elif isinstance(wanted, int):
        fits = isinstance(given, int) and given >= 0
    else:
        fits = _is_number(given) or (wanted is None and (given is None or isinstance(given, str)))
    return None if fits else f"{name} is {given!r:.40}"


def _is_number(given: Any) -> bool:
    if isinstance(given, torch.Tensor):
        return given.ndim == 0 and not given.is_complex()
    return isinstance(given, int | float)
