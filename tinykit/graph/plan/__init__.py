"""The memory planner: one static arena, operator order, in-place execution, overlap of a layer's input and output."""
