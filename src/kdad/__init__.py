"""Knowledge distillation for anomaly detection in images."""

__version__ = "0.1.0"
