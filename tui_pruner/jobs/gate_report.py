"""A gate's verdict for machines and people that read neither our JSON nor our terminal: JUnit XML, and Markdown for a pull request."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tui_pruner.engine.gate_messages import GateLatency, GateMetric, GateResult
from tui_pruner.jobs.gate import short
from tui_pruner.printable import printable

SUITE = "tui-pruner gate"
PASSED = {"yes": "passed", "no": "failed"}


def junit(result: GateResult) -> bytes:
    """Return a JUnit document: a test case for each thing that was judged, failed where it was too much."""
    judged: list[tuple[str, GateMetric | GateLatency]] = [
        (f"{short(one.name)} falls by at most {one.allowed:g}", one) for one in result.metrics
    ]
    if result.latency:
        judged.append((f"latency at most {result.latency.allowed:g} of the original's", result.latency))
    failures = str(sum(not one.ok for _, one in judged))
    counts = {"tests": str(len(judged)), "failures": failures, "errors": "0", "skipped": "0", "time": f"{result.seconds:.3f}"}
    suites = Element("testsuites", {"name": SUITE, **counts})
    suite = SubElement(suites, "testsuite", {"name": clean(f"{SUITE}: {result.pruned} against {result.original}"), **counts})
    properties = SubElement(suite, "properties")
    for name, value in facts(result):
        SubElement(properties, "property", {"name": name, "value": clean(value)})
    for (name, one), reason in zip(judged, result.reasons, strict=True):
        case = SubElement(suite, "testcase", {"classname": "tui_pruner.gate", "name": clean(name), "time": f"{result.seconds:.3f}"})
        if not one.ok:
            SubElement(case, "failure", {"message": clean(reason), "type": "gate"}).text = clean(result.rule)
        SubElement(case, "system-out").text = clean(reason)
    indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suites, encoding="unicode")}\n'.encode()


def facts(result: GateResult) -> list[tuple[str, str]]:
    """Return what the verdict rests on, by names."""
    return [
        ("verdict", result.verdict),
        ("certain", str(result.certain).lower()),
        ("images", str(result.images)),
        ("original", result.original),
        ("pruned", result.pruned),
        ("original_parameters", str(result.original_parameters)),
        ("pruned_parameters", str(result.pruned_parameters)),
    ]


def markdown(result: GateResult) -> str:
    """Return a summary to put under a pull request."""
    share = (result.pruned_parameters - result.original_parameters) / max(1, result.original_parameters)
    lines = [
        f"## Pruning gate {PASSED[result.verdict]}{'' if result.certain else ', but not certain'}",
        "",
        f"`{cell(result.pruned)}` against `{cell(result.original)}`: {result.pruned_parameters:,} of {result.original_parameters:,} "
        f"parameters ({100 * share:+.1f} %), {result.images} images.",
        "",
        "| | original | pruned | change | 95 % interval | allowed | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {cell(short(one.name))} | {one.original:.4f} | {one.pruned:.4f} | {-one.drop:+.4f} | {-one.high:+.4f} to {-one.low:+.4f} "
            f"| {-one.allowed:+.4f} | {word(one)} |"
            for one in result.metrics
        ),
    ]
    if result.latency:
        one = result.latency
        lines.append(
            f"| latency on {cell(one.device)}, ms | {one.original_ms:.2f} | {one.pruned_ms:.2f} | x{one.ratio:.3f} "
            f"| x{one.low:.3f} to x{one.high:.3f} | x{one.allowed:.3f} | {word(one)} |"
        )
    lines += ["", result.rule]
    if more := advice(result):
        lines += ["", more]
    return "\n".join(lines) + "\n"


def word(one: GateMetric | GateLatency) -> str:
    """Return a judgement in one word or two."""
    return f"{'ok' if one.ok else '**no**'}{'' if one.certain else ', not certain'}"


def advice(result: GateResult) -> str:
    """Return what would make an uncertain verdict certain; empty where nothing is to be said."""
    if result.certain or result.images_needed is None or result.images_needed <= result.images:
        return ""
    return f"About {result.images_needed:,} images would settle it in place of {result.images}."


def cell(text: str) -> str:
    """Return text that a Markdown table and a code span survive."""
    return clean(text).replace("|", "\\|").replace("`", "'")


def clean(text: str) -> str:
    """Return text without what neither XML nor a line can hold."""
    return " ".join(printable(text).split())
