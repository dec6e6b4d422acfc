"""`python -m bloomery`: the command line of this interpreter's own bloomery."""

from bloomery.cli.main import main

main()
