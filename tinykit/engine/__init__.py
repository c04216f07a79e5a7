"""The C generator: an integer graph and a memory plan become C99 that computes the same bytes on every core."""
