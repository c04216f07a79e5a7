"""Runs a .tflite in somebody else's interpreter and counts where the integer graph disagrees with it."""
