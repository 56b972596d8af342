"""The command line. Each module declares the options of one command; what a command does is in `hw_asr.commands`."""
