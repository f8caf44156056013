"""What is told about each pane: its title, how one moves in it, and which actions of the whole workbench matter most there."""

from __future__ import annotations

from collections.abc import Mapping

TREE, MAP, DETAIL, PATH, STEPS, ALL_JOBS = "tree", "map", "detail", "path", "steps", "all-jobs"
TITLES: Mapping[str, str] = {
    TREE: "The model",
    MAP: "The map",
    DETAIL: "The detail",
    PATH: "The explanation",
    STEPS: "The steps",
    ALL_JOBS: "The background jobs",
}
MOVES: Mapping[str, tuple[tuple[str, str], ...]] = {
    TREE: (("up down", "Go to the row above or below."), ("home end", "Go to the first or the last row.")),
    MAP: (("arrows", "Go to the block beside, above or below."), ("enter", "Show the block under the cursor in the tree.")),
    DETAIL: (("up down", "Scroll."),),
    PATH: (("up down", "Go from stop to stop of the explanation."),),
}
PANE_WORDS: Mapping[str, Mapping[str, str]] = {
    MAP: {"map": "tree"},
    DETAIL: {"explain": "explain", "path_to": "path to"},
    PATH: {"station(1)": "next stop", "path_to": "path to", "map": "map", "back": "back"},
    STEPS: {"all_jobs": "jobs"},
}
