"""`python -m hw_asr COMMAND ...` is `hw-asr COMMAND ...`."""

from hw_asr.cli.main import console

if __name__ == "__main__":
    console()
