"""Two-stage search: a space is chosen, then architectures evolve in it. See docs/search.md."""
