"""The whole loop on a small world made here, with its gold judge and simulated volunteers."""
