"""The pretended GPU refuses what CUDA refuses, allows what it allows, and computes what the CPU computes."""

from __future__ import annotations

import copy
import io
import os
import re
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from tests.gpu.device import MIB, Machine
from tests.gpu.pretending import pretended_gpus

TWO = "Expected all tensors to be on the same device, but found at least two devices"
INDICES = "indices should be either on cpu or on the same device as the indexed tensor"


def on_gpu(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device="cuda:0")


REFUSED = {
    "an addition of two places": (lambda: on_gpu(3) + torch.ones(3), TWO),
    "two GPUs": (lambda: on_gpu(3) + on_gpu(3).to("cuda:1"), TWO),
    "numbers of two GPUs": (lambda: on_gpu() + on_gpu().to("cuda:1"), TWO),
    "a number of a GPU for the CPU": (lambda: torch.ones(3) * on_gpu(), TWO),
    "a sum into the CPU": (lambda: torch.ones(()).add_(on_gpu()), TWO),
    "a list of two places": (lambda: torch.cat([on_gpu(1), torch.ones(1)]), TWO),
    "a product with a number on the CPU": (lambda: torch.cat([on_gpu(1)[0], torch.ones(())]), "at least two devices|zero-dimensional"),
    "weights on the CPU": (lambda: nn.Conv2d(1, 1, 1)(on_gpu(1, 1, 2, 2)), TWO),
    "an image on the CPU": (lambda: nn.Conv2d(1, 1, 1).cuda()(torch.ones(1, 1, 2, 2)), TWO),
    "numpy": (lambda: on_gpu(2).numpy(), "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"),
    "numpy's own way": (lambda: np.asarray(on_gpu(2)), "can't convert cuda:0 device type tensor to numpy"),
    "an index on a GPU into the CPU": (lambda: torch.ones(3)[torch.zeros(1, dtype=torch.long, device="cuda")], INDICES),
    "a mask on a GPU over the CPU": (lambda: torch.ones(3)[on_gpu(3) > 0], INDICES),
    "an index on another GPU": (lambda: on_gpu(3)[torch.zeros(1, dtype=torch.long, device="cuda:1")], INDICES),
    "values on the CPU for an index": (lambda: on_gpu(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)), TWO),
    "gather with an index on the CPU": (lambda: on_gpu(1, 3).gather(1, torch.zeros(1, 1, dtype=torch.long)), TWO),
    "a generator of the CPU": (lambda: torch.rand(2, device="cuda", generator=torch.Generator()), "'cuda:0' device type for generator"),
    "a generator of the CPU, in place": (lambda: on_gpu(2).normal_(generator=torch.Generator()), "'cuda:0' device type for generator"),
    "a generator of a GPU": (
        lambda: torch.rand(2, generator=torch.Generator("cuda")),
        "'cpu' device type for generator but found 'cuda:0'",
    ),
    "a generator of a GPU, in place": (lambda: torch.ones(2).normal_(generator=torch.Generator("cuda")), "'cpu' device type for gen"),
    "a generator of another GPU": (lambda: on_gpu(2).normal_(generator=torch.Generator("cuda:1")), "'cuda:0' device type for generator"),
    "pinned memory of a GPU": (lambda: on_gpu(2).pin_memory(), "cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"),
    "a GPU too many": (lambda: torch.zeros(2, device="cuda:2"), "invalid device ordinal"),
    "a gradient elsewhere": (lambda: setattr(on_gpu(2), "grad", torch.ones(2)), "assigned grad has data located on a different device"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operations_that_cuda_refuses_are_refused(name: str, gpus: Machine):
    attempt, words = REFUSED[name]
    with pytest.raises((RuntimeError, TypeError), match=words):
        attempt()


ALLOWED = {
    "a number on the CPU": (lambda: on_gpu(3) * torch.tensor(2.0), [2, 2, 2]),
    "a number on the CPU, in place": (lambda: on_gpu(3).add_(torch.tensor(2.0)), [3, 3, 3]),
    "an index on the CPU": (lambda: on_gpu(3)[torch.tensor([0, 2])], [1, 1]),
    "a mask on the CPU": (lambda: on_gpu(3)[torch.tensor([True, False, True])], [1, 1]),
    "a choice with a number": (lambda: torch.where(on_gpu(2) > 2, on_gpu(2), torch.tensor(7.0)), [7, 7]),
    "a fill with a number": (lambda: on_gpu(2).masked_fill(on_gpu(2) > 0, torch.tensor(4.0)), [4, 4]),
    "a copy from the CPU": (lambda: on_gpu(2).copy_(torch.tensor([1.0, 2.0])), [1, 2]),
    "a value at an index": (lambda: on_gpu(2).index_put_((torch.tensor([0]),), torch.tensor(5.0)), [5, 1]),
    "a shape changed in place": (lambda: on_gpu(1, 2).squeeze_(0).neg_(), [-1, -1]),
    "new beside another": (lambda: on_gpu(1).new_tensor([3.0]) + torch.zeros_like(on_gpu(1)), [3]),
    "type_as": (lambda: torch.ones(2, dtype=torch.long).type_as(on_gpu(1)), [1, 1]),
    "one hot": (lambda: nn.functional.one_hot(torch.tensor([1], device="cuda"), 2)[0], [0, 1]),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_operations_that_cuda_allows_stay_on_the_gpu(name: str, gpus: Machine):
    attempt, values = ALLOWED[name]
    found = attempt()
    assert (str(found.device), found.is_cuda, found.tolist()) == ("cuda:0", True, values)


def test_copy_to_the_cpu_is_on_the_cpu(gpus: Machine):
    target = torch.zeros(2)
    assert target.copy_(on_gpu(2)) is target and target.tolist() == [1, 1] and target.device.type == "cpu"
    assert on_gpu(2).sum().item() == 2.0 and int(on_gpu(1)) == 1
    assert on_gpu(2).cpu().numpy().tolist() == [1, 1] and on_gpu(2).numpy(force=True).tolist() == [1, 1]
    assert str(torch.zeros_like(on_gpu(2), device="cpu").device) == "cpu"
    assert str(torch.as_tensor(np.ones(2), device="cuda:1").device) == "cuda:1"


def test_gradients_equal_those_of_the_cpu_and_are_on_the_gpu(gpus: Machine):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 2, 1))
    twin = copy.deepcopy(network).to("cuda:1")
    image = torch.rand(2, 3, 8, 8)
    for one, given in ((network, image), (twin, image.to("cuda:1"))):
        one(given).square().mean().backward()
    for (name, mine), (_, other) in zip(network.named_parameters(), twin.named_parameters(), strict=True):
        assert str(other.grad.device) == "cuda:1" and torch.equal(mine.grad, other.grad.cpu()), name
    leaf = image.requires_grad_()
    leaf.to("cuda:0").sum().backward()
    assert leaf.grad is not None and leaf.grad.device.type == "cpu"


