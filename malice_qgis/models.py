"""The models the engine has installed, asked for in the background so that neither start-up nor dialogs wait."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable

from qgis.PyQt.QtCore import QCoreApplication, QProcess, QThread

from . import engine, events
from .texts import tr

#: The published model, proposed wherever it is installed.
PUBLISHED = "malice"
#: Seconds after which a dialog that is opened starts another look (for the next one).
FRESH = 20.0


@dataclass(frozen=True)
class Card:
    """What a dialog says of a model.

    Attributes:
        demo: for trying out only.
        line: name, what it needs, title, licence.
    """

    name: str
    demo: bool
    line: str

    @classmethod
    def of(cls, told: dict[str, Any]) -> Card:
        """From a card of ``models list --json``; what is missing or of another shape is left out."""
        needs = []
        modalities = told.get("modalities")
        for key, modality in modalities.items() if isinstance(modalities, dict) else ():
            channels = events.texts(modality, "channels") if isinstance(modality, dict) else []
            # A channel such as VH/VV is computed from others, nobody has to bring it.
            needs.append(f"{str(key).upper()} ({' '.join(one for one in channels if '/' not in one)})")
        name, title, licence = (events.text(told, key) for key in ("name", "title", "licence"))
        line = f"{name}: {', '.join(needs)}. {title}. {tr('Licence')}: {licence}"
        return cls(name, "demo" in events.texts(told, "tags"), line)


class InstalledModels:
    """What ``malice_core.models list`` said last; empty until the engine has answered, and in qgis_process."""

    def __init__(self) -> None:
        self.cards: list[Card] = []
        self._changed: Callable[[], Any] | None = None
        self._process: QProcess | None = None
        self._asked = 0.0

    @property
    def names(self) -> list[str]:
        return [card.name for card in self.cards]

    def default(self) -> str:
        """The model a new dialog proposes: the published one, else one made for real work, else one for trying out.

        "" where nothing is known: the engine then chooses by the same rule.
        """
        serious = [card.name for card in self.cards if not card.demo]
        return PUBLISHED if PUBLISHED in serious else next(iter([*serious, *self.names]), "")

    def watch(self, changed: Callable[[], Any]) -> None:
        """Starts looking, in an application with an event loop; ``changed`` is called when the list is another."""
        self._changed = changed
        self.refresh()

    def stop(self) -> None:
        """Ends a look that is under way."""
        self._changed = None
        process, self._process = self._process, None
        if process is not None:
            process.finished.disconnect(self._finished)
            process.errorOccurred.disconnect(self._failed)
            process.kill()
            process.waitForFinished(1000)

    def refresh(self) -> None:
        """Starts a look if nobody else has lately and somebody watches."""
        # A look from the thread of a run, which has no event loop, would never end.
        application = QCoreApplication.instance()
        if application is None or QThread.currentThread() != application.thread():
            return
        recent = time.monotonic() - self._asked < FRESH and self._asked
        if self._changed is None or self._process is not None or recent:
            return
        try:
            python = engine.find()
        except engine.EngineError:
            return
        self._asked = time.monotonic()
        self._process = QProcess()
        self._process.setProcessEnvironment(engine.environment())
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._process.start(python, engine.command("malice_core.models", "list", "--json"))

    def _failed(self, error: QProcess.ProcessError) -> None:
        # Of the errors, this one alone is not followed by ``finished``.
        if error == QProcess.ProcessError.FailedToStart:
            self._finished()

    def _finished(self, *_: Any) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        answer = events.event_of(bytes(process.readAllStandardOutput()).decode("utf-8", "replace").strip())
        process.deleteLater()
        told = (answer or {}).get("models")
        found = [Card.of(one) for one in told if isinstance(one, dict)] if isinstance(told, list) else []
        cards = [card for card in found if card.name]
        if cards != self.cards:
            self.cards = cards
            if self._changed is not None:
                self._changed()

    def describe(self) -> list[str]:
        """One line a model: name, what it needs, title, licence."""
        return [card.line for card in self.cards]


INSTALLED = InstalledModels()
