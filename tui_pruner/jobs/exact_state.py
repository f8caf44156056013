"""What a training needs to go on as if it had never stopped: Ultralytics' own checkpoint has half precision and no random state.

Where every batch is an update, an interrupted training comes to the same weights, to the bit, as one that was not interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

PATTERN = "exact-*.pt"


def file_of(folder: Path, epoch: int) -> Path:
    """Return the file of an epoch, counted from 0, beside Ultralytics' checkpoints."""
    return folder / f"exact-{epoch}.pt"


class ExactState:
    """Callbacks of a trainer that seed each epoch by its number and load full precision where it goes on; pickled for several GPUs."""

    def attach(self, trainer: Any) -> None:
        """Follow a trainer."""
        for event in ("on_pretrain_routine_end", "on_train_epoch_start"):
            trainer.add_callback(event, getattr(self, event))

    def on_pretrain_routine_end(self, trainer: Any) -> None:
        """Load the state of the epoch before, where there is one."""
        import torch

        file = file_of(trainer.wdir, trainer.start_epoch - 1)
        if trainer.start_epoch == 0 or not file.exists():
            return
        state = torch.load(file, map_location="cpu", weights_only=True)
        network_of(trainer).load_state_dict(state["model"])
        if trainer.ema and state["ema"]:
            trainer.ema.ema.load_state_dict(state["ema"])
        trainer.optimizer.load_state_dict(state["optimizer"])

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Seed everything that draws numbers, the workers that read images too, and have these begin anew."""
        import random

        import numpy as np
        import torch

        seed = int(trainer.args.seed) + trainer.epoch
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        loader = trainer.train_loader
        if trainer.world_size > 1 or not hasattr(loader, "reset"):
            return
        loader.generator.manual_seed(seed)
        loader.reset()
        forget_images(loader.dataset)


def forget_images(dataset: Any) -> None:
    """Empty what a data set keeps of images for mosaics, as in a fresh one: the list of them, and themselves.

    An image that stayed without being listed would never be listed again, and a mosaic of none cannot be made.
    """
    listed = getattr(dataset, "buffer", None)
    if not isinstance(listed, list) or getattr(dataset, "cache", None) == "ram":
        return
    while listed:
        index = listed.pop()
        dataset.ims[index] = dataset.im_hw0[index] = dataset.im_hw[index] = None


def keep(trainer: Any) -> None:
    """Write the state after an epoch, whole or not at all; the files of earlier epochs go once Ultralytics' checkpoint is this one's."""
    import torch

    state = {
        "model": network_of(trainer).state_dict(),
        "ema": trainer.ema.ema.state_dict() if trainer.ema else None,
        "optimizer": trainer.optimizer.state_dict(),
    }
    file = file_of(trainer.wdir, trainer.epoch)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".writing-{file.name}")
    try:
        torch.save(state, temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def forget_others(folder: Path, epoch: int) -> None:
    """Remove the states of other epochs than this one."""
    for file in folder.glob(PATTERN):
        if file != file_of(folder, epoch):
            file.unlink(missing_ok=True)


def network_of(trainer: Any) -> Any:
    """Return the network that a trainer trains, out of what wraps it for several GPUs."""
    return getattr(trainer.model, "module", trainer.model)
