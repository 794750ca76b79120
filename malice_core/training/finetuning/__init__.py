"""Fine-tuning: labels and images of one's own or of PASTIS-R, heads, training, and the classifier that comes of it."""
