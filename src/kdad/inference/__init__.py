"""Images that a detector has never seen: which are new, which were predicted, what a watch says of them."""
