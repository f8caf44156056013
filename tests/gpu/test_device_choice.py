"""The choice among several GPUs: the first by default, any by name, one for each worker; missing ones are refused."""

from __future__ import annotations

import pytest

from tests.gpu.device import Machine
from tui_pruner.domain.errors import RequestError
from tui_pruner.jobs.scan import workers
from tui_pruner.jobs.tools import choose_device, chosen_devices, device_name
from tui_pruner.jobs.training import finetune


@pytest.mark.parametrize(
    ("asked", "found"), {"": "cuda:0", "cpu": "cpu", "0": "cuda:0", "1": "cuda:1", "cuda:1": "cuda:1", "cuda": "cuda:0"}.items()
)
def test_job_runs_on_the_requested_gpu_or_the_first_one(asked: str, found: str, gpus: Machine):
    assert choose_device(asked) == found
    assert device_name(found) == (f"{found} (Pretended GPU)" if found != "cpu" else found)


@pytest.mark.parametrize("asked", ["2", "cuda:2", "0,2", "mps", "nonsense"])
def test_missing_device_is_refused_with_the_list_of_devices(asked: str, gpus: Machine):
    with pytest.raises(RequestError, match=rf"no device '{asked}' here: the devices are cpu, cuda:0, cuda:1$"):
        chosen_devices(asked)


def test_several_devices_are_accepted_only_for_trainings_and_scans(gpus: Machine):
    assert chosen_devices("0,1") == chosen_devices("cuda:0,cuda:1") == ["cuda:0", "cuda:1"]
    with pytest.raises(RequestError, match=r"'0,1' names 2 devices, but this runs on one of them: give --device cuda:0, for example"):
        choose_device("0,1")
    assert workers.devices("", 3) == workers.devices("0,1", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert workers.devices("1", 2) == ["cuda:1", "cuda:1"]
    assert finetune.devices("1") == "cuda:1"
