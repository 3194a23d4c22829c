"""Palmier's generation beside transformers and llama.cpp: same weights, same threads, interleaved."""
