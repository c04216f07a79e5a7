"""Configuration: the schema, YAML with line numbers, overrides, and lookup by name. Imports no TensorFlow."""
