"""Architecture search under the budget of a board: see docs/search.md."""
