"""Parts of the set-up alone: what differs between systems, which Python is taken, pip's words, secrets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from malice_qgis import plugin, redacting
from malice_qgis.setup import building, pips, platforms, pythons
from qgis.core import QgsFeedback
from qgis.PyQt.QtNetwork import QNetworkProxy

from helpers_qgis import fake_engine

GOOD = {
    "executable": "/usr/bin/python3.12",
    "version": (3, 12, 1),
    "bits": 64,
    "platform": "linux",
    "machine": "x86_64",
    "implementation": "CPython",
    "threaded": False,
    "pip": "",
    "cuda": None,
    "driver": 0,
}


def test_the_python_of_an_environment_lies_elsewhere_on_windows() -> None:
    assert platforms.python_in(r"C:\engine\1", "win32") == r"C:\engine\1\Scripts\python.exe"
    assert platforms.python_in("/engine/1", "darwin") == "/engine/1/bin/python"
    assert platforms.python_in("/engine/1", "linux") == "/engine/1/bin/python"


def test_qgis_own_folders_are_taken_off_windows_search_path() -> None:
    root = platforms.installation(r"C:\Program Files\QGIS 3.40\apps\qgis-ltr", "win32")
    assert root == r"C:\Program Files\QGIS 3.40"
    path = r"c:\program files\qgis 3.40\bin;C:\Windows\system32;;C:/Program Files/QGIS 3.40/apps/bin;D:\QGIS 3.40x"
    assert platforms.without(path, root, "win32") == r"C:\Windows\system32;D:\QGIS 3.40x"
    assert platforms.without(r"C:\Program Files\QGIS 3.40 other\bin", root, "win32") != ""
    assert platforms.installation("/usr", "linux") == "/usr"
    assert platforms.without("/usr/bin:/opt/qgis/bin:/OPT/qgis", "/opt/qgis", "linux") == "/usr/bin:/OPT/qgis"


def test_long_paths_are_windows_trouble_alone() -> None:
    usual = r"C:\Users\a.name\AppData\Roaming\QGIS\QGIS3\profiles\default\malice\engine\12"
    assert not platforms.too_long(usual, "win32")
    assert platforms.too_long(usual + "x" * 40, "win32")
    assert not platforms.too_long("/" + "x" * 400, "linux")


def test_quarantine_is_taken_off_on_macs_alone() -> None:
    assert platforms.unquarantine("/e/1", "darwin") == ["/usr/bin/xattr", "-r", "-d", "com.apple.quarantine", "/e/1"]
    assert platforms.unquarantine("/e/1", "linux") == platforms.unquarantine("/e/1", "win32") == []


@pytest.mark.parametrize(("platform", "fails", "tries"), [("win32", 3, 4), ("win32", 9, 5), ("linux", 1, 1)])
def test_what_a_virus_scanner_holds_is_tried_again_on_windows(platform: str, fails: int, tries: int) -> None:
    calls, waits = [], []

    def action() -> None:
        calls.append(1)
        if len(calls) <= fails:
            raise PermissionError("held")

    if fails >= tries:
        with pytest.raises(PermissionError):
            platforms.patiently(action, platform, waits.append)
    else:
        platforms.patiently(action, platform, waits.append)
    assert len(calls) == tries
    assert sum(waits) < 2


def found_in(files: set[str]):
    """In place of glob: which of the files fit a pattern."""
    import fnmatch

    return lambda pattern: [path for path in files if fnmatch.fnmatchcase(path, pattern)]


def test_pythons_of_windows() -> None:
    files = {
        r"C:\OSGeo4W\apps\Python312\python.exe",
        r"C:\OSGeo4W\bin\python.exe",
        r"C:\Users\u\AppData\Local\Programs\Python\Python311\python.exe",
        r"C:\Users\u\AppData\Local\Microsoft\WindowsApps\python.exe",
        r"C:\Program Files\Python313\python.exe",
        r"C:\Windows\py.exe",
    }
    environ = {
        "OSGEO4W_ROOT": r"C:\OSGeo4W",
        "LOCALAPPDATA": r"C:\Users\u\AppData\Local",
        "ProgramFiles": r"C:\Program Files",
        "PATH": r"C:\Users\u\AppData\Local\Microsoft\WindowsApps",
    }
    system = pythons.System("win32", environ, (r"C:\OSGeo4W\apps\Python312", (3, 12)), r"C:\Users\u")
    commands = pythons.candidates(system, found_in(files))
    assert commands[:3] == [
        [r"C:\OSGeo4W\apps\Python312\python.exe"],
        [r"C:\Users\u\AppData\Local\Programs\Python\Python311\python.exe"],
        [r"C:\Program Files\Python313\python.exe"],
    ]
    assert commands[3:] == [[r"C:\Windows\py.exe", f"-3.{minor}"] for minor in (12, 13, 11, 14)]


def test_pythons_of_macs() -> None:
    own = "/Applications/QGIS.app/Contents/MacOS"
    files = {
        f"{own}/bin/python3.9",
        "/usr/bin/python3",
        "/opt/homebrew/bin/python3.12",
        "/Library/Frameworks/Python.framework/Versions/3.13/bin/python3.13",
    }
    commands = pythons.candidates(pythons.System("darwin", {"PATH": "/usr/bin"}, (own, (3, 9)), "/u"), found_in(files))
    assert commands == [
        ["/opt/homebrew/bin/python3.12"],
        ["/Library/Frameworks/Python.framework/Versions/3.13/bin/python3.13"],
    ]
    commands = pythons.candidates(
        pythons.System("darwin", {}, (own, (3, 12)), "/u"), found_in({f"{own}/bin/python3", f"{own}/bin/python3.12"})
    )
    assert commands == [[f"{own}/bin/python3.12"], [f"{own}/bin/python3"]]


def test_pythons_of_linux() -> None:
    files = {"/usr/bin/python3.11", "/usr/bin/python3", "/opt/py/python3.13", "/home/u/.local/bin/python3.12"}
    environ = {"PATH": "relative:/opt/py:/usr/bin"}
    commands = pythons.candidates(pythons.System("linux", environ, ("/usr", (3, 11)), "/home/u"), found_in(files))
    assert commands == [
        ["/usr/bin/python3.11"],
        ["/home/u/.local/bin/python3.12"],
        ["/opt/py/python3.13"],
        ["/usr/bin/python3"],
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"version": (3, 10, 4)}, "3.10 is not one of 3.11 to 3.14"),
        ({"version": (3, 15, 0)}, "3.15 is not"),
        ({"implementation": "PyPy"}, "PyPy"),
        ({"threaded": True}, "free-threaded"),
        ({"bits": 32}, "32 bits"),
        ({"machine": "ppc64le"}, "ppc64le"),
        ({"platform": "darwin", "version": (3, 14, 0)}, "3.13"),
        ({"platform": "darwin", "machine": "arm64", "version": (3, 14, 0)}, ""),
        ({"platform": "win32", "machine": "AMD64"}, ""),
        ({"platform": "win32", "machine": "ARM64"}, "ARM64"),
    ],
)
def test_which_python_fits(change: dict[str, object], says: str) -> None:
    reason = pythons.unfit(pythons.Found(**{**GOOD, **change}))
    assert says in reason
    assert bool(reason) == bool(says)


def test_what_people_read_is_translated(qgis_app: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also words that are put into a sentence."""
    for module in (pythons, building):
        monkeypatch.setattr(module, "tr", lambda text: f"«{text}»")
    assert "«free-threaded»" in pythons.unfit(pythons.Found(**{**GOOD, "threaded": True}))
    assert "PyPy" in pythons.unfit(pythons.Found(**{**GOOD, "implementation": "PyPy"}))
    assert "«code 7»" in building._sentence("packages", 7, [])
    assert "«killed»" in building._sentence("packages", None, [])


