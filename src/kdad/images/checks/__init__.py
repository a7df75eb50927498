"""What is said of an image set before anything is trained on it."""
