"""Training: one loop, one file of formulas, one file a stage."""
