"""What the papers compare with: detectors of scikit-learn and PyOD, of patches, and autoencoders."""
