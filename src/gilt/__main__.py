"""`python -m gilt` is the command `gilt`."""
from gilt.cli import main

main()
