"""Writers of the files that a firmware project takes: pure functions from values to text or bytes."""
