"""Forwards that halt at a chosen application of a weight, so that all batches of a data set can stand at the same layer at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from tui_pruner.core.inputs import Given, Inputs, inputs_of
from tui_pruner.core.recovery.applications import Application, Applying, Parameters, Site


class Abandoned(BaseException):
    """Ends the thread of a forward that is not needed any more; no `except Exception` in a network's forward catches it."""


class Forward:
    """One batch on its way through a network, in a thread of its own of which only one runs at a time.

    It halts before the operation at a site, or after it where `after` is set; what it has computed so far stays alive while it halts.
    """

    def __init__(self, network: nn.Module, parameters: Parameters, batch: Callable[[], Inputs], after: bool) -> None:
        self._network, self._parameters, self._batch, self._after = network, parameters, batch, after
        self._wanted: tuple[str, int, int] | None = None
        self._thread: threading.Thread | None = None
        self._go, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self._at: Application | None = None
        self._error: BaseException | None = None
        self._ending = False

    @property
    def under_way(self) -> bool:
        """Whether it halts somewhere."""
        return self._thread is not None

    def advance(self, site: tuple[str, int, int]) -> Application | None:
        """Run on to a site; None where the forward ends without it, after which the next call starts over."""
        self._wanted, self._at = site, None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
            self._thread.start()
        else:
            self._go.release()
        self._halted.acquire()
        if self._at is None:
            self._finish()
        return self._at

    def abandon(self) -> None:
        """Let go of everything that was computed; the next call of `advance` starts over."""
        if self._thread is None:
            return
        self._ending = True
        self._go.release()
        self._halted.acquire()
        self._at = None
        self._finish()

    def _finish(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread, self._ending = None, False
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        before, after = (self._pass, self._halt) if self._after else (self._halt, self._pass)
        try:
            with torch.no_grad(), Applying(self._parameters, before, after):
                self._batch().run(self._network)
        except Abandoned:
            pass
        except BaseException as error:
            self._error = error
        self._halted.release()

    def _halt(self, application: Application) -> None:
        if application.site != self._wanted:
            return
        self._at = application
        self._halted.release()
        del application
        self._go.acquire()
        if self._ending:
            raise Abandoned

    def _pass(self, application: Application) -> None:
        return


class Lockstep:
    """The forwards of all batches through one network, advanced together.

    As many as `room` bytes of activations allow stay halted at a layer, by what one image keeps alive there; the others start over for the
    next one.
    """

    def __init__(self, network: nn.Module, batches: Sequence[Given], room: int, after: bool = False) -> None:
        parameters = Parameters(network)
        device = next(network.parameters()).device
        self._forwards = [
            Forward(network, parameters, lambda number=number: inputs_of(batches[number]).to(device), after)  # type: ignore[misc]
            for number in range(len(batches))
        ]
        self._room = room // max((len(inputs_of(batch)) for batch in batches), default=1)

    def at(self, site: Site) -> Iterator[Application | None]:
        """Every batch's application at a site, in the order of the batches, each to be used before the next is asked for."""
        halting = self._room // max(site.alive, 1)
        for number, forward in enumerate(self._forwards):
            yield forward.advance(site.key)
            if number >= halting:
                forward.abandon()

    def restart(self) -> None:
        """Let all forwards start over, since a weight that they have passed has changed."""
        for forward in self._forwards:
            forward.abandon()

    close = restart
