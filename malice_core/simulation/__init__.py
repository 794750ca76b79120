"""The simulated landscape and how the sensors see it; ``malice_core.simulate`` writes it as images."""
