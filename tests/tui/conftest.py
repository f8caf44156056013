"""A tiny real checkpoint, and the app on it with the real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import ultralytics  # noqa: F401  # its log handler keeps the stdout of anyone who imports it first, which must not be one test's

from tests.tui.helpers import Desk, until
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.opening import Opening

Start = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLOv8n with three classes and random weights, saved by Ultralytics itself."""
    import torch
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    path = tmp_path_factory.mktemp("tiny") / "tiny.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = YOLO("yolov8n.yaml")
        model.model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.save(path)
    return path


@pytest.fixture
def start(tiny_checkpoint: Path) -> Start:
    """Starts the app on the tiny checkpoint, or on another opening, and waits for the model unless told not to."""

    @asynccontextmanager
    async def starting(size: tuple[int, int] = (120, 40), opening: Opening | None = None, wait: bool = True) -> AsyncIterator[Desk]:
        app = PrunerApp(opening or Opening(str(tiny_checkpoint), imgsz=64))
        async with app.run_test(size=size, notifications=True) as pilot:
            desk = Desk(app, pilot)
            if wait:
                await until(pilot, lambda: desk.ready, "the model")
            yield desk

    return starting


Wait = Callable[[Desk], Awaitable[None]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_app(demo_checkpoint: Path) -> AsyncIterator[Desk]:
    """The app on the bundled checkpoint with one engine for all tests that leave it as they found it."""
    app = PrunerApp(Opening(str(demo_checkpoint)))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        desk = Desk(app, pilot)
        await until(pilot, lambda: desk.ready, "the model")
        yield desk


@pytest_asyncio.fixture(loop_scope="session")
async def desk(shared_app: Desk) -> Desk:
    """The shared app as it was at first: nothing explained, filtered, asked for or open."""
    await shared_app.calm()
    return shared_app
