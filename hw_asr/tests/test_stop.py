"""Two signals during one long call into a library end the process, which Python's own handlers would not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import unittest

from hw_asr.training.stop import StopRequest

LONG_CALL = """
import hashlib
from hw_asr.training.stop import StopRequest

with StopRequest(announce=False).listening() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)  # minutes, without the GIL
    print("finished")
"""


class StopTest(unittest.TestCase):
    @unittest.skipUnless(os.name == "posix", "signals of POSIX")
    def test_two_signals_during_a_long_call(self) -> None:
        with subprocess.Popen([sys.executable, "-c", LONG_CALL], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "ready\n")
            for number in (signal.SIGINT, signal.SIGTERM):  # two of one kind may reach a process as one
                process.send_signal(number)
            self.assertEqual(process.stdout.read(), "")
            self.assertIn(process.wait(), (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM))

    def test_nothing_is_left_after_a_run_without_signals(self) -> None:
        threads, descriptor = threading.active_count(), signal.set_wakeup_fd(-1)
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        signal.set_wakeup_fd(descriptor)
        with StopRequest(announce=False).listening():
            watch = next(thread for thread in threading.enumerate() if thread.name == "signal watch")
        watch.join()
        self.assertEqual(threading.active_count(), threads)
        self.assertEqual(signal.set_wakeup_fd(descriptor), descriptor)
        self.assertEqual([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], handlers)


if __name__ == "__main__":
    unittest.main()
