"""Models by name: what is here, what can be had, and the one place that turns a name into a folder."""
