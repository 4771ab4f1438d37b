"""`python -m compose`: the same as the `fraudstream` command."""

from compose.cli import main

if __name__ == "__main__":
    main()
