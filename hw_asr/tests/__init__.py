"""Tests, run by python -m unittest discover."""

import faulthandler
import signal

# A shell starts background jobs with Ctrl-C ignored, and their children inherit it: the tests of Ctrl-C would hang.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The suite takes minutes. Whatever hangs is shown, and ends it.
faulthandler.dump_traceback_later(45 * 60, exit=True)
