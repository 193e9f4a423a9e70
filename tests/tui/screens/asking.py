"""An app that shows one dialog and keeps what it was dismissed with."""

from __future__ import annotations

from textual.app import App

from tests.tui.keys import press as press_and_settle

PENDING = object()


class Asking(App):
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, dialog):
        super().__init__()
        self.dialog = dialog
        self.answer = PENDING

    def on_mount(self):
        self.push_screen(self.dialog, self.answered)

    def answered(self, answer):
        self.answer = answer

    @property
    def text(self):
        """Everything that the dialog says."""
        lines = self.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in lines)


async def press(dialog, *keys, size=(100, 30)):
    """What the dialog answers to some keys; PENDING when it is still there."""
    app = Asking(dialog)
    async with app.run_test(size=size) as pilot:
        await one_by_one(pilot, *keys)
        return app.answer


async def one_by_one(pilot, *keys):
    """Each key when the one before has done its work, as fingers would."""
    for key in keys:
        if pilot.app.answer is PENDING:
            await press_and_settle(pilot, key)
