"""The network: configuration, layers, key/value cache, heads and its folder on disk."""
