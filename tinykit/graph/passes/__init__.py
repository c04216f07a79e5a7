"""The simplifier's passes: value ranges of channels, constant and unread channels, no-ops."""
