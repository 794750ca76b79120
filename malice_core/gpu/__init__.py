"""The way over a GPU: its driver, memory on it, and encoding with maps that stay there."""
