"""The models the engine has installed, asked for in the background so that neither start-up nor dialogs wait.

Only a run that begins waits for an answer, where there is none yet.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable

from qgis.PyQt.QtCore import QCoreApplication, QProcess, QThread

from . import engine, events, interrupts
from .texts import tr

#: The published model, proposed wherever it is installed.
PUBLISHED = "malice"
#: Seconds after which a dialog that is opened starts another look (for the next one).
FRESH = 20.0
#: Milliseconds an engine that is waited for may take to answer; its libraries are not imported for it.
ASKING = 15000
#: What the engine is asked.
LIST = ("malice_core.models", "list", "--json")


@dataclass(frozen=True)
class Card:
    """What a dialog says of a model.

    Attributes:
        demo: for trying out only.
        line: name, what it needs, title, licence.
        aux: needs weather, a DEM and angles besides images.
    """

    name: str
    demo: bool
    line: str
    aux: bool = False

    @classmethod
    def of(cls, told: dict[str, Any]) -> Card:
        """From a card of ``models list --json``; what is missing or of another shape is left out."""
        needs = []
        modalities = told.get("modalities")
        for key, modality in modalities.items() if isinstance(modalities, dict) else ():
            channels = events.texts(modality, "channels") if isinstance(modality, dict) else []
            # A channel such as VH/VV is computed from others, nobody has to bring it; those of angles are told below.
            bands = [one for one in channels if "/" not in one and not one.startswith(("cos_", "sin_"))]
            needs.append(f"{str(key).upper()} ({' '.join(bands)})")
        aux = isinstance(told.get("surroundings"), dict)
        needs += [besides()] if aux else []
        name, title, licence = (events.text(told, key) for key in ("name", "title", "licence"))
        line = f"{name}: {', '.join(needs)}. {title}. {tr('Licence')}: {licence}"
        return cls(name, "demo" in events.texts(told, "tags"), line, aux)


def besides() -> str:
    """What MALICE Aux needs besides images, as a dialog says it."""
    return tr("weather, DEM and angles")


def _cards(line: str) -> list[Card]:
    """The cards in an answer of ``models list --json``."""
    told = (events.event_of(line) or {}).get("models")
    found = [Card.of(one) for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return [card for card in found if card.name]


@dataclass(frozen=True)
class Offer:
    """A model that can be installed by name."""

    title: str
    licence: str


def _offers(line: str) -> dict[str, Offer]:
    """Those in an answer of ``models list --json``, by name."""
    told = (events.event_of(line) or {}).get("known")
    pairs = told.items() if isinstance(told, dict) else ()
    return {
        str(name): Offer(events.text(one, "title"), events.text(one, "licence"))
        for name, one in pairs
        if isinstance(one, dict)
    }


def _asked(python: str) -> str:
    """What an engine answers, asked now; "" if it does not: what is wrong with it a run will tell."""
    lines: deque[str] = deque(maxlen=1)
    process = engine.EngineProcess(python, engine.command(*LIST))
    try:
        process.run(lines.append, lambda _: None, interrupts.heard, ASKING)
    except engine.EngineError:
        return ""
    return lines[-1] if lines else ""


def _taken(cards: list[Card], name: str) -> Card | None:
    """The model of a name, for "" by the engine's rule; None where the engine would refuse, and says why itself."""
    serious = [card for card in cards if not card.demo]
    if not name and PUBLISHED not in [card.name for card in serious]:
        # Of several for trying out one that needs no more than images.
        return None if len(serious) > 1 else next(iter([*serious, *sorted(cards, key=lambda card: card.aux)]), None)
    return next((card for card in cards if card.name == (name or PUBLISHED)), None)


class InstalledModels:
    """What ``malice_core.models list`` said last.

    Attributes:
        cards: for dialogs; empty until the engine has answered, and in qgis_process.
    """

    def __init__(self) -> None:
        self.cards: list[Card] = []
        #: What an engine said when it was waited for, and when.
        self._answer: tuple[str, float, str] = ("", 0.0, "")
        self._changed: Callable[[], Any] | None = None
        #: The cards of which who watches was told last.
        self._shown: list[Card] = []
        self._process: QProcess | None = None
        self._asked = 0.0

    @property
    def names(self) -> list[str]:
        return [card.name for card in self.cards]

    def default(self) -> str:
        """The model a new dialog proposes: the one the engine takes where none is named.

        Of several made for real work, none of which is the published one, the engine takes none: the first of them. ""
        where nothing is known.
        """
        card = self.card("")
        return card.name if card else next((one.name for one in self.cards if not one.demo), "")

    def card(self, name: str) -> Card | None:
        """Of ``cards`` the one that a run with this name takes ("": with none), as :func:`_taken`."""
        return _taken(self.cards, name)

    def meant(self, name: str) -> Card | None:
        """As :meth:`card`, but waits for the engine, half a second or so, where it has not told of the model."""
        if self.cards and (not name or name in self.names):
            return self.card(name)
        return _taken(_cards(self._told()), name)

    def offers(self) -> dict[str, Offer]:
        """Models that can be installed by name; waits for the engine, half a second or so."""
        return _offers(self._told())

    def forget(self) -> None:
        """The engine, or its models, are others now: what it said before counts no more. In any thread."""
        self._answer, self._asked = ("", 0.0, ""), 0.0
        self.cards = []

    def _told(self) -> str:
        """What the engine says of its models, at most :data:`FRESH` seconds old; "" if it does not."""
        try:
            python = engine.find()
        except engine.EngineError:
            return ""
        asked, moment, told = self._answer
        if asked != python or time.monotonic() - moment > FRESH:
            told = _asked(python)
            self._answer = (python, time.monotonic(), told)
        return told

    def watch(self, changed: Callable[[], Any]) -> None:
        """Starts looking, in an application with an event loop; ``changed`` is called when the list is another."""
        self._changed, self._shown = changed, self.cards
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
            self._tell()
            return
        self._asked = time.monotonic()
        self._process = QProcess()
        self._process.setProcessEnvironment(engine.environment())
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._process.start(python, engine.command(*LIST))

    def _failed(self, error: QProcess.ProcessError) -> None:
        # Of the errors, this one alone is not followed by ``finished``.
        if error == QProcess.ProcessError.FailedToStart:
            self._finished()

    def _finished(self, *_: Any) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        cards = _cards(bytes(process.readAllStandardOutput()).decode("utf-8", "replace").strip())
        process.deleteLater()
        if not self._asked:
            # Forgotten while it was asked: this may be the engine of before.
            self.refresh()
            return
        self.cards = cards
        self._tell()

    def _tell(self) -> None:
        """Tells who watches, if the list is another than the one told last."""
        if self.cards != self._shown:
            self._shown = self.cards
            if self._changed is not None:
                self._changed()

    def describe(self) -> list[str]:
        """One line a model: name, what it needs, title, licence."""
        return [card.line for card in self.cards]


INSTALLED = InstalledModels()