def test_this_machine_has_a_python_and_it_says_who_it_is(qgis_app: object) -> None:
    found = pythons.choose("", lambda: False, lambda _: None, cuda=True)
    assert pythons.unfit(found) == ""
    assert Path(found.executable).exists()
    assert found.cuda is not None, "it was asked for a GPU, so it says why there is none, or that there is one"


def test_without_a_python_the_user_is_told_what_to_install(
    qgis_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_engine(tmp_path, "echo '{}'\n")
    seen: list[str] = []
    monkeypatch.setattr(pythons, "candidates", lambda _: [[old], ["/bin/false"]])
    for platform, cure in (
        ("win32", "python.org/downloads/windows"),
        ("darwin", "brew"),
        ("linux", "sudo apt install"),
    ):
        with pytest.raises(pythons.NoPython, match=f"QGIS' own is 3.9.*2 others.*{cure}"):
            pythons.choose("", lambda: False, seen.append, system=pythons.System(platform, {}, ("/q", (3, 9)), "/u"))
    assert any("it does not answer as a Python does" in text for text in seen)


def test_pip_is_heard(qgis_app: object) -> None:
    shares: list[float] = []
    said: list[str] = []
    progress = pips.Progress(3, shares.append, said.append)
    for line in (
        "Ignoring gamma: markers 'sys_platform == ...' don't match your environment",
        "Collecting alpha==1.0 (from -r engine.lock (line 2))",
        "  Downloading alpha-1.0-py3-none-any.whl (59.1 MB)",
        "Progress 5 of 10",
        "Progress 10 of 10",
        "Processing /wheels/beta-2.0-py3-none-any.whl (from -r engine.lock (line 4))",
        "Progress nonsense",
        "Installing collected packages: alpha, beta",
    ):
        progress.hear(line)
    assert shares == pytest.approx([0, 0.175, 0.35, 0.35, 0.7])
    progress.unpacked(1)
    progress.unpacked(9)
    progress.hear("Successfully installed alpha-1.0 beta-2.0")
    assert shares[-3:] == pytest.approx([0.85, 1, 1])
    assert said[:3] == [
        "alpha==1.0",
        "   Downloading alpha-1.0-py3-none-any.whl (59.1 MB)",
        "beta-2.0-py3-none-any.whl",
    ]


def test_pip_is_told_to_check_hashes_and_to_build_nothing() -> None:
    online = pips.install("/w/pip-26.3-py3-none-any.whl", ["/a b/engine.lock"])
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps", "--progress-bar=raw"} < set(online)
    assert "--requirement=/a b/engine.lock" in online
    assert "--no-index" not in online
    offline = pips.install("/w/pip-23.0.1-py3-none-any.whl", ["/x"], "/wheels")
    assert offline[offline.index("--find-links") + 1] == "/wheels"
    assert {"--no-index", "--progress-bar=off"} < set(offline)


def test_proxies_reach_pip_and_stay_secret() -> None:
    proxy = QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "proxy.example", 3128, "me", "p@ss:word")
    address = pips.proxy_address(proxy)
    assert address == "http://me:p%40ss%3Aword@proxy.example:3128"
    assert redacting.redact(address) == "http://***@proxy.example:3128"
    assert pips.proxy_address(QNetworkProxy(QNetworkProxy.ProxyType.NoProxy)) == ""
    assert pips.proxy_address(QNetworkProxy(QNetworkProxy.ProxyType.Socks5Proxy, "proxy.example", 1080)) == ""


