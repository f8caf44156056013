"""`python -m tests.coverage_any.report [--cached] [WORD...]`: cut and prove the networks of torchvision and timm as any modules.

Each in a child process with a deadline and limited memory. What is found out is kept in build/ network by network, so that a run that was
broken off goes on where it was; `--cached` writes docs/coverage-any.md from what is there; words choose the networks that have one in
their names. What earlier versions measured is on the page until it is measured anew. Status 1 where a cut is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.bench.sandbox import ROOT
from tests.coverage.tables import table
from tests.coverage_any.networks import PublicNetwork, networks
from tests.coverage_any.ours import ALONE, SECONDS
from tests.coverage_any.results import LIBRARIES, MEMORY, Result, installed, keep, known, measured_now, state
from tests.coverage_any.theirs import SECONDS as THEIR_SECONDS

DOCUMENT = ROOT / "docs" / "coverage-any.md"
HEADINGS = ["network", "side", "channels", "can be cut", "share", "alone", "at once", "open", "proofs", "theirs: groups", "right", "wrong",
            "broken"]  # fmt: skip
MOST_LOCKS = 12


def verdicts(found: Result) -> list[Result]:
    """The verdicts on all cuts of a network."""
    return [*found.get("alone", ()), *([found["together"]] if "together" in found else ())]


def is_proved(verdict: Result) -> bool:
    """Whether both proofs call a cut equal."""
    return bool(verdict["ours"] == "equal" and verdict["twin"] == "equal")


def is_wrong(verdict: Result) -> bool:
    """Whether the program calls equal what its twin does not, where that had memory enough."""
    return bool(verdict["ours"] == "equal" and verdict["twin"] not in ("equal", "no effect", "out of memory"))


def is_whole(found: Result) -> bool:
    """Whether a network was opened and all its cuts, of which there is one at least, are proved."""
    return found["how"] == "done" and bool(verdicts(found)) and all(is_proved(one) for one in verdicts(found))


def our_line(network: PublicNetwork, found: Result, their: Result | None) -> list[object]:
    """A network's line in the table."""
    alone = found.get("alone", [])
    together = found.get("together")
    return [
        network.name,
        found["side"],
        found["channels"],
        found["free_channels"],
        share(found["free_channels"], found["channels"]),
        f"{sum(is_proved(one) for one in alone)} of {len(alone)}" if alone else found["how"],
        ("equal" if is_proved(together) else f"{together['ours']}, twin {together['twin']}") if together else "",
        f"{found['open_seconds']:.1f} s",
        f"{found['proof_seconds']:.0f} s" if "proof_seconds" in found else "",
        *their_cells(their),
    ]


def their_cells(their: Result | None) -> list[object]:
    """What torch-pruning makes of it."""
    if their is None:
        return ["not measured", "", "", ""]
    if "groups" not in their or "outcomes" not in their:
        return [their.get("groups", ""), their["how"], "", ""]
    return [their["groups"], *(their["outcomes"].get(name, 0) for name in ("right", "wrong", "broken"))]


