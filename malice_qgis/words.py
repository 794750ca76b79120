"""What the engine says of its command line, in words of a dialog: parameters by name, algorithms by title.

The engine knows nothing of QGIS: its sentences name options (``--max-cloud``) and command lines
(``python -m malice_core.models install malice``), which a dialog has not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from .algorithms.parameters import UNLIKE

#: An option, and not a part of a file's name: it stands alone between blanks, brackets, tags and marks.
_OPTION = re.compile(r"(?<![^\s(>])--[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?![\w/\\=-]|\.\w)")
#: A command line of the engine, likewise.
_COMMAND = re.compile(r"(?<![\w./\\-])(?:python -m )?malice_core\.(\w+)(?![\w/\\-]|\.\w)")
#: Sentences of which more than a word is another in a dialog, tried in this order. Braces hold titles of algorithms.
_SENTENCES = (
    (
        r"python -m malice_core\.models install malice, or import FILE… --name \S+, gets one",
        "{models}, ACTION install or import, gets one",
    ),
    (r"python -m malice_core\.models import (.+) --name (\S+)", r"{models}, ACTION import, FILES \1, NAME \2"),
    (r"python -m malice_core\.models install malice\b( gets)?", r"{models}, ACTION install\1"),
    (r"; python -m malice_core\.\w+ --help lists the options", ""),
    (r"pip install 'malice-core\[\w+\]'", "{setup}, ACTION repair"),
    (r"fewer dates with --max-dates", "fewer dates with --dates"),
    (r"choose one orbit with --s1-orbit", "give images of one orbit"),
    (r"consider --s1-orbit or --max-dates", "consider images of one orbit, or fewer dates"),
    (r"consider --max-cloud or --max-dates", "consider a smaller --max-cloud, or fewer dates"),
    (r"; say which one with --s2-offset", ": correct them"),
    (r"(?<=give )(--s2-offset -?\d+)", r"\1 to the engine in a terminal"),
    (r"(?<=choose )(--runtime \w+)", r"\1 in a terminal"),
    (r"needs --runtime openvino", "needs OpenVINO"),
    (r" \(or --block, where there is one\)", ""),
)


class Words:
    """The words of one algorithm.

    Args:
        names: of its parameters.
        titles: of all algorithms, as the toolbox shows them, by name.
    """

    def __init__(self, names: Iterable[str] = (), titles: Mapping[str, str] | None = None) -> None:
        self._titles = titles or {}
        self._names = {**{f"--{name.lower().replace('_', '-')}": name for name in names}, **UNLIKE}
        self._sentences = [
            (re.compile(pattern), re.sub(r"\{(\w+)\}", lambda found: self._title(found[1]), words))
            for pattern, words in _SENTENCES
        ]

    def of(self, text: str, kept: Iterable[str] = ()) -> str:
        """A text of the engine in words of the dialog.

        Args:
            kept: names of files, no part of which is an option, whatever it looks like.
        """
        names = sorted({one for one in kept if "--" in one or "malice_core." in one}, key=len, reverse=True)
        if not names:
            return self._put(text)
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text)
        # The names stand at odd places, what is around them at even ones.
        return "".join(part if place % 2 else self._put(part) for place, part in enumerate(parts))

    def _put(self, text: str) -> str:
        for pattern, words in self._sentences:
            text = pattern.sub(words, text)
        text = _COMMAND.sub(lambda found: self._title(found[1]) if found[1] in self._titles else found[0], text)
        return _OPTION.sub(lambda found: self._names.get(found[0], found[0]), text)

    def _title(self, name: str) -> str:
        """An algorithm as the toolbox shows it, and as scripts call it."""
        return f"{self._titles[name]} (malice:{name})" if name in self._titles else f"malice:{name}"
