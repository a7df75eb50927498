"""From activations to detection scores and anomaly maps."""
