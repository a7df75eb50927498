"""Every system as one noun, the detector."""
