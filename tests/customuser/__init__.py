"""User models that sites have, to sign in to. A model can't be swapped in a running process: see walk.py."""
