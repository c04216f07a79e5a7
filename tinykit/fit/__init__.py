"""Makes a choice of bits fit the engine that is really planned and linked."""
