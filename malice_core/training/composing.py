"""Settings of a training run out of YAML files and the command line, composed by Hydra."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml  # type: ignore[import-untyped]  # of omegaconf, whose errors these are
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from malice_core.errors import InputError
from malice_core.training.settings import Settings, check

CONFIG = "malice_core.config"
S = TypeVar("S")


@dataclass(frozen=True)
class Command(Generic[S]):
    """A command with settings.

    Attributes:
        top: name of the file to begin with.
        schema: dataclass of its settings.
        check: raises InputError for a value beyond its limits.
        hints: what a key that must be given is, by key.
    """

    top: str
    schema: type[S]
    check: Callable[[S], None]
    hints: Mapping[str, str] = field(default_factory=dict)


PRETRAIN = Command(
    "pretrain_proj", Settings, check, {"dataset.path": ", a dataset that malice_core.dataset build wrote"}
)


@dataclass
class Composed(Generic[S]):
    """What Hydra made of the files and the command line.

    Attributes:
        settings: checked.
        folder: ``hydra.run.dir``.
        subdir: ``hydra.output_subdir``.
        named: whether the user gave ``hydra.run.dir`` or ``run_id``.
    """

    settings: S
    folder: Path
    subdir: str | None
    named: bool


def compose_settings(
    overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None, base: Path | None = None
) -> Composed[Settings]:
    """Composes the configuration of a pre-training. Arguments and errors: as of :func:`compose_for`."""
    return compose_for(PRETRAIN, overrides, config_dir, config_name, base)


def compose_for(
    command: Command[S],
    overrides: Sequence[str],
    config_dir: Path | None = None,
    config_name: str | None = None,
    base: Path | None = None,
) -> Composed[S]:
    """Composes the configuration of a command and checks it.

    Args:
        command: whose settings they are.
        overrides: ``KEY=VALUE``, Hydra's grammar.
        config_dir: folder of the user's own YAML files.
        config_name: the file to begin with; None: the command's.
        base: a run's ``config.yaml``, which then takes the place of all files.

    Raises:
        InputError: if a key is unknown, missing, or its value of another type or beyond its limits.
    """
    composed, own = _composed(command, overrides, config_dir, config_name, base)
    try:
        settings = OmegaConf.to_object(own)
        folder = base.parent if base is not None else Path(composed.hydra.run.dir)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a key"
        raise InputError(f"{key} is not given: add {key}=VALUE{command.hints.get(key, '')}") from error
    except OmegaConfBaseException as error:
        raise InputError(_told(error)) from error
    assert isinstance(settings, command.schema)
    command.check(settings)
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    return Composed(settings, folder, composed.hydra.output_subdir, bool(given & {"hydra.run.dir", "run_id"}))


def show(
    overrides: Sequence[str],
    config_dir: Path | None = None,
    config_name: str | None = None,
    command: Command[Any] = PRETRAIN,
) -> str:
    """All keys and their values as YAML; ``???`` where one must be given. Raises as :func:`compose_for`."""
    return OmegaConf.to_yaml(_composed(command, overrides, config_dir, config_name, None)[1])


def _composed(
    command: Command[Any], overrides: Sequence[str], config_dir: Path | None, config_name: str | None, base: Path | None
) -> tuple[DictConfig, DictConfig]:
    """What Hydra composes, and the part of it that is ours with its types."""
    if not OmegaConf.has_resolver("malice_run_id"):
        OmegaConf.register_new_resolver("malice_run_id", _run_id, use_cache=True)
    if config_dir is not None and not config_dir.is_dir():
        raise InputError(f"--config-dir {config_dir}: there is no such folder")
    _require_grammar(overrides)
    GlobalHydra.instance().clear()
    try:
        if base is not None:
            initialize_config_dir(f"{base.parent.absolute()}", version_base="1.3")
        else:
            initialize_config_module(CONFIG, version_base="1.3")
        extra = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.absolute()}]"]
        name = base.stem if base is not None else config_name or command.top
        composed = compose(name, [*overrides, *extra], return_hydra_config=True)
        # Hydra's own part has keys that only a run of Hydra's own fills.
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        OmegaConf.resolve(own)
        typed = OmegaConf.merge(OmegaConf.structured(command.schema), own)
    except HydraException as error:
        raise InputError(_short(error)) from error
    except OmegaConfBaseException as error:
        raise InputError(_told(error)) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        # The decoder does not say of which file.
        where = "" if isinstance(error, yaml.MarkedYAMLError) else f" among {base or config_dir}"
        raise InputError(f"a configuration file{where} is no YAML: {_one_line(error)[:400]}") from error
    except ValueError as error:
        # Something else is given in the place of a group's file; Hydra does not say which.
        groups = [text for text in overrides if "." not in text.partition("=")[0]]
        raise InputError(f"{', '.join(groups)}: {_one_line(error)[:400]} (--cfg prints all keys)") from error
    finally:
        GlobalHydra.instance().clear()
    assert isinstance(typed, DictConfig)
    return composed, typed


def _require_grammar(overrides: Sequence[str]) -> None:
    """Refuses what is no override, by its text, which Hydra does not tell."""
    for text in overrides:
        try:
            OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise InputError(
                f"'{text}' is not KEY=VALUE in Hydra's grammar: put values with blanks, commas, signs or letters "
                "beyond a to z into quotes, 'KEY=\"a b\"'"
            ) from error


def _run_id() -> str:
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm-{job}"
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _told(error: Exception) -> str:
    """What an error of OmegaConf says, in one line that begins with the key."""
    key = getattr(error, "full_key", None) or "configuration"
    return f"{key}: {str(error).partition(chr(10))[0][:300]} (--cfg prints all keys)"


def _short(error: Exception) -> str:
    """What an error of Hydra says, in one line."""
    text = _one_line(f"{error} {error.__cause__ or ''}")
    if unknown := re.search(r"Key '([^']*)' is not in struct full_key: (\S+)", text):
        return f"there is no key {unknown[2]} (--cfg prints all keys)"
    return f"{text.partition(' Config search path')[0][:400]} (--cfg prints all keys)"


def _one_line(text: object) -> str:
    return " ".join(f"{text}".split())
