"""Packages that a person opens, builds and flashes: pure functions from a network to the files of a folder, and their writer."""
