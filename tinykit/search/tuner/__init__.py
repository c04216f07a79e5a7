"""Hyperparameters and options of a recipe, searched under the budget of a board: see docs/tuning.md."""
