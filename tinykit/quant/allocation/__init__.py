"""How many bits each weight and activation tensor gets: the memory-driven rule, and what it sees of a network."""
