"""Small pictures of rotated rectangles, and where they are: all that labels of any task can be made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 96
COLOURS = ((220, 60, 40), (40, 180, 70), (50, 80, 220))
BACKGROUND = 115


@dataclass(frozen=True)
class Rectangle:
    """One object: its class, its four corners in order (4, 2), in pixels, and how many metres away it is."""

    kind: int
    corners: NDArray[np.float64]
    metres: float

    @property
    def polygon(self) -> list[tuple[float, float]]:
        """The corners as Pillow draws them."""
        return [(x, y) for x, y in self.corners.tolist()]

    def outline(self, points: int) -> NDArray[np.float64]:
        """That many points along the sides, (points, 2)."""
        places = np.linspace(0, 4, points, endpoint=False)
        side, along = places.astype(int), (places % 1)[:, None]
        return self.corners[side] * (1 - along) + self.corners[(side + 1) % 4] * along


@dataclass(frozen=True)
class Scene:
    """A picture and its objects."""

    image: Image.Image
    rectangles: tuple[Rectangle, ...]


def draw_scene(number: int, kinds: tuple[int, ...] = (0, 1, 2)) -> Scene:
    """The scene of that number, always the same: one rectangle of every kind on noise."""
    random = np.random.default_rng(number)
    noise = random.normal(BACKGROUND, 25, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise)
    rectangles = tuple(draw_rectangle(random, kind) for kind in kinds)
    brush = ImageDraw.Draw(image)
    for rectangle in rectangles:
        brush.polygon(rectangle.polygon, fill=COLOURS[rectangle.kind])
    return Scene(image, rectangles)


def draw_rectangle(random: np.random.Generator, kind: int) -> Rectangle:
    """Somewhere wholly in the picture, turned by any angle."""
    centre = random.uniform(0.3, 0.7, 2) * SIDE
    half = random.uniform(0.1, 0.2, 2) * SIDE
    angle = random.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return Rectangle(kind, corners @ turn + centre, metres=float(random.uniform(2, 8)))
