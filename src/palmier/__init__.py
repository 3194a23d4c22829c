"""Palmier: your own ChatGPT, from raw text to an assistant that people's rankings keep improving."""

__version__ = "0.1.0"