def share(part: int, whole: int) -> str:
    """In percent."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def section(kind: str, wanted: Sequence[PublicNetwork], results: dict[tuple[str, str], Result]) -> str:
    """The table of one source, and what came of it in a sentence."""
    mine = [network for network in wanted if network.kind == kind]
    done = [(network, results["ours", network.key]) for network in mine if ("ours", network.key) in results]
    opened = [(network, found) for network, found in done if "channels" in found]
    whole = sum(is_whole(found) for _, found in done)
    cuts = [one for _, found in done for one in verdicts(found)]
    free, channels = (sum(found[key] for _, found in opened) for key in ("free_channels", "channels"))
    missing = [network.name for network in mine if ("ours", network.key) not in results]
    lines = [our_line(network, found, results.get(("theirs", network.key))) for network, found in opened]
    failed = [f"- {network.name}: {found['how']}{': ' if found['words'] else ''}{found['words']}" for network, found in done
              if "channels" not in found]  # fmt: skip
    said = (
        f"{len(done)} of {len(mine)} measured; {whole} with every cut proved twice; {sum(map(is_proved, cuts))} of {len(cuts)} cuts "
        f"proved twice, {sum(map(is_wrong, cuts))} wrongly called equal; {share(free, channels) or 'no share'} of the channels can be cut."
    )
    parts = [f"## {kind.capitalize()}", said, table(HEADINGS, lines) if lines else ""]
    if failed:
        parts += ["Could not be opened:", "\n".join(failed)]
    if missing:
        parts.append(f"Not run: {', '.join(missing)}.")
    return "\n\n".join(part for part in parts if part)


def locks_of(results: dict[tuple[str, str], Result]) -> str:
    """Why channels cannot be cut: reasons by channels."""
    reasons: dict[str, dict[str, int]] = {}
    for (child, network), found in results.items():
        for reason, channels in found.get("locked", {}).items() if child == "ours" else ():
            by = reasons.setdefault(reason.partition(": ")[0], {})
            by[network] = by.get(network, 0) + channels
    ordered = sorted(reasons.items(), key=lambda item: -sum(item[1].values()))[:MOST_LOCKS]
    return table(["reason", "channels", "networks"], [[reason, sum(by.values()), len(by)] for reason, by in ordered])


def problems(results: dict[tuple[str, str], Result]) -> list[str]:
    """Cuts that are not proved twice, and operations without a rule, a line each."""
    lines = []
    for (child, network), found in results.items():
        if child != "ours":
            continue
        for one in verdicts(found):
            if not is_proved(one):
                lines.append(f"- {network}: {one['ours']}, twin {one['twin']}: {one['says'] or 'no output of evaluation moves'}")
        lines += [f"- {network}: no rule for {name} ({times} times)" for name, times in found.get("unknown", {}).items()]
    return list(dict.fromkeys(lines))


def document(wanted: Sequence[PublicNetwork], results: dict[tuple[str, str], Result]) -> str:
    """The whole page."""
    libraries = ", ".join(f"{name} {installed(name)}" for name in LIBRARIES if installed(name) != "-")
    kinds = list(dict.fromkeys([*(network.kind for network in wanted), "timm"]))
    sections = "\n\n".join(section(kind, wanted, results) for kind in kinds if any(network.kind == kind for network in wanted))
    if not any(network.kind == "timm" for network in wanted):
        sections += "\n\n## Timm\n\nNot run: it is not installed here."
    wrong = problems(results)
    mine = [found for (child, _), found in results.items() if child == "ours"]
    now = sum(found["state"] == state("ours", found["network"]) for found in mine)
    told = sum("locked" in found for found in mine)
    return f"""# Coverage of any module

Networks with random weights, opened by `tui_pruner.open` with one image of the side in the table. Up to {ALONE} groups of channels, spread
over the network, are cut alone by a quarter, then all groups at once. Written by `make coverage-any`: each network in a process of its own
with {SECONDS} CPU seconds and {MEMORY["ours"] >> 30} GiB of address space. {libraries}.

- **Two proofs.** Each cut is proved by the program, and again by an independent twin in float64, which gets only the list of kept indices.
  The twin must agree to 1e-9; in a network that amplifies rounding errors, to what a relative change of the image by 1e-15 causes (1e-6 at
  most). "No effect": no output in evaluation mode depends on the cut.
- **Channels** are counted where a layer writes them, coupled ones once, without the network's outputs.
- **Detectors** are traced up to the predictions of all heads, with fixed proposals where the head needs some. The selection of boxes by
  their values is not traced; it reads no channels.
- `open` and `proofs` are CPU seconds.
- **Theirs** is torch-pruning's own tracer on the same network with {THEIR_SECONDS} CPU seconds and {MEMORY["theirs"] >> 30} GiB. Up to
  {ALONE} of its groups are cut alone by a quarter by its own functions: right, wrong (runs, but differs from its masked twin), broken
  (cannot be cut, or does not run).

{sections}

{now} of these {len(mine)} networks were measured with this version of the program, the others with earlier ones.

## What is locked, and why

In the {told} networks for which the reasons were recorded.

{locks_of(results)}

## Cuts without two proofs, and operations without a rule

{chr(10).join(wrong) if wrong else "Nothing that was tried."}
"""


def main(arguments: Sequence[str]) -> int:
    """Measure what is not known yet, and write the page after each network."""
    words = [word for word in arguments if not word.startswith("--")]
    results = known()
    every = list(dict.fromkeys([*networks(), *(PublicNetwork(*key.split("/", 1)) for child, key in results if child == "ours")]))
    for child in ("ours", "theirs") if "--cached" not in arguments else ():
        for network in every:
            if words and not any(word in network.key for word in words):
                continue
            if results.get((child, network.key), {}).get("state") == state(child, network.key):
                continue
            results[child, network.key] = measured_now(child, network.key)
    DOCUMENT.write_text(document(every, results), encoding="utf-8")
    keep(results)
    print(DOCUMENT)
    wrong = any(is_wrong(one) for (child, _), found in results.items() if child == "ours" for one in verdicts(found))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
