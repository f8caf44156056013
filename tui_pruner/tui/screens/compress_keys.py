"""The key that does everything at once: the recipe is shown, changed where somebody likes, and run in the background."""

from __future__ import annotations

from typing import Any

from tui_pruner.tui.screens.export_keys import ExportKeys


class CompressKeys(ExportKeys):
    """The steps so far are where a compression begins; what comes out of it is opened as the next stage."""

    def action_compress(self) -> None:
        """Show the recipe of a compression."""
        if self.refuses_unproved():
            return
        self.with_data(self._show_recipe, "Compress on")

    def _show_recipe(self) -> None:
        from tui_pruner.tui.screens.recipe import Recipe

        if self.board is None:
            return
        begins = f"{self.as_it_stands}: planned, cut and proved, refitted, fine-tuned, each validated. A killed one goes on in its folder."
        folder = self.opening.output.with_name(f"{self.opening.output.stem}-compressed".replace("-pruned", ""))
        self.app.push_screen(Recipe(begins, str(folder)), self._take_recipe)

    def _take_recipe(self, wishes: dict[str, Any] | None) -> None:
        from tui_pruner.tui.compressions import compression

        if not wishes or self.board is None or self.subject is None:
            return
        wanted = compression(self.subject, self.board.session, wishes, self._ranked_by, self.board.asked.round_to, self._offer_stage)
        self.queue(wanted, "every stage follows, and is kept", "this compression waits or runs already")
