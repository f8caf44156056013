"""What to do where memory does not suffice: the same job in a fresh process with half the batch."""

from __future__ import annotations

from typing import TypeVar

from tui_pruner.engine.protocol import Message
from tui_pruner.errors import PrunerError

Parameters = TypeVar("Parameters", bound=Message)
NO_MEMORY = ("not enough memory", "out of memory")


def with_half_the_batch(parameters: Parameters, error: PrunerError) -> Parameters | None:
    """The job to try next after one that ended so; None where it had no batch to halve, or ended for another reason.

    What a broken-off training has already is not trained again.
    """
    batch = getattr(parameters, "batch", 1)
    if batch <= 1 or not any(words in str(error) for words in NO_MEMORY):
        return None
    resumes = {"resume": True} if hasattr(parameters, "resume") else {}
    return parameters.model_copy(update={"batch": batch // 2, **resumes})


def smaller_batch(before: Message, after: Message) -> str:
    """What is said of it."""
    return f"not enough memory for batches of {getattr(before, 'batch', 1)}: trying {getattr(after, 'batch', 1)}"
