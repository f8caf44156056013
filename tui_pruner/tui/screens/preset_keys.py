"""The keys that ask many layers at once: gentle presets, a section's share, and one layer's ratio for those like it."""

from __future__ import annotations

from tui_pruner.errors import RequestError
from tui_pruner.tui.amounts import Asked, parse_amount
from tui_pruner.tui.figures import plural
from tui_pruner.tui.presets import Preset, presets
from tui_pruner.tui.screens.ratio_keys import RatioKeys
from tui_pruner.tui.similar import similar_layers


class PresetKeys(RatioKeys):
    """Ratios that nobody has to give layer by layer."""

    def action_presets(self) -> None:
        """Choose a preset; it replaces what is asked for."""
        from tui_pruner.tui.screens.chooser import Choice, Chooser

        if self.board is None:
            return
        found = {preset.name: preset for preset in presets(self.board.opened.blocks, self.board.marks)}
        choices = [Choice(preset.name, preset.name, preset.meaning) for preset in found.values()]
        text = "Remove the same share of many layers, in place of what is asked for now. Locked layers stay."
        self.app.push_screen(Chooser("Gentle cuts", text, choices), lambda name: self._take_preset(found.get(name or "")))

    def action_copy_ratio(self) -> None:
        """Give the ratio of the layer under the cursor to the layers of the same name in other blocks, and mark them."""
        board, row = self.board, self.model_tree.row
        layer = row.layer if row is not None else None
        if board is None or layer is None:
            self.say("choose a layer whose ratio is to be copied", "warning")
            return
        amount = board.asked.amounts.get(layer.name)
        alike = similar_layers(board.opened.blocks, layer.name)
        if amount is None or not alike:
            self.say(f"{layer.name} has no ratio to copy" if amount is None else f"no other layer is like {layer.name}", "warning")
            return
        percent = amount.percent_of(board.widths([layer.name])[layer.name])
        board.marks = {layer.name, *alike}
        self._ask_share(board.asked, alike, percent)
        self.draw_footer()

    def _take_preset(self, preset: Preset | None) -> None:
        if preset is None or self.board is None:
            return
        if preset.percent is not None:
            self._ask_share(self.board.asked.cleared, preset.layers, preset.percent)
            return
        self.type_amount(f"Remove % of {plural(len(preset.layers), f'{preset.name} layer')}", lambda text: self._typed_share(preset, text))

    def _typed_share(self, preset: Preset, text: str) -> Asked | None:
        amount = parse_amount(text)
        if self.board is None or amount is None:
            return None
        if amount.percent is None:
            what = "drops whole blocks" if amount.drops else "is one width for layers of many widths"
            raise RequestError(f"{text.strip()} {what}: type a share")
        return self.share_out(self.board.asked.cleared, preset.layers, amount.percent)

    def _ask_share(self, asked: Asked, names: list[str] | tuple[str, ...], percent: int) -> None:
        try:
            self.ask(self.share_out(asked, names, percent))
        except RequestError as error:
            self.say(str(error), "warning")