def test_module_keeps_its_parameters_when_moved_and_moved_back(gpus: Machine):
    module = nn.Linear(2, 2)
    before, tied = list(module.parameters()), nn.Sequential(module, nn.Linear(2, 2))
    tied[1].weight = module.weight
    assert all(now is then for now, then in zip(tied.cuda().parameters(), before))
    assert tied[1].weight is module.weight and all(isinstance(one, nn.Parameter) and one.is_cuda for one in before)
    twin = copy.deepcopy(tied)
    assert twin[1].weight is twin[0].weight and twin[0].weight.is_cuda and isinstance(twin[0].weight, nn.Parameter)
    assert type(tied.half().cpu().float()[0].weight) is nn.Parameter and module.weight is before[0]


def test_file_records_the_devices_of_its_tensors(gpus: Machine):
    content = io.BytesIO()
    torch.save({"one": nn.Linear(2, 2).to("cuda:1"), "two": torch.ones(3, device="cuda:0")}, content)
    places = {}
    for wanted in (None, "cpu", "cuda:0"):
        content.seek(0)
        found = torch.load(content, map_location=wanted, weights_only=False)
        places[wanted] = [str(found["one"].weight.device), str(found["two"].device)]
    assert places == {None: ["cuda:1", "cuda:0"], "cpu": ["cpu", "cpu"], "cuda:0": ["cuda:0", "cuda:0"]}
    content.seek(0)
    assert b"cuda:1" in zipfile.ZipFile(content).read("archive/data.pkl")


