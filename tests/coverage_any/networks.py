"""The networks of torchvision, and of timm one a family where it is installed, by name; built with random weights whose signal is alive."""

from __future__ import annotations

import importlib.util
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from tests.bench.sandbox import ROOT
from tui_pruner.frameworks.plain.adapters import forward_of

SIDE = 64
SIDES = {"inception_v3": 128, "maxvit_t": 224, "vit_h_14": 56, "ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
TIMM_SIDE = 128
SMALL_NAMES = ("atto", "femto", "pico", "nano", "micro", "mini", "xxs", "xx_small", "xs", "x_small", "tiny", "_t0", "_s", "small", "b0")
BATCH = 8


@dataclass(frozen=True)
class PublicNetwork:
    """Where a network is from ("classification", "segmentation", "detection", "timm"), and its name there."""

    kind: str
    name: str

    @property
    def key(self) -> str:
        """What its results are kept under."""
        return f"{self.kind}/{self.name}"


def networks() -> list[PublicNetwork]:
    """All of them, the smallest of each source first; timm's last."""
    models = torchvision.models
    places = {"classification": models, "segmentation": models.segmentation, "detection": models.detection}
    found = [PublicNetwork(kind, name) for kind, place in places.items() for name in sorted(models.list_models(place), key=parameters)]
    return [*found, *timm_networks()]


def parameters(name: str) -> int:
    """How many parameters a network of torchvision has, as its weights say."""
    return int(max(weights.meta["num_params"] for weights in torchvision.models.get_model_weights(name)))


def timm_networks() -> list[PublicNetwork]:
    """One network a family of timm, a small one by its name, the smallest first; none where timm is not installed."""
    if importlib.util.find_spec("timm") is None:
        return []
    import timm

    file = ROOT / "build" / f"timm-{timm.__version__}.json"
    if not file.exists():
        families = {family: timm.list_models(module=family) for family in timm.list_modules()}
        found = sorted((min(names, key=smallness) for names in families.values() if names), key=weight)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found), encoding="utf-8")
    return [PublicNetwork("timm", name) for name in json.loads(file.read_text(encoding="utf-8"))]


def weight(name: str) -> float:
    """How many parameters a network of timm has; without end where it cannot be built without values."""
    import timm

    try:
        with torch.device("meta"):
            return float(sum(parameter.numel() for parameter in timm.create_model(name, pretrained=False).parameters()))
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return float("inf")


def smallness(name: str) -> tuple[int, int, str]:
    """Orders the models of a family by what their names say of their size."""
    rank = next((number for number, word in enumerate(SMALL_NAMES) if word in name), len(SMALL_NAMES))
    return rank, len(name), name


class Followed(nn.Module):
    """A detector whose forward is what the program follows of it, for those who call modules."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor) -> Any:
        """Images to the heads' predictions."""
        return run(self.detector, x)


def run(network: nn.Module, images: Tensor) -> Any:
    """What a network predicts for images; of a detector all that comes before boxes are looked for by their values."""
    follow = forward_of(network)
    return network(images) if follow is None else follow(network, images)


def built(network: PublicNetwork) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode with an image for it; the same weights every time."""
    torch.manual_seed(0)
    model, side = made(network)
    settle(model, side)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    return model.eval(), image


def made(network: PublicNetwork) -> tuple[nn.Module, int]:
    """A network, and the side of the square image that it reads."""
    if network.kind == "timm":
        return made_by_timm(network.name)
    build: Callable[..., nn.Module] = torchvision.models.get_model_builder(network.name)
    side = SIDES.get(network.name, SIDE)
    if network.kind == "classification":
        own: dict[str, Any] = {"image_size": side} if network.name.startswith("vit_") else {}
        own |= {"init_weights": False} if network.name in ("googlenet", "inception_v3") else {}  # minutes of SciPy's truncated normal
        return build(weights=None, **own), side
    model = build(weights=None, weights_backbone=None)
    return model, side


def made_by_timm(name: str) -> tuple[nn.Module, int]:
    """A network of timm, at its own side where no other is allowed."""
    import timm

    model = timm.create_model(name, pretrained=False)
    known = model.pretrained_cfg
    wanted = known.get("input_size", (3, 224, 224))[-1]
    small = not known.get("fixed_input_size") and wanted > TIMM_SIDE and runs_at(model, TIMM_SIDE)
    return model, TIMM_SIDE if small else wanted


def runs_at(model: nn.Module, side: int) -> bool:
    """Whether a network takes images of this side."""
    try:
        with torch.no_grad():
            model.eval()(torch.rand(1, 3, side, side))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def settle(model: nn.Module, side: int) -> None:
    """Have the statistics of batch norms fit random images, and scales that begin near zero at one: else a cut would move nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim and float(parameter.abs().max()) < 1e-3 and "bias" not in name:
                parameter.uniform_(0.5, 1.5)  # all alike, a head would sum what a layer norm made zero on average
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = None
    with torch.no_grad():
        run(model, torch.rand(BATCH, 3, side, side))


def told(output: Any) -> list[Tensor]:
    """The tensors that a network returns."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, (dict, OrderedDict)) else output if isinstance(output, (list, tuple)) else ()
    return [tensor for part in parts for tensor in told(part)]
