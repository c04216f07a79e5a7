"""Recipes: the step protocol, the registry of steps, the runner, and the run directory."""