def test_file_with_gpu_tensors_is_refused_without_a_gpu():
    content = io.BytesIO()
    with pretended_gpus(1):
        torch.save(torch.ones(3, device="cuda"), content)
    content.seek(0)
    with pytest.raises(RuntimeError, match=r"Attempting to deserialize object on a CUDA device but torch[.]cuda[.]is_available"):
        torch.load(content)
    assert not torch.cuda.is_available() and torch.zeros(1).type() == "torch.FloatTensor"


def test_memory_is_counted_shared_by_views_freed_and_limited(gpus: Machine):
    device = gpus.devices[0]
    some = on_gpu(MIB)
    rows = some.view(2, -1)[1:]
    assert torch.cuda.memory_allocated() == device.allocated == 4 * MIB
    del some
    assert device.allocated == 4 * MIB
    del rows
    assert (device.allocated, torch.cuda.max_memory_allocated(), torch.cuda.memory_reserved()) == (0, 4 * MIB, 4 * MIB)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    assert (torch.cuda.memory_reserved(), torch.cuda.max_memory_allocated()) == (0, 0)
    device.total = 6 * MIB
    first = on_gpu(MIB)
    with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory[.] Tried to allocate 4[.]00 MiB"):
        on_gpu(MIB)
    assert device.allocated == first.nbytes and on_gpu(MIB // 4).shape == (MIB // 4,)


def test_scaler_and_autocast_train_in_half_precision(gpus: Machine):
    layer = nn.Linear(4, 4).cuda()
    optimizer, scaler = torch.optim.AdamW(layer.parameters(), fused=True), torch.amp.GradScaler("cuda")
    with torch.autocast("cuda"):
        out = layer(on_gpu(2, 4))
    assert out.dtype == torch.float16
    before = layer.weight.detach().clone()
    scaler.scale(out.float().mean()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 65536.0 and not torch.equal(layer.weight, before)


def test_script_runs_on_the_device_of_its_trace(gpus: Machine, tmp_path):
    torch.jit.trace(nn.Linear(2, 2).cuda(), on_gpu(1, 2)).save(str(tmp_path / "traced.pt"))
    script = torch.jit.load(str(tmp_path / "traced.pt"))
    assert script(on_gpu(1, 2)).is_cuda
    for wanted, given in ((None, torch.ones(1, 2)), ("cpu", torch.ones(1, 2)), ("cuda:1", on_gpu(1, 2))):
        with pytest.raises(RuntimeError, match=TWO):
            torch.jit.load(str(tmp_path / "traced.pt"), map_location=wanted)(given)


def test_forked_process_cannot_use_the_gpu(gpus: Machine):
    on_gpu(1)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            on_gpu(1)
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert re.match(b"Cannot re-initialize CUDA in forked subprocess", os.read(reading, 1000))
    os.close(reading)
    os.close(writing)


def test_device_queries_are_answered_like_on_a_real_machine(gpus: Machine):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 2 and torch.accelerator.current_accelerator().type == "cuda"
    assert torch.cuda.get_device_name("cuda:1") == torch.cuda.get_device_properties(1).name == "Pretended GPU"
    with torch.cuda.device(1):
        assert str(torch.zeros(1, device="cuda").device) == "cuda:1"
    torch.cuda.set_device("cuda:1")
    assert str(torch.ones(1).cuda().device) == "cuda:1" and torch.cuda.current_device() == 1
    torch.cuda.manual_seed_all(5)
    first = torch.rand(3, device="cuda:0")
    torch.cuda.manual_seed_all(5)
    assert torch.equal(torch.rand(3, device="cuda:0"), first)
