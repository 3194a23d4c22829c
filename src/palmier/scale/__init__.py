"""The machine: devices, dtypes, threads and seeds."""
