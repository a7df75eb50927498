"""The papers' printed tables with our figures beside them."""
