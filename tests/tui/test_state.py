"""The parts that hold state: only the newest request runs, crashes are counted, metrics find their step again."""

import asyncio
import codecs
from types import SimpleNamespace

from tui_pruner.domain.results import short_metric
from tui_pruner.tui.actions import GROUPS
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.engine_session import NewestOnly, RestartLimit
from tui_pruner.tui.panes.bars import footer_lines
from tui_pruner.tui.screens.help import help_lines
from tui_pruner.tui.state import Store, ViewState
from tui_pruner.tui.terminal import ForgivingDecoder
from tui_pruner.tui.timeline import StepMetrics, plan_key, step_keys


async def test_held_key_sends_only_the_first_and_the_last_request():
    asked, release = [], asyncio.Event()

    async def work(item):
        asked.append(item)
        await release.wait()

    latest = NewestOnly(work, asked.append)
    latest.submit(1)
    await asyncio.sleep(0)
    for item in range(2, 60):
        latest.submit(item)
    release.set()
    while len(asked) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert asked == [1, 59]


def test_observer_is_called_only_for_the_part_it_reads_and_while_it_is_shown():
    store = Store(SimpleNamespace(pending=1), ViewState())
    heard: list[str] = []
    store.observe(("pending",), lambda: heard.append("all"))
    store.observe(("pending",), lambda: heard.append("parity"), part=lambda: store.state.pending % 2)
    store.observe(("pending", "on_map"), lambda: heard.append("map"), only_while="on_map")
    store.update(pending=3)
    store.update(pending=5)
    assert heard == ["all", "parity", "all"]
    store.update(pending=6, on_map=True)
    assert heard[3:] == ["all", "parity", "map"]
    store.redraw()
    assert heard[6:] == ["all", "parity", "map"]


def test_fifth_crash_in_three_minutes_is_not_restarted():
    restarts = RestartLimit()
    assert [restarts.allows(now) for now in (0, 10, 20, 30, 40)] == [True, True, True, True, False]


def test_old_crashes_are_forgotten():
    restarts = RestartLimit()
    assert all(restarts.allows(now) for now in range(0, 2000, 50))


def session(*names, later=()):
    steps, ahead = ([{"name": "", "cuts": [name]} for name in some] for some in (names, later))
    return SimpleNamespace(steps=steps, plan={"steps": steps}, later=ahead)


def test_metric_is_found_again_for_its_step_after_undo_and_redo():
    scores = StepMetrics()
    scores.put("", {"metrics/mAP50-95(B)": 0.512})
    scores.follow(session("a"))
    scores.put(scores.keys[1], {"metrics/mAP50-95(B)": 0.498})
    scores.follow(session(later=["a"]))
    assert (scores.baseline, scores.latest, scores.of_step(1)) == (0.512, None, 0.498)
    scores.follow(session("a"))
    assert scores.latest == 0.498
    scores.follow(session("another"))
    assert scores.latest is None


def test_renamed_step_keeps_its_metric():
    steps = [{"name": "", "cuts": ["a"]}, {"name": "", "cuts": ["b"]}]
    named = [{**steps[0], "name": "first"}, steps[1]]
    assert step_keys(named) == step_keys(steps)
    assert plan_key({"steps": steps}) == step_keys(steps)[2] != step_keys(steps[1:])[1]
    assert plan_key(None) == plan_key({"steps": []}) == step_keys([])[0]


def test_each_task_has_its_main_metric():
    assert short_metric({"metrics/mAP50(B)": 0.8, "metrics/mAP50-95(B)": 0.5}) == ("mAP", 0.5)
    assert short_metric({"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(M)": 0.4}) == ("mask mAP", 0.4)
    assert short_metric({"metrics/accuracy_top1": 0.9}) == ("top-1", 0.9)
    assert short_metric({"fitness": 0.9}) is None


def test_stray_mouse_bytes_are_dropped_and_text_split_between_reads_survives():
    decoder = ForgivingDecoder()
    assert decoder.decode(b"a\x1b[M \xf0\xe9b\xff") == "ab\ufffd"
    assert decoder.decode("é".encode()[:1]) + decoder.decode("é".encode()[1:]) == "é"
    assert isinstance(decoder, codecs.IncrementalDecoder)


def test_help_contains_every_action_with_its_description():
    helped = " ".join(" ".join(line.plain for line in help_lines([(action, "") for action in ACTIONS], 200)).split())
    for action in ACTIONS:
        assert action.group in GROUPS
        assert " ".join(action.help.split()) in helped


def test_keys_are_bound_once_and_are_free_in_tmux_and_shells():
    keys = [key for action in ACTIONS if action.keys and not action.pane for key in action.keys.split(",")]
    assert len(keys) == len(set(keys))
    in_panes = [(action.pane, key) for action in ACTIONS if action.pane for key in action.keys.split(",")]
    assert len(in_panes) == len(set(in_panes))
    assert not {"ctrl+a", "ctrl+b", "ctrl+enter", "ctrl+c", "ctrl+s"} & set(keys)
    assert not [key for key in keys if "shift" in key]


def test_footer_fits_and_help_and_quit_are_omitted_last():
    for width in (60, 80, 120, 200):
        text = footer_lines(ACTIONS, width, 1, "12 layers marked")[0]
        assert text.cell_len <= width
        assert "? help" in text.plain and "q quit" in text.plain
    assert "filter" in footer_lines(ACTIONS, 200, 1)[0].plain and "tab pane" in footer_lines(ACTIONS, 80, 1)[0].plain
