"""The project as a user sees it: parameters from files and the command line, exit codes, where output goes."""
