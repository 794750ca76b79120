"""The plugin in French: in one process with QGIS, by QGIS' own choice of language, and in qgis_process."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

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
