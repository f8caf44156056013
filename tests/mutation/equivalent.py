"""Changes that alter nothing that anyone could see, each with the reason; by module and change."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {}
