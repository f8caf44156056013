"""Reading a child's messages: one JSON object a line, and what is none is skipped."""

from __future__ import annotations

import asyncio
import json
from typing import Any


async def next_line(stream: asyncio.StreamReader) -> bytes:
    """A line; empty at the end, and after a line beyond all limits, since such a stream cannot be followed any further."""
    try:
        return await stream.readline()
    except ValueError:
        return b""


def parse_message(line: bytes) -> dict[str, Any]:
    """A message, or an empty one for a line that is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
