"""`python -m featcore` is the command `featcore`."""

from featcore.cli import main

if __name__ == "__main__":
    main()
