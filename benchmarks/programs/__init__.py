"""One file a program: load it, run a task, say how long it took."""
