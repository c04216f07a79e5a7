"""Smaller float networks: parts of a Keras model replaced by cheaper ones."""
