"""What the tools on embeddings share: reading embeddings window by window, sampling them, and writing results."""
