"""Takes secrets out of texts that users show to others: passwords, tokens, and the name of their home folder."""

from __future__ import annotations

import os
import re

#: What stands before the last @ of an address: a password may have one as well.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s\"']+@")
#: Names that end or begin so, with = or : and a value, in quotes of any kind or none; options of a command line.
_NAMED = re.compile(
    r"(?i)\b([\w.-]*(?:password|passwd|passphrase|pwd|token|secret|api[_-]?key|access[_-]?key|credential|signature|"
    r"userpwd|authcfg)[\w.-]*|sig|key)(\\?[\"']?\s*[=:]\s*|\s+)"
    # In quotes (also those of json in json) to their end, or to that of the line where they were cut off.
    r"(\"(?:[^\"\\\r\n]|\\.)*\"?|'(?:[^'\\\r\n]|\\.)*'?|\\\"[^\"\\\r\n]*(?:\\\")?|[^\s\"'&;]+)"
)
_HEADER = re.compile(r"(?i)\b(authorization|proxy-authorization|cookie)(\s*[=:]\s*)[^\r\n]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}")
HIDDEN = "***"


def redact(text: str, home: str | None = None) -> str:
    """``text`` without secrets; ``home``, by default the user's folder, becomes ``~``."""
    text = _CREDENTIALS.sub(HIDDEN + "@", text)
    text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    text = _NAMED.sub(_hide, text)
    folder = (os.path.expanduser("~") if home is None else home).rstrip("/\\")
    if len(folder) > 1:
        # Windows' paths come with either slash, in either case, and doubled in json.
        parts = [re.escape(part) for part in re.split(r"[/\\]+", folder)]
        told = r"(?:/|\\\\|\\)".join(parts)
        flags = re.IGNORECASE if "\\" in folder else 0
        text = re.sub(told + r"(?![\w.-])", "~", text, flags=flags)
    return text


def _hide(found: re.Match[str]) -> str:
    # "a token expired" is no secret: without a sign of assignment only options are.
    if not found[2].strip() and not found.string[: found.start()].endswith("--"):
        return found[0]
    begun, ended = (re.search(pattern, found[3]) for pattern in (r"^\\?[\"']", r"(?<=.)(?:\\?[\"']|,)$"))
    return f"{found[1]}{found[2]}{begun[0] if begun else ''}{HIDDEN}{ended[0] if ended else ''}"
