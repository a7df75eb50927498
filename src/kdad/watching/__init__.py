"""Files that arrive in a folder, in their order, and a journal of which of them are done."""
