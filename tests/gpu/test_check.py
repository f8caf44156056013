"""`make gpu-check` says in one line that no GPU exists, and fails where figures differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpu import check
from tests.gpu.alike import differences
from tests.gpu.device import Machine
from tests.gpu.workload import RUNS, Subject


def test_check_without_a_gpu_reports_it_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert check.main([str(tmp_path / "report.json")]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no GPU that torch ") and not list(tmp_path.iterdir())


def test_every_job_has_a_tolerance():
    assert check.ALLOWED.keys() == RUNS.keys()


@pytest.mark.parametrize("wrong", [False, True])
def test_report_lists_agreeing_and_differing_jobs(
    wrong: bool, gpus: Machine, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if wrong:
        monkeypatch.setattr(check, "function_of", worse_on_a_gpu)
    report = tmp_path / "report.json"
    assert check.check(report, names=["validate"], make=lambda folder: subject) == int(wrong)
    document = json.loads(report.read_text())
    (job,) = document["jobs"]
    assert (document["gpu"], document["gpus"]) == ("Pretended GPU", 2)
    assert job["peak_mib"] > 0.1 and job["seconds"].keys() == {"cpu", "cuda:0"} and job["compared"] == 4
    assert bool(job["differences"]) is wrong and (job["largest_difference"] < 1e-6) is not wrong
    assert ("look at validate" in capsys.readouterr().out) is wrong


def worse_on_a_gpu(kind: str):
    from tests.gpu.workload import function_of

    def doing(parameters, on_progress):
        result = function_of(kind)(parameters, on_progress)
        if parameters.device == "cpu":
            return result
        return result.model_copy(update={"metrics": {name: 0.8 * value for name, value in result.metrics.items()}})

    return doing


def test_job_that_fails_on_a_gpu_is_in_the_report(gpus: Machine, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    gpus.devices[0].total = 1000
    found = check.checked("validate", subject, "cuda:0", tmp_path)
    assert found["error"].startswith("on cuda:0: ") and "CUDA out of memory" in found["error"]


def test_differences_are_found_in_value_shape_name_and_nan():
    same = {"a": 1.0, "b": [1.0, 2.0], "c": "x"}
    assert differences(same, dict(same), 0.0) == []
    for wrong in ({"a": 1.1}, {"b": [1.0, 2.1]}, {"b": [1.0]}, {"c": "y"}, {"a": float("nan")}, {"d": 1.0}):
        assert len(differences(same, {**same, **wrong}, 0.01)) == 1, wrong
    assert differences({"a": 1.0}, {"a": 1.005}, 0.01) == []
