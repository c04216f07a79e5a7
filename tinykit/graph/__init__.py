"""The integer graph: the single truth between training and silicon. NumPy only: neither TensorFlow nor TFLM is imported here."""
