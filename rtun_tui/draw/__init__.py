"""Drawing: pure functions from what is known and how it shall look to lines of styled text."""
