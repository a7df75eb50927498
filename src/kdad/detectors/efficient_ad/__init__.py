"""EfficientAD: one student, hard features, a penalty on natural images and an autoencoder (Batzner et al. 2024)."""
