"""The hardware loop: flash a board, or emulate one, talk to it through a serial port, compare and measure."""
