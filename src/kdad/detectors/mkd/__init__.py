"""MKD: a small cloner learns a frozen source's activations of normal images (Salehi et al., CVPR 2021)."""
