"""Boards: what each one has, as data."""
