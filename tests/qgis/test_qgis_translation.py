"""The plugin in French: in one process with QGIS, by QGIS' own choice of language, and in qgis_process."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from qgis.PyQt.QtCore import QCoreApplication, QTranslator

from helpers_qgis import ROOT, Shell, deploy

#: A text of the plugin that every language has otherwise, and its translation.
NAME, FRENCH = "MALICE embed", "MALICE\u00a0: plongement"


def compiled(folder: Path) -> Path:
    """Translations in ``folder/i18n`` as the build makes them."""
    done = subprocess.run(
        ["bash", ROOT / "tools" / "translations.sh", folder, "anyway"],
        env={**os.environ, "MALICE_NO_APT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stderr:
        pytest.skip(done.stderr.strip())
    assert [path.name for path in (folder / "i18n").iterdir()] == ["malice_qgis_fr.qm"]
    return folder / "i18n"


@pytest.fixture(scope="module")
def translations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "malice_qgis" / "i18n", folder / "i18n")
    return compiled(folder)


@pytest.fixture
def speaking(qgis_app: object, translations: Path, monkeypatch: pytest.MonkeyPatch):
    """Sets the language of QGIS, as its options do."""
    from malice_qgis import texts
    from qgis.core import QgsSettings

    monkeypatch.setattr(texts, "FOLDER", str(translations))

    def speak(language: str) -> None:
        QgsSettings().setValue("locale/overrideFlag", True)
        QgsSettings().setValue("locale/userLocale", language)

    yield speak
    for key in ("locale/overrideFlag", "locale/userLocale"):
        QgsSettings().remove(key)


@pytest.mark.parametrize(
    ("language", "name"), [("fr", FRENCH), ("fr_CA", FRENCH), ("en_US", NAME), ("de", NAME), ("nonsense", NAME)]
)
def test_the_plugin_speaks_the_language_of_qgis(
    speaking: object, qgis_processing: object, engine: str, language: str, name: str
) -> None:
    import malice_qgis
    from malice_qgis.texts import tr
    from qgis.core import QgsApplication, QgsProcessingContext

    speaking(language)
    plugin = malice_qgis.classFactory(None)
    plugin.initProcessing()
    try:
        algorithm = QgsApplication.processingRegistry().createAlgorithmById("malice:embed")
        assert algorithm.displayName() == name
        _, problem = algorithm.checkParameterValues({}, QgsProcessingContext())
        french = name == FRENCH
        assert problem.startswith("Rien n’est choisi" if french else "Nothing is chosen")
        assert algorithm.parameterDefinition("DATE_FROM").description() == ("Première date" if french else "First date")
        # Fixed names stay as they are: scripts, models and the engine know them.
        assert algorithm.id() == "malice:embed"
        assert algorithm.parameterDefinition("DTYPE").options() == ["float32", "float16", "int16", "int8"]
    finally:
        plugin.unload()
    assert tr(NAME) == NAME  # taken back with the plugin


def test_a_build_without_translations_speaks_english(
    speaking: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from malice_qgis import texts

    speaking("fr")
    monkeypatch.setattr(texts, "FOLDER", str(tmp_path))
    assert texts.translator() is None


class Marking(QTranslator):
    """Translates every text of the plugin into itself between marks."""

    def isEmpty(self) -> bool:
        return False

    def translate(self, context: str, text: str, disambiguation: str | None = None, n: int = -1) -> str:
        return f"«{text}»"


def metadata_of_a_result(translator: QTranslator, folder: Path) -> Any:
    """Metadata of the layer of an embedding with every tag that they tell of, made while a translator is installed."""
    from malice_qgis import styling
    from qgis.core import QgsRasterLayer

    path = str(folder / "e.tif")
    target = gdal.GetDriverByName("GTiff").Create(path, 8, 8, 4, gdal.GDT_Float32)
    names = "MODEL MODEL_ID CITATION DTYPE SCALE LICENCE CREDITS VERSION PRECISION JOB"
    target.SetMetadata({"MALICE_DATES_S2": "2024-05-01", **{f"MALICE_{name}": f"<{name}>" for name in names.split()}})
    for number, plane in enumerate(np.random.default_rng(0).normal(0, 1, (4, 8, 8)), 1):
        target.GetRasterBand(number).SetDescription(f"Q00F0{number - 1}")
        target.GetRasterBand(number).WriteRaster(0, 0, 8, 8, plane.astype(np.float32).tobytes())
    del target
    assert QCoreApplication.installTranslator(translator)
    try:
        layer = QgsRasterLayer(path, "e", "gdal")
        styling.dress(layer, styling.look_of(path))
    finally:
        QCoreApplication.removeTranslator(translator)
    return layer.metadata()


def test_every_label_of_the_metadata_can_be_translated(qgis_app: object, tmp_path: Path) -> None:
    """What stands outside the marks is from the file: names, dates, numbers."""
    told = metadata_of_a_result(Marking(), tmp_path)
    lines = [*told.abstract().splitlines(), *told.licenses()]
    assert len(lines) == 6
    assert "«Model: <MODEL> (<MODEL_ID>). <CITATION>»" in lines
    for line in lines:
        assert re.fullmatch(r"«.+»", line), line
    assert set(told.keywords()["MALICE"]) == {"«embedding»", "Sentinel", "<MODEL>"}


def test_metadata_are_told_in_french(speaking: object, tmp_path: Path) -> None:
    from malice_qgis import texts

    speaking("fr")
    told = metadata_of_a_result(texts.translator(), tmp_path)
    what, model, numbers, dates, queries = told.abstract().splitlines()
    assert what.startswith("Plongement")
    assert model == "Modèle\u00a0: <MODEL> (<MODEL_ID>). <CITATION>"
    assert numbers == "Nombres\u00a0: <DTYPE> <SCALE>"
    assert dates == "Dates S2: 2024-05-01"
    assert queries.startswith("requête 0")
    assert told.licenses() == ["modèle\u00a0: <LICENCE>"]
    assert "plongement" in told.keywords()["MALICE"]


def test_qgis_process_speaks_french(shell: Shell, translations: Path, tmp_path: Path) -> None:
    """By the system's language, and by the profile's, which counts more."""
    profile = deploy(tmp_path)
    plugin = profile / "profiles" / "default" / "python" / "plugins" / "malice_qgis"
    shutil.copy(translations / "malice_qgis_fr.qm", plugin / "i18n")
    system = {"LC_ALL": "fr_FR.UTF-8", "LANG": "fr_FR.UTF-8", "QGIS_CUSTOM_CONFIG_PATH": str(profile)}
    assert FRENCH in shell("list", **system).stdout
    settings = profile / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.write_text(
        settings.read_text(encoding="utf-8") + "\n[locale]\noverrideFlag=true\nuserLocale=en_US\n", encoding="utf-8"
    )
    listed = shell("list", **system).stdout
    assert NAME in listed
    assert FRENCH not in listed
