"""Files of fits, which tools write with --save-fit and take with --fit: JSON that says whose it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from malice_core.errors import InputError


def content(path: Path, tool: str, schema: int) -> dict[str, Any]:
    """What a file of a fit holds.

    Args:
        tool: that must have written it.
        schema: of its content that is known.

    Raises:
        InputError: if it cannot be read, or is another tool's.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--fit: cannot read {path}: {error}") from error
    if not isinstance(found, dict) or found.get("tool") != tool or found.get("schema") != schema:
        raise InputError(f"--fit {path} is no fit of malice_core.{tool} of schema {schema}: write one with --save-fit")
    return found
