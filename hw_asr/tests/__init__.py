"""Tests, run by python -m unittest discover."""

import atexit
import faulthandler
import os
import shutil
import signal
import tempfile

# A shell starts background jobs with Ctrl-C ignored, and their children inherit it: the tests of Ctrl-C would hang.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The suite takes minutes. Whatever hangs is shown, and ends it.
faulthandler.dump_traceback_later(45 * 60, exit=True)

# Training runs that the tests start are remembered here instead of in the user's state directory.
if "XDG_STATE_HOME" not in os.environ:
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="hw_asr-tests-state-")
    atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
