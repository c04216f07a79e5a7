"""Steps: one file a method, Keras model in, Keras model out. Nothing here imports TensorFlow before a step runs."""
