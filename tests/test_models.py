"""The model store and its command line, including downloads from a local server."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_embed import Recorder
from helpers_models import published, write_random_model

from malice_core import cards, models
from malice_core.cancelling import Cancel
from malice_core.errors import Cancelled, ModelError
from malice_core.store import agreement, importing, known

CODE = Path(__file__).resolve().parents[1]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; nothing of this computer's own models is seen."""
    folder = tmp_path / "store"
    monkeypatch.setenv("MALICE_MODELS", str(folder))
    monkeypatch.setattr(models, "user_folder", lambda: tmp_path / "user")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command line."""
    capsys.readouterr()
    code = models.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of a command that must fail with exit code 2."""
    code, _, err = run(capsys, *arguments)
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    return err.removeprefix("error: ")


def test_store_is_searched_in_order(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = tmp_path / "second"
    monkeypatch.setenv("MALICE_MODELS", os.pathsep.join(["", str(store), str(second)]))
    assert models.search_path() == [store, second, tmp_path / "user", CODE / "models"]
    write_random_model(second, "both", seed=1)
    first = write_random_model(store, "both", seed=2)
    write_random_model(tmp_path / "user", "mine", ("s1",))
    assert models.load("both") == first
    assert models.load("both").folder == store / "both"
    assert {"both", "mine"} <= {card.name for card in models.installed()}


def test_user_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert models.user_folder() == tmp_path / ".local/share/malice/models"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert models.user_folder() == tmp_path / "data/malice/models"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert models.user_folder() == tmp_path / "Library/Application Support/malice/models"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert models.user_folder() == tmp_path / "local/malice/models"


def test_a_damaged_card_does_not_hide_the_others(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_model(store, "good")
    write_random_model(store, "bad")
    (store / "bad" / cards.FILE_NAME).write_text("{}")
    write_random_model(store, "renamed").folder.rename(store / "other")
    (store / ".part.1").mkdir()
    (store / ".part.1" / cards.FILE_NAME).write_text("half")
    code, out, err = run(capsys, "list")
    assert code == 0
    assert out.startswith("good  s2+s1")
    assert len(err.splitlines()) == 2
    code, out, _ = run(capsys, "list", "--json")
    answer = json.loads(out)
    assert "good" in [entry["name"] for entry in answer["models"]]
    assert len(answer["problems"]) == 2
    assert "renamed" in refused(capsys, "info", "other")
    assert "bad" in refused(capsys, "info", "bad")


def test_info(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = write_random_model(store)
    code, out, _ = run(capsys, "info", "tiny")
    assert code == 0
    assert "licence: CC0-1.0" in out
    code, out, _ = run(capsys, "info", "tiny", "--json")
    answer = json.loads(out)
    assert answer["identity"] == card.identity
    assert answer["folder"] == str(store / "tiny")


def test_an_unknown_model_says_what_is_there(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_model(store)
    line = refused(capsys, "info", "malice")
    assert line.startswith("model malice is not installed (installed: malice-aux-sim, malice-sim, tiny")
    assert "malice_core.models install" in line


@pytest.mark.parametrize("name", ["../up", "/etc", "a/b", "a\\b", "", ".", "..", "A", "x" * 65, "c:x", "a\n", "é"])
def test_names_cannot_leave_the_store(store: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(ModelError, match="not usable"):
        models.load(name)
    for command in (["info"], ["verify"], ["install"]):
        assert "not usable" in refused(capsys, *command, "--", name)
    assert not store.exists()


def test_verify_accepts_a_good_model_and_names_what_is_damaged(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = write_random_model(store, sensors=("s1",))
    code, out, _ = run(capsys, "verify", "tiny")
    assert code == 0
    assert "runtimes agree" in out
    path = card.graph_path("s1", "temporal")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "s1_temporal.onnx is damaged" in refused(capsys, "verify", "tiny")
    path.write_bytes(b"text")
    text = (store / "tiny" / cards.FILE_NAME).read_text()
    whole = hashlib.sha256(content).hexdigest()
    (store / "tiny" / cards.FILE_NAME).write_text(text.replace(whole, hashlib.sha256(b"text").hexdigest()))
    assert "not an ONNX file" in refused(capsys, "verify", "tiny")
    path.unlink()
    assert "s1_temporal.onnx" in refused(capsys, "verify", "tiny")


def test_verify_checks_the_bounds(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_random_model(store, sensors=("s1",))
    path = store / "tiny" / cards.FILE_NAME
    content = json.loads(path.read_text())
    content["modalities"]["s1"]["high"] = [low + 1e-3 for low in content["modalities"]["s1"]["low"]]
    path.write_text(json.dumps(content))
    assert "bounds" in refused(capsys, "verify", "tiny")


def test_bad_options_are_one_line(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["list", "--nothing"], ["import", "x.onnx"], ["explode"], ["info"]):
        assert "--help" in refused(capsys, *arguments)


@pytest.mark.parametrize("order", [("s2", "s1"), ("s1", "s2"), ("s1",)])
def test_import(store: Path, capsys: pytest.CaptureFixture[str], order: tuple[str, ...]) -> None:
    code, out, err = run(capsys, "import", *map(published, order), "--name", "malice")
    assert code == 0, err
    assert out.count("agree with") == len(order)
    card = models.load("malice")
    assert list(card.modalities) == [sensor for sensor in ("s2", "s1") if sensor in order]
    assert card.licence == "AGPL-3.0-only"
    assert card.provenance["s1_sha256"] == hashlib.sha256(published("s1").read_bytes()).hexdigest()
    assert [path.name for path in store.iterdir()] == ["malice"]
    assert run(capsys, "verify", "malice")[0] == 0


def test_statistics_are_the_published_ones(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = published("s2").parents[1] / "spec" / "stats.json"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    for sensor, wanted in json.loads(path.read_text())["malice"].items():
        ours = importing.modelwriter.MALICE[sensor]
        assert list(ours.channels) == wanted["bands"]
        assert ours.transform == wanted.get("transform", "none")
        for key in ("med", "qmin", "qmax"):
            assert list(getattr(ours, key)) == wanted[key]


def test_import_refuses_and_leaves_nothing(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    s1 = published("s1")
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"PK\x03\x04")
    assert "model.ckpt" in refused(capsys, "import", checkpoint, "--name", "malice")
    assert "give one of both" in refused(capsys, "import", s1, s1, "--name", "malice")
    assert "none.onnx" in refused(capsys, "import", tmp_path / "none.onnx", "--name", "malice")
    assert "not usable" in refused(capsys, "import", s1, "--name", "../malice")
    with monkeypatch.context() as patch:
        patch.setattr(agreement, "rounding", lambda *_: 1e-9)
        assert "malice_s1.onnx: the graphs" in refused(capsys, "import", s1, "--name", "malice")
    assert not store.exists() or not list(store.iterdir())

    write_random_model(store, "malice", ("s1",))
    before = models.load("malice").identity
    assert "--overwrite" in refused(capsys, "import", s1, "--name", "malice")
    assert models.load("malice").identity == before
    assert run(capsys, "import", s1, "--name", "malice", "--overwrite")[0] == 0
    assert models.load("malice").identity != before
    assert [path.name for path in store.iterdir()] == ["malice"]


def test_a_store_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "file"))
    assert "cannot write models to" in refused(capsys, "import", published("s1"), "--name", "malice")


class Server(http.server.BaseHTTPRequestHandler):
    """Serves ``content`` by path; a path that ends in ``/short`` breaks off."""

    content: dict[str, bytes] = {}  # noqa: RUF012  filled by the fixture

    def do_GET(self) -> None:
        body = self.content.get(self.path.removesuffix("/short"))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # The client hangs up on a file that is too large.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body[: len(body) // 2] if self.path.endswith("/short") else body)

    def log_message(self, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[str]:
    Server.content = {f"/{sensor}": published(sensor).read_bytes() for sensor in ("s2", "s1")}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}"
        one.shutdown()


def register(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    """Points the registry's entry at other addresses; the pinned hashes stay."""
    whole = importing.REGISTRY["malice"]
    files = tuple(known.Remote(url, f.file, f.sha256) for url, f in zip(urls, whole.files, strict=True))
    entry = known.Known(whole.title, whole.licence, whole.source, files)
    monkeypatch.setattr(importing, "REGISTRY", {"malice": entry})


def test_install(store: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    register(monkeypatch, f"{server}/s2", f"{server}/s1")
    code, out, err = run(capsys, "install", "malice")
    assert code == 0, err
    assert out.index("AGPL-3.0-only") < out.index("bytes, sha256")
    card = models.load("malice")
    assert list(card.modalities) == ["s2", "s1"]
    assert "openeo_malice at 4176244" in card.provenance["source"]
    assert "--overwrite" in refused(capsys, "install", "malice")


def test_install_refuses_what_is_not_pinned(
    store: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*urls: str) -> str:
        register(monkeypatch, *urls)
        line = refused(capsys, "install", "malice")
        assert line.startswith(("http", "malice"))
        assert "models import malice_s2.onnx malice_s1.onnx --name malice" in line
        assert not store.exists() or not list(store.iterdir())
        return line

    assert "not the pinned file" in fails(f"{server}/s1", f"{server}/s2")
    assert "404" in fails(f"{server}/s2", f"{server}/nothing")
    assert f"{server}/s2/short" in fails(f"{server}/s2/short", f"{server}/s1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in fails(f"http://127.0.0.1:{port}/s2", f"{server}/s1")
    monkeypatch.setattr(importing.published, "MAX_BYTES", 1000)
    assert "larger than" in fails(f"{server}/s2", f"{server}/s1")


def test_only_known_models_are_installed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not known" in refused(capsys, "install", "other")


def test_works_without_torch(tmp_path: Path) -> None:
    """Every module outside training imports, and a model is imported and verified, where torch cannot be."""
    training = {"export", "pretrain", "finetune"}
    names = sorted(path.stem for path in (CODE / "malice_core").glob("*.py") if path.stem not in training)
    commands = [f"import malice_core.{name}" for name in names if not name.startswith("_")]
    script = "\n".join(
        [
            "import sys",
            "sys.modules['torch'] = None  # import torch raises ImportError",
            *commands,
            "from malice_core import models",
            "from helpers_models import write_random_model",
            "from pathlib import Path",
            f"write_random_model(Path({str(tmp_path)!r}), sensors=('s1',))",
            "assert models.main(['verify', 'tiny']) == 0",
        ]
    )
    environment = {**os.environ, "MALICE_MODELS": str(tmp_path), "PYTHONPATH": f"{CODE}{os.pathsep}{CODE / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is good" in done.stdout


def test_import_works_without_torch(tmp_path: Path) -> None:
    arguments = ["import", str(published("s2")), str(published("s1")), "--name", "malice"]
    script = (
        f"import sys; sys.modules['torch'] = None; from malice_core import models; sys.exit(models.main({arguments}))"
    )
    environment = {**os.environ, "MALICE_MODELS": str(tmp_path), "PYTHONPATH": str(CODE)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert cards.read(tmp_path / "malice").name == "malice"


def test_remove_deletes_one_model_and_says_which_is_left(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MALICE_MODELS", f"{store}{os.pathsep}{tmp_path / 'second'}")
    write_random_model(store, sensors=("s1",))
    write_random_model(store, "other", sensors=("s1",))
    write_random_model(tmp_path / "second", sensors=("s1",), seed=1)
    second = cards.read(tmp_path / "second" / "tiny").identity
    code, out, _ = run(capsys, "remove", "tiny")
    assert code == 0
    assert out == f"model tiny was removed from {store}; model tiny is that of {tmp_path / 'second' / 'tiny'} now\n"
    assert [path.name for path in store.iterdir()] == ["other"]
    assert models.load("tiny").identity == second
    assert "removed" in run(capsys, "remove", "tiny")[1]
    assert "tiny is not installed (installed: " in refused(capsys, "remove", "tiny")


def test_remove_refuses_what_is_not_the_users(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "ships with this installation" in refused(capsys, "remove", "malice-sim")
    assert (CODE / "models" / "malice-sim" / cards.FILE_NAME).is_file()
    write_random_model(store, sensors=("s1",))
    (store / "tiny" / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(capsys, "remove", "tiny")
    (store / "tiny" / "notes.txt").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: Path(path) != store)
        assert f"{store} cannot be written to" in refused(capsys, "remove", "tiny")
    assert models.load("tiny")
    # A damaged card is no obstacle.
    (store / "tiny" / cards.FILE_NAME).write_text("{}")
    assert run(capsys, "remove", "tiny")[0] == 0
    assert list(store.iterdir()) == []
    # Of a linked model the link goes, the model stays.
    write_random_model(tmp_path / "far", sensors=("s1",))
    (store / "tiny").symlink_to(tmp_path / "far" / "tiny")
    assert run(capsys, "remove", "tiny")[0] == 0
    assert (tmp_path / "far" / "tiny" / cards.FILE_NAME).is_file()


def test_list_tells_size_and_what_is_damaged_or_known(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = write_random_model(store, sensors=("s1",))
    files = list((store / "tiny").iterdir())
    path = card.graph_path("s1", "spatial")
    for whole in (True, False):
        told = json.loads(run(capsys, "list", "--json", "--check")[1])
        (mine,) = [one for one in told["models"] if one["name"] == "tiny"]
        assert mine["whole"] == whole
        assert mine["bytes"] == sum(file.stat().st_size for file in files)
        assert mine["removable"]
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert not any(one["removable"] for one in told["models"] if one["name"].startswith("malice-"))
    assert told["known"]["malice"]["licence"] == "AGPL-3.0-only"
    assert "damaged: import it again" in run(capsys, "list", "--check")[1]


def events(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_commands_talk_in_events(
    store: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch, f"{server}/s2", f"{server}/s1")
    code, out, err = run(capsys, "install", "malice", "--progress", "json")
    assert code == 0, err
    kinds = [event["event"] for event in events(out)]
    assert kinds[0] == "note"
    assert kinds[-1] == "done"
    assert {"downloading malice_s2.onnx"} <= {event["step"] for event in events(out) if event["event"] == "progress"}
    assert any("AGPL-3.0-only" in event["message"] for event in events(out) if event["event"] == "note")
    (plan, done) = events(run(capsys, "list", "--progress", "json")[1])
    assert [one["name"] for one in plan["plan"]["models"]][:1] == ["malice"]
    assert done["event"] == "done"
    (told, _) = events(run(capsys, "info", "malice", "--progress", "json")[1])
    assert told["plan"]["identity"] == models.load("malice").identity
    code, out, _ = run(capsys, "remove", "other", "--progress", "json")
    assert code == 2
    assert events(out)[-1]["event"] == "error"


def test_a_cancelled_install_leaves_nothing(
    store: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    register(monkeypatch, f"{server}/s2", f"{server}/s1")
    cancel = Cancel()
    reporter = Recorder()
    reporter.note = lambda message: cancel.set() if "sha256 as pinned" in message else None  # type: ignore[method-assign]
    options = models.parser().parse_args(["install", "malice"])
    with pytest.raises(Cancelled):
        options.run(options, reporter, cancel)
    assert not store.exists()


def test_what_a_killed_import_left_goes_with_the_next(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, age in ((".malice.old.x", 30), (".malice.new", 1), (".other.x", 30)):
        (store / name).mkdir(parents=True)
        then = time.time() - 3600 * age
        os.utime(store / name, (then, then))
    assert run(capsys, "import", published("s1"), "--name", "malice")[0] == 0
    assert sorted(path.name for path in store.iterdir()) == [".malice.new", ".other.x", "malice"]
