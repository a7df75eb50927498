"""Sets with a layout of their own: CIFAR-10, MNIST, digits, ELPV."""
