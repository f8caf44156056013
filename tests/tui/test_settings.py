"""The config file: each invalid key is reported with its position and ignored; keys can be bound to other actions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.tui.helpers import until
from tui_pruner.cli.main import call
from tui_pruner.storage import paths
from tui_pruner.storage.settings import Config, Settings, parse_config, read_config, use_as_environment
from tui_pruner.tui.actions import keymap_of, use
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.opening import Opening


def test_settings_file_is_read():
    text = "theme: light\nascii: yes\ncalm: true\nimgsz: 320\nimages: 10\nvalidate_every_step: off\nkeymap:\n  apply: enter\n"
    config = parse_config(text, "config.yaml")
    assert config == Config(Settings("light", True, True, 320, 10, False, {"apply": "enter"}))


def test_missing_or_empty_settings_file_gives_the_defaults(tmp_path):
    assert read_config(tmp_path / "none.yaml") == Config()
    assert parse_config("# theme: light\n", "config.yaml") == Config()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("theme: light\nimgsz: [3\nimages: 4", "config.yaml line 3: "),
        ("- theme", "config.yaml line 1: expected `key: value` lines"),
        ("calm: true\ntheme: drak", "config.yaml line 2: theme: it should be 'dark', 'light', 'high-contrast' or 'ansi'"),
        ("calm: true\n\nimgsz: -3", "config.yaml line 3: imgsz: -3 is less than 1"),
        ("calm: true\nthmee: dark", "config.yaml line 2: no setting 'thmee', did you mean theme?"),
    ],
)
def test_invalid_setting_is_reported_with_its_line_and_the_rest_is_used(text, problem):
    config = parse_config(text, "config.yaml")
    assert len(config.problems) == 1 and config.problems[0].startswith(problem)
    assert config.settings == (Settings(calm=True) if text.startswith("calm") else Settings())


def test_unreadable_settings_file_is_reported(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"theme: \xff\xfe")
    assert "cannot be read" in read_config(tmp_path / "config.yaml").problems[0]


def test_flag_overrides_the_variable_and_the_variable_overrides_the_file(monkeypatch):
    for name in ("TUI_PRUNER_THEME", "TUI_PRUNER_ASCII", "TUI_PRUNER_CALM"):
        monkeypatch.delenv(name, raising=False)
    environment = {"TUI_PRUNER_THEME": "ansi"}
    monkeypatch.setattr("os.environ", environment)
    use_as_environment(Settings(theme="light", calm=True), theme=None, ascii=True, calm=False)
    assert environment == {"TUI_PRUNER_THEME": "ansi", "TUI_PRUNER_ASCII": "1", "TUI_PRUNER_CALM": "1"}
    use_as_environment(Settings(theme="light"), theme="dark")
    assert environment["TUI_PRUNER_THEME"] == "dark"


def test_two_actions_swap_their_keys_and_signs_count_as_key_names():
    keymap = keymap_of(ACTIONS, {"apply": "u", "undo": "a, ctrl+x", "filter": ["/", "U"]})
    assert keymap.problems == ()
    assert keymap.overrides == {"apply": "u", "undo": "a,ctrl+x", "filter": "slash,U"}
    assert {action.id: action.shown for action in keymap.actions if action.id in keymap.overrides} == {
        "apply": "u", "undo": "a ctrl+x", "filter": "/ U",
    }  # fmt: skip


def test_former_action_id_in_the_keymap_still_works():
    keymap = keymap_of(ACTIONS, {"station-1": "f7"})
    assert keymap.overrides == {"hop-1": "f7"} and not keymap.problems


def test_key_given_twice_to_one_action_counts_once():
    assert keymap_of(ACTIONS, {"apply": "A, A"}).overrides == {"apply": "A"}
    assert keymap_of(ACTIONS, {"apply": "w w"}).problems == ("keymap: w of apply is also for write: the default is used",)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"aply": "enter"}, "keymap: no action 'aply', did you mean apply? (see tui-pruner keys)"),
        ({"apply": "froop"}, "keymap: apply: no key 'froop': its default is used"),
        ({"apply": ""}, "keymap: apply: no key '': its default is used"),
        ({"apply": "w"}, "keymap: w of apply is also for write: the default is used"),
        ({"apply": "5"}, "keymap: 5 of apply is also for typing a ratio: the default is used"),
        ({"apply": "up"}, "keymap: up of apply is also for moving about: the default is used"),
        ({"apply": "W", "undo": "W"}, "keymap: W of apply is also for undo: the defaults are used"),
    ],
)
def test_invalid_key_is_reported_and_the_default_is_kept(wanted, problem):
    keymap = keymap_of(ACTIONS, wanted)
    assert keymap.problems == (problem,)
    assert keymap.actions == ACTIONS and keymap.overrides == {}


@pytest.fixture
def restore_default_keys() -> Iterator[None]:
    """The keys that are shown become the default ones again."""
    yield
    use(keymap_of(ACTIONS, {}))


@pytest.mark.usefixtures("restore_default_keys")
async def test_changed_keys_work_and_invalid_settings_are_reported_in_the_app(tiny_checkpoint):
    config = parse_config("keymap:\n  map: U\n  help: w\nimgzs: 3\nvalidate_every_step: no\n", "config.yaml")
    app = PrunerApp(Opening(str(tiny_checkpoint), imgsz=64), config)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: len(app._notifications) == 2, "the warnings")
        said = [notification.message for notification in app._notifications]
        assert any("did you mean imgsz" in line for line in said) and any("also for write" in line for line in said)
        await until(pilot, lambda: bool(app.screen.query("#map")), "the model")
        assert not app.screen.store.state.automatic
        await pilot.press("m")
        assert not app.screen.store.view.on_map
        await pilot.press("U")
        assert app.screen.store.view.on_map


def test_keys_command_lists_every_action_with_its_command_line(capfd):
    paths.config_file().parent.mkdir(parents=True, exist_ok=True)
    paths.config_file().write_text("keymap:\n  apply: A\n")
    try:
        assert call(["keys", "--json"]) == 0
        listed = {entry["id"]: entry for entry in json.loads(capfd.readouterr().out)["actions"]}
        assert call(["keys"]) == 0
        text = capfd.readouterr().out
    finally:
        paths.config_file().unlink()
    assert set(listed) == {action.id for action in ACTIONS}
    assert listed["apply"]["keys"] == ["A"] and listed["apply"]["headless"].startswith("tui-pruner prune MODEL")
    assert listed["quit"]["headless"] is None and all(entry["help"] and entry["title"] for entry in listed.values())
    assert all(action.id in text and action.help in text for action in ACTIONS)
