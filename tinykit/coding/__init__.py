"""Lossless codings of integer weights: bitmap, look-up table, canonical Huffman and rANS, and what they are combined into."""
