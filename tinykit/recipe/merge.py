"""Nested mappings."""

from typing import Any


def merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    """Lays `changes` over `base`, in place; mappings are merged key by key."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value
