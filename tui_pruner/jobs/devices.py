"""The devices that jobs run on: those asked for by Ultralytics' names, or the first GPU where there is one."""

from __future__ import annotations

from tui_pruner.errors import RequestError


def choose_device(asked: str) -> str:
    """The one device to run on, as torch names it.

    Raises:
        RequestError: it is not there, or several were asked for.
    """
    found = chosen_devices(asked)
    if len(found) > 1:
        raise RequestError(f"{asked!r} names {len(found)} devices, but this runs on one of them: give --device {found[0]}, for example")
    return found[0]


def chosen_devices(asked: str) -> list[str]:
    """All devices that "cuda:1", "0,1" or "cpu" name; the first GPU where nothing is asked for and there is one, else the CPU.

    Raises:
        RequestError: one of them is not there.
    """
    import torch
    from ultralytics.utils.torch_utils import parse_device, select_device

    if not asked:
        return ["cuda:0" if torch.cuda.is_available() else "cpu"]
    try:
        wanted = parse_device(asked)
        first = str(select_device(wanted, verbose=False))
    except (ValueError, RuntimeError, AssertionError):
        raise not_there(asked) from None
    if first == "cpu" and wanted not in ("cpu", ""):  # Ultralytics falls back to the CPU where Apple's GPU is asked for and not there
        raise not_there(asked)
    return [f"cuda:{number}" for number in dict.fromkeys(wanted.split(","))] if "," in wanted else [first]


def not_there(asked: str) -> RequestError:
    """What is said of a device that torch does not see."""
    import torch

    count = torch.cuda.device_count()
    known = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
    return RequestError(f"there is no device {asked!r} here: the devices are {known}")


def device_name(device: str) -> str:
    """The device with the model of its processor, for a GPU."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device
