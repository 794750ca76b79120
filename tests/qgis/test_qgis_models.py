"""``malice:models``: list, import, verify, info, remove by the engine; install and its licence; what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from malice_qgis import models
from malice_qgis.styling import entitle
from qgis.core import QgsNetworkAccessManager, QgsProcessingContext, QgsProcessingException, QgsProject, QgsVectorLayer
from qgis.PyQt.QtNetwork import QNetworkProxy

from helpers_qgis import Log, Shell, fake_engine, one_line


@pytest.fixture
def store(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: object) -> Path:
    """A store of this test alone, with the model ``tiny``."""
    folder = tmp_path / "store"
    shutil.copytree(scene / "models" / "tiny", folder / "tiny")
    monkeypatch.setenv("MALICE_MODELS", str(folder))
    models.INSTALLED.forget()
    yield folder
    models.INSTALLED.forget()


def run(provider: object, context: QgsProcessingContext, log: Log | None = None, **parameters: object) -> dict:
    given = {"TABLE": "memory:", **parameters}
    algorithm = provider.algorithm("models").create()
    good, message = algorithm.checkParameterValues(given, context)
    assert good, message
    results, good = algorithm.run(given, context, log or Log(), catchExceptions=False)
    assert good
    return results


def rows(context: QgsProcessingContext, results: dict) -> dict[str, dict]:
    """The table, by name of the model."""
    layer = context.takeResultLayer(results["TABLE"])
    assert isinstance(layer, QgsVectorLayer)
    names = [field.name() for field in layer.fields()]
    return {row["name"]: dict(zip(names, row.attributes(), strict=True)) for row in layer.getFeatures()}


def refusal(provider: object, context: QgsProcessingContext, **parameters: object) -> str:
    """The one line of parameters that must not run, or end the run."""
    given = {"TABLE": "memory:", **parameters}
    algorithm = provider.algorithm("models").create()
    good, message = algorithm.checkParameterValues(given, context)
    if good:
        with pytest.raises(QgsProcessingException) as raised:
            algorithm.run(given, context, Log(), catchExceptions=False)
        message = str(raised.value)
    assert "\n" not in message.strip()
    return message


def test_list(provider: object, context: QgsProcessingContext, store: Path, tmp_path: Path) -> None:
    found = rows(context, run(provider, context, REPORT=str(tmp_path / "m.html")))
    assert {"tiny", "malice-sim", "malice-aux-sim"} <= set(found)
    tiny = found["tiny"]
    assert (tiny["sensors"], tiny["licence"], tiny["folder"]) == ("S2 S1", "CC0-1.0", str(store / "tiny"))
    size = sum(path.stat().st_size for path in (store / "tiny").iterdir())
    assert tiny["megabytes"] == round(size / 1e6, 2)
    assert (tiny["whole"], tiny["removable"], tiny["surroundings"]) == (True, True, False)
    assert not found["malice-sim"]["removable"]
    assert found["malice-aux-sim"]["surroundings"]
    page = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert tiny["identity"] in page
    assert "<script" not in page


def test_verify_info_and_a_damaged_model(
    provider: object, context: QgsProcessingContext, store: Path, tmp_path: Path
) -> None:
    log = Log()
    run(provider, context, log, ACTION="verify", NAME="tiny", REPORT=str(tmp_path / "m.html"))
    assert any("model tiny is good" in text for text in log.texts)
    assert "model tiny is good" in (tmp_path / "m.html").read_text(encoding="utf-8")
    log = Log()
    run(provider, context, log, ACTION="info", NAME="tiny", REPORT=str(tmp_path / "i.html"))
    assert "licence: CC0-1.0" in (tmp_path / "i.html").read_text(encoding="utf-8")
    graph = store / "tiny" / "s1_spatial.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    assert not rows(context, run(provider, context))["tiny"]["whole"]
    assert "s1_spatial.onnx is damaged" in refusal(provider, context, ACTION="verify", NAME="tiny")


def test_remove(provider: object, context: QgsProcessingContext, store: Path) -> None:
    assert "tiny" in models.INSTALLED._told()
    found = rows(context, run(provider, context, ACTION="remove", NAME="tiny"))
    assert "tiny" not in found
    assert list(store.iterdir()) == []
    # What was known of the models before counts no more.
    assert models.INSTALLED.meant("tiny") is None
    assert "ships with this installation" in refusal(provider, context, ACTION="remove", NAME="malice-sim")
    assert "tiny is not installed" in refusal(provider, context, ACTION="remove", NAME="tiny")


def test_the_table_has_a_name_and_the_group_of_the_rasters(
    provider: object, context: QgsProcessingContext, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    told = []
    monkeypatch.setattr("malice_qgis.tables.styling.entitle", lambda *given: told.append(given[1:]) or entitle(*given))
    for given in ({}, {"ACTION": "verify", "NAME": "tiny"}):
        processing.runAndLoadResults("malice:models", {"TABLE": "TEMPORARY_OUTPUT", **given}, context=context)
    layers = {one.id(): one.name() for one in QgsProject.instance().mapLayers().values()}
    assert sorted(layers.values()) == ["Models – list", "Models – verify tiny"]
    assert len(told) == 2


def test_import(provider: object, context: QgsProcessingContext, store: Path) -> None:
    testdata = os.environ.get("MALICE_TESTDATA")
    if not testdata:
        pytest.skip("MALICE_TESTDATA is not set: no published models to import")
    files = [f"{testdata}/models/malice_s1.onnx"]
    log = Log()
    found = rows(context, run(provider, context, log, ACTION="import", NAME="mine", FILES=files))
    assert (found["mine"]["sensors"], found["mine"]["licence"]) == ("S1", "AGPL-3.0-only")
    assert any("agree with malice_s1.onnx" in text for text in log.texts)
    told = refusal(provider, context, ACTION="import", NAME="mine", FILES=files)
    assert "give another NAME, or OVERWRITE to replace it" in told
    run(provider, context, ACTION="import", NAME="mine", FILES=files, OVERWRITE=True)


def test_the_licence_is_shown_before_anything_is_downloaded(
    provider: object,
    context: QgsProcessingContext,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    line = refusal(provider, context, ACTION="install")
    assert "The weights of malice (MALICE, published encoders" in line
    assert "AGPL-3.0-only" in line
    assert "ACCEPT_LICENCE" in line
    assert "AGPL-3.0-only" in provider.algorithm("models").shortHelpString()
    assert "not known" in refusal(provider, context, ACTION="install", NAME="other", ACCEPT_LICENCE=True)
    # An engine that installs without a network.
    done = {"event": "done", "files": [], "seconds": 0}
    answers = {
        "--contract": [{"contract": 1, "version": "0"}],
        "install": [{"event": "progress", "done": 1, "total": 2, "step": "downloading x"}, done],
        "list": [{"event": "plan", "plan": {"models": [{"name": "malice", "bytes": 5000000}]}, "text": ""}, done],
    }
    lines = [f"echo \"$HTTPS_PROXY $*\" >>'{tmp_path}/told'", 'case "$*" in']
    # The proxy of QGIS' settings is gone through.
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    manager = QgsNetworkAccessManager.instance()
    before = manager.fallbackProxy(), manager.excludeList(), manager.noProxyList()
    request.addfinalizer(lambda: manager.setFallbackProxyAndExcludes(*before))
    manager.setFallbackProxyAndExcludes(
        QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "proxy.example", 3128), ["https://intra.example"], []
    )
    lines += [f"*{word}*) printf '%s\\n' {' '.join(map(_quoted, said))};;" for word, said in answers.items()]
    (tmp_path / "e").mkdir()
    monkeypatch.setenv("MALICE_ENGINE_PYTHON", fake_engine(tmp_path / "e", "\n".join([*lines, "esac\n"])))
    log = Log()
    found = rows(context, run(provider, context, log, ACTION="install", ACCEPT_LICENCE=True))
    assert found["malice"]["megabytes"] == 5
    assert 50 in log.steps
    (told,) = [line for line in (tmp_path / "told").read_text().splitlines() if "install" in line]
    assert told.startswith("http://proxy.example:3128 ")
    assert told.endswith("malice_core.models install malice --progress json --cancel-on-stdin-close")


def _quoted(event: dict) -> str:
    return f"'{json.dumps(event)}'"


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"ACTION": "delete"}, "ACTION 'delete' is none of list, install"),
        ({"ACTION": "verify"}, "needs NAME"),
        ({"ACTION": "verify", "NAME": "--json"}, "no name of a model"),
        ({"ACTION": "verify", "NAME": "../tiny"}, "no name of a model"),
        ({"ACTION": "info", "NAME": "unknown"}, "unknown is not installed"),
        ({"ACTION": "import", "NAME": "mine"}, "needs FILES"),
        ({"ACTION": "import", "NAME": "mine", "FILES": ["/nowhere.onnx"]}, "/nowhere.onnx"),
        ({"ACTION": "list", "FILES": ["/nowhere.onnx"]}, "FILES are for ACTION import"),
        ({"ACTION": "install", "ACCEPT_LICENCE": "maybe"}, "neither true nor false"),
        ({"REPORT": "/nowhere/m.html"}, "cannot be written"),
    ],
)
def test_what_is_wrong_is_one_line(
    provider: object, context: QgsProcessingContext, store: Path, parameters: dict, says: str
) -> None:
    assert says in refusal(provider, context, **parameters)


def test_from_a_shell(shell: Shell, tmp_path: Path) -> None:
    done = shell("run", "malice:models", "--", f"TABLE={tmp_path / 'm.csv'}")
    assert done.returncode == 0, done.stderr
    assert "tiny" in (tmp_path / "m.csv").read_text(encoding="utf-8")
    refused = shell("run", "malice:models", "--", "ACTION=install", f"TABLE={tmp_path / 'n.csv'}")
    assert refused.returncode == 1
    assert "AGPL-3.0-only" in one_line(refused.stderr)
    assert not (tmp_path / "n.csv").exists()
