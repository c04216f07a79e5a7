"""Smaller Keras models of Keras models: channels that belong together, networks without some of them, layers as chains, teachers."""
