"""Integer-exact quantisation: Keras layers whose forward pass is the arithmetic that the board will do."""
