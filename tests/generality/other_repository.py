"""A detector as another repository lays it out: packages `models.common` and `models.yolo`, which the file that it saves names.

In the layout of YOLOv5's own repository: layers that say where they read from, and a head with anchors that keeps its grids between
forwards. Saved at half precision as a dictionary with the averaged weights beside the model.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

COMMON = """
import torch
from torch import nn

class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, bias=False)
        self.bn, self.act = nn.BatchNorm2d(c2), nn.SiLU()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))

class Bottleneck(nn.Module):
    def __init__(self, c, shortcut=True):
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c), Conv(c, c, 3), shortcut

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))

class C3(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__()
        c_ = c2 // 2
        self.cv1, self.cv2, self.cv3 = Conv(c1, c_), Conv(c1, c_), Conv(2 * c_, c2)
        self.m = nn.Sequential(*(Bottleneck(c_, shortcut) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))

class SPPF(nn.Module):
    def __init__(self, c1, c2):
        super().__init__()
        self.cv1, self.cv2, self.m = Conv(c1, c1 // 2), Conv(c1 * 2, c2), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.cv1(x)
        y = self.m(x)
        z = self.m(y)
        return self.cv2(torch.cat((x, y, z, self.m(z)), 1))

class Concat(nn.Module):
    def forward(self, x):
        return torch.cat(x, 1)
"""
YOLO = """
import torch
from torch import nn
from models.common import C3, Concat, Conv, SPPF

class Detect(nn.Module):
    stride = None

    def __init__(self, nc, anchors, ch):
        super().__init__()
        self.nc, self.no, self.nl, self.na = nc, nc + 5, len(anchors), len(anchors[0]) // 2
        self.grid = [torch.empty(0) for _ in range(self.nl)]
        self.anchor_grid = [torch.empty(0) for _ in range(self.nl)]
        self.register_buffer("anchors", torch.tensor(anchors).float().view(self.nl, -1, 2))
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in ch)
        self.inplace = True

    def forward(self, x):
        z = []
        for i in range(self.nl):
            x[i] = self.m[i](x[i])
            bs, _, ny, nx = x[i].shape
            x[i] = x[i].view(bs, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if not self.training:
                if self.grid[i].shape[2:4] != x[i].shape[2:4]:
                    self.grid[i], self.anchor_grid[i] = self._make_grid(nx, ny, i)
                xy, wh, conf = x[i].sigmoid().split((2, 2, self.nc + 1), 4)
                xy = (xy * 2 + self.grid[i]) * self.stride[i]
                wh = (wh * 2) ** 2 * self.anchor_grid[i]
                z.append(torch.cat((xy, wh, conf), 4).view(bs, self.na * nx * ny, self.no))
        return x if self.training else (torch.cat(z, 1), x)

    def _make_grid(self, nx, ny, i):
        d, t, shape = self.anchors[i].device, self.anchors[i].dtype, (1, self.na, ny, nx, 2)
        yv, xv = torch.meshgrid(torch.arange(ny, device=d, dtype=t), torch.arange(nx, device=d, dtype=t), indexing="ij")
        grid = torch.stack((xv, yv), 2).expand(shape) - 0.5
        return grid, (self.anchors[i] * self.stride[i]).view((1, self.na, 1, 1, 2)).expand(shape)

class DetectionModel(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [(-1, Conv(3, 8, 3, 2)), (-1, Conv(8, 16, 3, 2)), (-1, C3(16, 16)), (-1, Conv(16, 32, 3, 2)), (-1, C3(32, 32, 2)),
                  (-1, SPPF(32, 32)), (-1, Conv(32, 16)), (-1, nn.Upsample(None, 2, "nearest")), ([-1, 2], Concat()),
                  (-1, C3(32, 16, 1, False)), (-1, Conv(16, 16, 3, 2)), ([-1, 6], Concat()), (-1, C3(32, 32, 1, False)),
                  ([9, 12], Detect(3, [[10, 13, 16, 30], [33, 23, 30, 61]], (16, 32)))]
        for i, (f, m) in enumerate(layers):
            m.i, m.f, m.type = i, f, type(m).__name__
        self.model, self.save = nn.Sequential(*(m for _, m in layers)), [2, 6, 9, 12]
        self.stride = self.model[-1].stride = torch.tensor([4.0, 8.0])
        self.names, self.yaml, self.inplace = ["a", "b", "c"], {"nc": 3}, True

    def forward(self, x, augment=False, profile=False, visualize=False):
        y = []
        for m in self.model:
            if m.f != -1:
                x = y[m.f] if isinstance(m.f, int) else [x if j == -1 else y[j] for j in m.f]
            x = m(x)
            y.append(x if m.i in self.save else None)
        return x
"""
ENTRY = """
import torch
inputs = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),)
"""


@contextmanager
def repository(folder: Path) -> Iterator[ModuleType]:
    """The repository's sources in a folder that is on the import path while the block runs; its module `models.yolo`."""
    package = folder / "models"
    package.mkdir()
    for name, source in (("__init__", ""), ("common", COMMON), ("yolo", YOLO)):
        (package / f"{name}.py").write_text(source)
    (folder / "entry.py").write_text(ENTRY)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    forget()
    try:
        yield importlib.import_module("models.yolo")
    finally:
        sys.path.remove(str(folder))
        forget()


def forget() -> None:
    """Have the repository's modules imported anew by the next one who names them."""
    for name in [name for name in sys.modules if name in ("models", "entry") or name.startswith("models.")]:
        del sys.modules[name]


def saved(yolo: ModuleType, file: Path) -> Path:
    """A checkpoint with a model that has run, at half precision."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = yolo.DetectionModel().train()
        for _ in range(3):
            model(torch.rand(4, 3, 64, 64))
        model.eval()(torch.rand(1, 3, 64, 64))
    torch.save({"epoch": -1, "model": yolo.DetectionModel().half(), "ema": model.half(), "optimizer": None}, file)
    return file
