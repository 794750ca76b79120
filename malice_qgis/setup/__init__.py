"""The engine's set-up: finds a Python, builds an environment beside the old one, tries it, and only then takes it."""
