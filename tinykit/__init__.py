"""tinykit: from a Keras model (or only a dataset and a board) to exact integer firmware for microcontrollers."""

__version__ = "0.1.0"
