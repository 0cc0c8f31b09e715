"""`python -m supervisor` is the `trustchain` command."""

from supervisor.cli import main

if __name__ == "__main__":
    main(prog_name="trustchain")