def test_only_how_packages_are_reached_is_handed_to_pip(qgis_app: object) -> None:
    told = pips.environment(
        {"PIP_INDEX_URL": "https://mirror/simple", "PIP_TARGET": "/x", "PIP_USER": "1", "HOME": "/"}
    )
    assert told == {"PIP_INDEX_URL": "https://mirror/simple"}


def test_a_pip_is_taken_only_if_it_is_the_one_that_is_expected(
    qgis_app: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content = "pip-99.0-py3-none-any.whl", b"a wheel"
    digest = hashlib.sha256(content).hexdigest()
    address = f"https://127.0.0.1:9/{name}"
    (tmp_path / "pip.lock").write_text(f"pip @ {address} \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    monkeypatch.setattr(pips, "HERE", str(tmp_path))
    wheels, cache = tmp_path / "wheels", tmp_path / "cache"
    wheels.mkdir()
    cache.mkdir()
    assert pips.wheel("/own/pip.whl", str(wheels), str(cache), QgsFeedback()) == "/own/pip.whl"
    with pytest.raises(pips.NoPip, match=r"python3-venv.*put it there"):
        pips.wheel("", str(wheels), str(cache), QgsFeedback())
    (wheels / name).write_bytes(b"another")
    with pytest.raises(pips.NoPip, match="put it there"):
        pips.wheel("", str(wheels), str(cache), QgsFeedback())
    (wheels / name).write_bytes(content)
    assert pips.wheel("", str(wheels), str(cache), QgsFeedback()) == str(wheels / name)
    with pytest.raises(pips.NoPip, match="cannot be fetched"):
        pips.wheel("", "", str(cache), QgsFeedback())
    fetched = {"content": b"another"}
    monkeypatch.setattr(pips, "_fetch", lambda where, _: fetched["content"] if where == address else b"")
    with pytest.raises(pips.NoPip, match="not the file that was expected"):
        pips.wheel("", "", str(cache), QgsFeedback())
    assert list(cache.iterdir()) == []
    fetched["content"] = content
    assert Path(pips.wheel("", "", str(cache), QgsFeedback())).read_bytes() == content


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://user:pw@proxy:3128/x", "http://***@proxy:3128/x"),
        ("https://a.b/c?sig=abc123&x=1", "https://a.b/c?sig=***&x=1"),
        ('{"token": "abc", "n": 1}', '{"token": "***", "n": 1}'),
        ('{"password": "two words", "n": 1}', '{"password": "***", "n": 1}'),
        ('password="a \\" b" n', 'password="***" n'),
        ("dbname='d' password='s p, q' host=h", "dbname='d' password='***' host=h"),
        (r'"{\"token\": \"a b\", \"n\": 1}"', r'"{\"token\": \"***\", \"n\": 1}"'),
        ("password='cut off\nnext line", "password='***\nnext line"),
        ("{token: abc, n: 1}", "{token: ***, n: 1}"),
        ("Password=a,b;Database=d", "Password=***;Database=d"),
        ("http://me:p@ss@proxy:3128/x?a=b@c", "http://***@proxy:3128/x?a=b@c"),
        ("GDAL_HTTP_PROXYUSERPWD=me:secret", "GDAL_HTTP_PROXYUSERPWD=***"),
        ("AWS_SECRET_ACCESS_KEY=abc/def next", "AWS_SECRET_ACCESS_KEY=*** next"),
        ("Authorization: Basic dXNlcjpwdw==", "Authorization: ***"),
        ("sent Bearer abcdefghijkl", "sent Bearer ***"),
        ("run --password hunter2 --size 3", "run --password *** --size 3"),
        ("the token of a model expired", "the token of a model expired"),
        ("open /home/ann/data/a.tif", "open ~/data/a.tif"),
        ("open /home/annette/a.tif", "open /home/annette/a.tif"),
        ("numpy 2.4.6, 20 keys, monkey=3", "numpy 2.4.6, 20 keys, monkey=3"),
    ],
)
def test_secrets_are_taken_out(text: str, clean: str) -> None:
    assert redacting.redact(text, "/home/ann") == clean


def test_the_home_of_windows_is_taken_out_however_it_is_written() -> None:
    text = r"C:\Users\Ann\x c:/users/ann/y C:\\Users\\Ann\\z C:\Users\Annette"
    assert redacting.redact(text, r"C:\Users\Ann") == r"~\x ~/y ~\\z C:\Users\Annette"


def test_the_menu_has_both_entries_and_gives_them_back(
    qgis_app: object, qgis_processing: object, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qgis import utils

    class Interface:
        """The part of QGIS' interface that is used."""

        entries: list[str] = []  # noqa: RUF012

        def mainWindow(self) -> None:
            return None

        def addPluginToMenu(self, menu: str, action: object) -> None:
            self.entries.append(f"{menu}/{action.text()}")

        def removePluginMenu(self, menu: str, action: object) -> None:
            self.entries.remove(f"{menu}/{action.text()}")

    monkeypatch.setattr(utils, "iface", Interface())
    ours = plugin.MalicePlugin()
    ours.initGui()
    assert Interface.entries == ["MALICE/Set up the engine…", "MALICE/Diagnosis…"]
    ours.unload()
    assert Interface.entries == []
